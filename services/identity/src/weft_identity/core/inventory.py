"""What is known of each live certificate: what was issued, and what its proxy reported; joined here.

Keys are (identity, pod uid), or the serial in place of the uid for tokens that are not bound to a pod.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class LeafRecord:
    """One issued leaf. serial and issuer_key_id are hexadecimal; *_id is SHA-256 of a CA certificate."""

    identity: str
    namespace: str
    pod: str
    pod_uid: str
    serial: str
    issuer_id: str
    issuer_key_id: str
    anchor_id: str
    not_before: datetime
    not_after: datetime
    issued_at: datetime

    @property
    def key(self) -> str:
        """The same for a renewal of the same pod."""
        return f"{self.identity}:{self.pod_uid or self.serial}"


@dataclass(frozen=True, slots=True)
class ProxyRecord:
    """What a proxy says of itself. leaf_*: empty and None before its first certificate."""

    identity: str
    namespace: str
    pod: str
    pod_uid: str
    trusted_anchors: tuple[str, ...]
    leaf_serial: str
    leaf_issuer_id: str
    leaf_not_after: datetime | None
    proxy: str
    reported_at: datetime

    @property
    def key(self) -> str:
        """As LeafRecord's; proxies without a pod are known by their leaf."""
        return f"{self.identity}:{self.pod_uid or self.leaf_serial}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One live certificate: leaf may be missing when its record was lost, report when its proxy does not report."""

    leaf: LeafRecord | None
    report: ProxyRecord | None

    @property
    def either(self) -> LeafRecord | ProxyRecord:
        """Whichever there is, for what both have."""
        found = self.leaf or self.report
        assert found is not None, "joined from at least one"
        return found

    @property
    def _report_is_newer(self) -> bool:
        """A proxy knows its leaf best; a record of another serial is of an earlier or a lost one."""
        return self.report is not None and bool(self.report.leaf_serial)

    @property
    def issuer_id(self) -> str:
        """Of the leaf in use; empty when nobody knows."""
        if self.report is not None and self._report_is_newer:
            return self.report.leaf_issuer_id
        return self.leaf.issuer_id if self.leaf else ""

    @property
    def serial(self) -> str:
        """Of the leaf in use; empty when nobody knows."""
        if self.report is not None and self._report_is_newer:
            return self.report.leaf_serial
        return self.leaf.serial if self.leaf else ""

    @property
    def not_after(self) -> datetime | None:
        """Of the leaf in use; None when nobody knows."""
        if self.report is not None and self._report_is_newer:
            return self.report.leaf_not_after
        return self.leaf.not_after if self.leaf else None

    @property
    def matching_leaf(self) -> LeafRecord | None:
        """The record of the leaf in use."""
        return self.leaf if self.leaf is not None and self.leaf.serial == self.serial else None


def joined(leaves: Iterable[LeafRecord], reports: Iterable[ProxyRecord], now: datetime) -> list[Certificate]:
    """Live certificates and reporting proxies, the first to expire first, those without a leaf last."""
    newest: dict[str, LeafRecord] = {}
    for leaf in leaves:
        known = newest.get(leaf.key)
        if leaf.not_after > now and (known is None or known.issued_at < leaf.issued_at):
            newest[leaf.key] = leaf
    latest: dict[str, ProxyRecord] = {}
    for report in reports:
        said = latest.get(report.key)
        if said is None or said.reported_at < report.reported_at:
            latest[report.key] = report
    certificates = [Certificate(newest.get(key), latest.get(key)) for key in newest.keys() | latest.keys()]
    far = datetime.max.replace(tzinfo=now.tzinfo)
    return sorted(certificates, key=lambda c: (c.not_after or far, c.either.identity, c.either.pod))


def record_bytes(record: LeafRecord | ProxyRecord) -> bytes:
    """As Redis keeps it: one JSON object; times are RFC 3339 UTC."""
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return json.dumps(
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}
    ).encode()


def leaf_from_bytes(text: bytes) -> LeafRecord:
    """Raises ValueError, KeyError, TypeError for what `record_bytes` did not write."""
    fields: dict[str, Any] = json.loads(text)
    times = {name: datetime.fromisoformat(fields[name]) for name in ("not_before", "not_after", "issued_at")}
    return LeafRecord(**{**fields, **times})


def proxy_from_bytes(text: bytes) -> ProxyRecord:
    """Raises ValueError, KeyError, TypeError for what `record_bytes` did not write."""
    fields: dict[str, Any] = json.loads(text)
    expiry = fields["leaf_not_after"]
    times = {
        "leaf_not_after": datetime.fromisoformat(expiry) if expiry else None,
        "reported_at": datetime.fromisoformat(fields["reported_at"]),
    }
    return ProxyRecord(**{**fields, **times, "trusted_anchors": tuple(fields["trusted_anchors"])})
