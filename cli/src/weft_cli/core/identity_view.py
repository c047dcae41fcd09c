"""How certificates, anchors and rotations read: rows and JSON from what the identity service says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from google.protobuf.timestamp_pb2 import Timestamp
from weft_proto.weft import identity_pb2 as pb

from weft_cli.core.tables import UNKNOWN, Table

SHOWN_ID: Final = 12
# Proxies renew at 70 % of what is left; one that has let half of the rest pass fails to.
OVERDUE_SHARE: Final = 0.85
# Where it is in the life of a rotation, for people.
STAGES: Final = {
    "PUBLISH": "publishing old and new anchors",
    "TRUST": "waiting until every live proxy trusts both",
    "SWITCH": "switching the issuer",
    "RENEW": "waiting until every live certificate is the new issuer's",
    "DROP": "dropping what is no longer needed",
    "DONE": "done",
}


@dataclass(frozen=True, slots=True)
class Anchor:
    """A CA certificate as people compare it. id: SHA-256, hexadecimal."""

    id: str
    name: str
    not_after: datetime


def anchors_from_pem(pem: str) -> list[Anchor]:
    """In the order of the text; empty text gives none."""
    if not pem.strip():
        return []
    found = x509.load_pem_x509_certificates(pem.encode())
    return [
        Anchor(c.fingerprint(hashes.SHA256()).hex(), c.subject.rfc4514_string(), c.not_valid_after_utc) for c in found
    ]


def certificates_table(certificates: Sequence[pb.Certificate], now: datetime) -> Table:
    """One row each, in the given order."""
    header = ("IDENTITY", "NAMESPACE", "POD", "EXPIRES IN", "ISSUER", "TRUSTS", "PROXY")
    rows = [
        (
            c.identity.partition(".serviceaccount.")[0],
            c.namespace or UNKNOWN,
            c.pod or UNKNOWN,
            _left(c, now) + (" (overdue)" if is_overdue(c, now) else ""),
            c.issuer_id[:SHOWN_ID] or UNKNOWN,
            ",".join(i[:SHOWN_ID] for i in c.trusted_anchors) or "not reported",
            c.proxy or UNKNOWN,
        )
        for c in certificates
    ]
    return Table(header, tuple(rows), left=len(header))


def certificate_text(certificate: pb.Certificate, now: datetime) -> str:
    """Everything about one, a line each."""
    fields = {**certificate_json(certificate), "expires in": _left(certificate, now)}
    width = max(len(name) for name in fields)
    lines = [
        f"{name.replace('_', ' '):<{width}}  {', '.join(value) if isinstance(value, list) else value or UNKNOWN}"
        for name, value in fields.items()
    ]
    return "\n".join(lines) + "\n"


def certificate_json(certificate: pb.Certificate) -> dict[str, Any]:
    """Times are RFC 3339 UTC, null when not known."""
    return {
        "identity": certificate.identity,
        "namespace": certificate.namespace,
        "pod": certificate.pod,
        "pod_uid": certificate.pod_uid,
        "serial": certificate.serial,
        "issuer_id": certificate.issuer_id,
        "issuer_key_id": certificate.issuer_key_id,
        "anchor_id": certificate.anchor_id,
        "not_before": _time(certificate, "not_before"),
        "not_after": _time(certificate, "not_after"),
        "issued_at": _time(certificate, "issued_at"),
        "trusted_anchors": list(certificate.trusted_anchors),
        "reported_at": _time(certificate, "reported_at"),
        "proxy": certificate.proxy,
    }


def is_overdue(certificate: pb.Certificate, now: datetime) -> bool:
    """Whether its proxy should have renewed it by now; False when its life is not known."""
    if not certificate.HasField("not_before") or not certificate.HasField("not_after"):
        return False
    start, end = certificate.not_before.ToDatetime(UTC), certificate.not_after.ToDatetime(UTC)
    return (now - start) > (end - start) * OVERDUE_SHARE


def status_json(
    trust: pb.TrustState, certificates: Sequence[pb.Certificate], rotation: pb.RotationState | None, now: datetime
) -> dict[str, Any]:
    """The whole state of trust."""
    return {
        "anchors": [_anchor_json(anchor, certificates) for anchor in anchors_from_pem(trust.bundle_pem)],
        "issuer": [
            {"id": a.id, "name": a.name, "not_after": _stamp(a.not_after)} for a in anchors_from_pem(trust.issuer_pem)
        ],
        "trouble": trust.trouble,
        "certificates": len(certificates),
        "overdue": sum(is_overdue(c, now) for c in certificates),
        "signed_by": _signed_by(certificates),
        "rotation": None if rotation is None else rotation_json(rotation),
    }


def status_text(
    trust: pb.TrustState, certificates: Sequence[pb.Certificate], rotation: pb.RotationState | None, now: datetime
) -> str:
    """The same for people."""
    lines = []
    for anchor in anchors_from_pem(trust.bundle_pem):
        trusting = sum(anchor.id in c.trusted_anchors for c in certificates)
        ends = _until(anchor.not_after, now)
        lines.append(f"anchor   {anchor.id[:SHOWN_ID]}  {anchor.name}, {ends}; {trusting} proxies report to trust it")
    for position, issuer in enumerate(anchors_from_pem(trust.issuer_pem)):
        role = "issuer " if position == 0 else "through"
        signed = f"; signed {_signed_by(certificates).get(issuer.id, 0)} live certificates" if position == 0 else ""
        lines.append(f"{role}  {issuer.id[:SHOWN_ID]}  {issuer.name}, {_until(issuer.not_after, now)}{signed}")
    overdue = sum(is_overdue(c, now) for c in certificates)
    live = f"live     {len(certificates)} certificates"
    if certificates and certificates[0].HasField("not_after"):
        live += f", the first expires in {_left(certificates[0], now)}"
    lines.append(live + (f"; {overdue} overdue: weft identity list" if overdue else ""))
    if trust.trouble:
        lines.append(f"trouble  {trust.trouble}")
    text = "\n".join(lines) + "\n"
    return text + (rotation_text(rotation) if rotation is not None else "rotation none\n")


def rotation_json(rotation: pb.RotationState) -> dict[str, Any]:
    """Stages in lower case; the bundles are left out."""
    return {
        "id": rotation.id,
        "kind": pb.RotationState.Kind.Name(rotation.kind).lower(),
        "stage": stage_name(rotation).lower(),
        "aborted": rotation.aborted,
        "abort_requested": rotation.abort_requested,
        "started_at": _time(rotation, "started_at"),
        "stage_since": _time(rotation, "stage_since"),
        "holders": [{"namespace": h.namespace, "pod": h.pod, "why": h.why} for h in rotation.holders],
        "trouble": rotation.trouble,
    }


def stage_name(rotation: pb.RotationState) -> str:
    """The stage's name as the contract spells it."""
    return pb.RotationState.Stage.Name(rotation.stage)


def stage_text(rotation: pb.RotationState) -> str:
    """One line on where it stands."""
    stage = stage_name(rotation)
    if stage == "DONE":
        return "taken back" if rotation.aborted else "done"
    back = "going back: " if rotation.aborted else ""
    return back + STAGES.get(stage, stage.lower())


def rotation_text(rotation: pb.RotationState) -> str:
    """Where it stands, and who holds it up."""
    kind = pb.RotationState.Kind.Name(rotation.kind).lower()
    lines = [f"rotation {rotation.id} of the {kind}: {stage_text(rotation)}"]
    lines += [f"  held up by {holder.namespace}/{holder.pod}: {holder.why}" for holder in rotation.holders]
    if rotation.trouble:
        lines.append(f"  trouble: {rotation.trouble}")
    return "\n".join(lines) + "\n"


def as_json(value: object) -> str:
    """Indented, as every command prints it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def duration_text(seconds: float) -> str:
    """Two units at most, such as 59d 23h or 12m 5s."""
    left = int(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def _signed_by(certificates: Sequence[pb.Certificate]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for certificate in certificates:
        counts[certificate.issuer_id] = counts.get(certificate.issuer_id, 0) + 1
    return counts


def _anchor_json(anchor: Anchor, certificates: Sequence[pb.Certificate]) -> dict[str, Any]:
    trusting = sum(anchor.id in c.trusted_anchors for c in certificates)
    return {"id": anchor.id, "name": anchor.name, "not_after": _stamp(anchor.not_after), "trusted_by": trusting}


def _left(certificate: pb.Certificate, now: datetime) -> str:
    if not certificate.HasField("not_after"):
        return UNKNOWN
    left = (certificate.not_after.ToDatetime(UTC) - now).total_seconds()
    return duration_text(left) if left > 0 else "expired"


def _until(not_after: datetime, now: datetime) -> str:
    left = (not_after - now).total_seconds()
    return f"expires in {duration_text(left)}" if left > 0 else f"EXPIRED at {_stamp(not_after)}"


def _time(message: pb.Certificate | pb.RotationState, field: str) -> str | None:
    if not message.HasField(field):  # type: ignore[arg-type]  # the stubs list the names of each message
        return None
    moment: Timestamp = getattr(message, field)
    return _stamp(moment.ToDatetime(UTC))


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
