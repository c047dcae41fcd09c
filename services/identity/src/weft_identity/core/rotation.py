"""Replacing an issuer or a trust anchor under traffic: the stages, their gates, and who holds them up.

    PUBLISH    the bundle becomes the anchors of both sides
    TRUST      gate: every live proxy trusts the anchors of both sides; none is live once the issuer is over
    SWITCH     the new side's issuer signs
    RENEW      gate: every live leaf is signed by the new side's issuer
    DROP       the bundle becomes the new side's anchors
    DONE

An abort exchanges the sides and goes on from SWITCH, so the way back passes the same gates; it is refused from DROP on.
Every step may be repeated: whoever crashes between doing a step and writing that it is done does it again. Time is an
argument; nothing here touches the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from weft_identity.core.inventory import Certificate
from weft_identity.core.proxies import MeshedPod, anchor_ids

# How long after the switch a replica may go on signing with the old issuer: kubelets refresh mounts every minute or so.
MOUNT_LAG: Final = timedelta(minutes=2)


class Stage(Enum):
    """In the order of a rotation."""

    PUBLISH = auto()
    TRUST = auto()
    SWITCH = auto()
    RENEW = auto()
    DROP = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a rotation. name: prefix of its keys in the Secret. issuer_id: SHA-256 of its issuer certificate."""

    name: str
    bundle_pem: str
    issuer_id: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A pod that holds up a gate. why: what is missing and what can be done."""

    namespace: str
    pod: str
    why: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """Where a rotation stands. origin, target: exchanged by an abort. switched_at: None before the switch."""

    stage: Stage
    origin: Side
    target: Side
    stage_since: datetime
    switched_at: datetime | None = None
    abort_requested: bool = False
    aborted: bool = False
    holders: tuple[Holder, ...] = ()

    @property
    def may_abort(self) -> bool:
        """Whether the old anchors are still in the bundle."""
        return self.stage not in (Stage.DROP, Stage.DONE)


@dataclass(frozen=True, slots=True)
class Live:
    """The mesh now. certificates: by pod uid. leaf_lifetime: skew on both ends included.

    issuer_is_over: what signs has expired, and with it every leaf, since none outlives its issuer.
    """

    pods: Sequence[MeshedPod]
    certificates: Mapping[str, Certificate]
    leaf_lifetime: timedelta
    issuer_is_over: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What to do in the cluster before rotation is written. None leaves a thing as it is.

    issuer: the side whose pair goes into the issuer Secret.
    """

    rotation: Rotation
    bundle_pem: str | None = None
    issuer: str | None = None


def both_bundles(rotation: Rotation) -> str:
    """The anchors of both sides, each once, the origin's first."""
    origin, target = rotation.origin.bundle_pem.strip(), rotation.target.bundle_pem.strip()
    if anchor_ids(target) <= anchor_ids(origin):
        return origin + "\n"
    return f"{origin}\n{target}\n"


def next_step(rotation: Rotation, live: Live, now: datetime) -> Step:
    """The next thing to do. A gate that does not hold gives the same stage with its holders."""
    if rotation.abort_requested and not rotation.aborted and rotation.may_abort:
        turned = replace(rotation, origin=rotation.target, target=rotation.origin, aborted=True)
        return Step(_entered(turned, Stage.SWITCH, now))
    match rotation.stage:
        case Stage.PUBLISH:
            return Step(_entered(rotation, Stage.TRUST, now), bundle_pem=both_bundles(rotation))
        case Stage.TRUST:
            return _gate(rotation, _not_trusting(rotation, live), Stage.SWITCH, now)
        case Stage.SWITCH:
            switched = replace(_entered(rotation, Stage.RENEW, now), switched_at=now)
            return Step(switched, issuer=rotation.target.name)
        case Stage.RENEW:
            return _gate(rotation, _not_renewed(rotation, live, now), Stage.DROP, now)
        case Stage.DROP:
            done = _entered(rotation, Stage.DONE, now)
            return Step(done, bundle_pem=rotation.target.bundle_pem.strip() + "\n")
        case Stage.DONE:
            return Step(rotation)


def _entered(rotation: Rotation, stage: Stage, now: datetime) -> Rotation:
    return replace(rotation, stage=stage, stage_since=now, holders=())


def _gate(rotation: Rotation, holders: tuple[Holder, ...], beyond: Stage, now: datetime) -> Step:
    return Step(replace(rotation, holders=holders) if holders else _entered(rotation, beyond, now))


def _not_trusting(rotation: Rotation, live: Live) -> tuple[Holder, ...]:
    if live.issuer_is_over:
        # Nobody can connect, so there is nothing to protect; and to report what they trust, proxies would have to.
        return ()
    wanted = anchor_ids(both_bundles(rotation))
    return _holders(
        (pod, _why_not_trusting(rotation, pod, live.certificates.get(pod.uid), wanted)) for pod in live.pods
    )


def _why_not_trusting(
    rotation: Rotation, pod: MeshedPod, certificate: Certificate | None, wanted: frozenset[str]
) -> str:
    report = certificate.report if certificate else None
    if report is not None:
        missing = wanted - set(report.trusted_anchors)
        return f"has not taken up the bundle yet: {len(missing)} of {len(wanted)} anchors missing" if missing else ""
    if pod.given_anchors is not None:
        if wanted <= pod.given_anchors:
            return ""
        return "has the old anchors and does not follow the bundle: restart it"
    if pod.proxy_started_at is not None and pod.proxy_started_at > rotation.stage_since:
        return ""
    return "reads the bundle only as it starts, and started before this rotation: restart it"


def _not_renewed(rotation: Rotation, live: Live, now: datetime) -> tuple[Holder, ...]:
    return _holders(
        (pod, _why_not_renewed(rotation, pod, live.certificates.get(pod.uid), live, now)) for pod in live.pods
    )


def _why_not_renewed(
    rotation: Rotation, pod: MeshedPod, certificate: Certificate | None, live: Live, now: datetime
) -> str:
    issuer_id = certificate.issuer_id if certificate else ""
    expiry = certificate.not_after if certificate else None
    if issuer_id:
        if issuer_id == rotation.target.issuer_id or (expiry is not None and expiry <= now):
            return ""
        until = f" until {expiry.isoformat(timespec='seconds')}" if expiry else ""
        return f"uses a leaf of issuer {issuer_id[:12]}{until}"
    # Nobody knows its leaf: whatever it holds has expired when every leaf signed before the switch has.
    if pod.proxy_started_at is None or rotation.switched_at is None:
        return ""
    over_at = rotation.switched_at + live.leaf_lifetime + MOUNT_LAG
    if pod.proxy_started_at > rotation.switched_at or now >= over_at:
        return ""
    return f"its leaf is not known; it counts as renewed after {over_at.isoformat(timespec='seconds')}, or restart it"


def _holders(reasons: Iterable[tuple[MeshedPod, str]]) -> tuple[Holder, ...]:
    """Those with a reason, by name."""
    held = sorted((pod.namespace, pod.name, why) for pod, why in reasons if why)
    return tuple(Holder(*fields) for fields in held)
