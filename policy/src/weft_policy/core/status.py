"""What the status of routes, egress networks and rate limits should say. Source: the Kubernetes contract, 3.6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from weft_policy.core.attachment import Reason, Verdict, attachment_of, backend_verdict, egress_overlap
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.objects import Name
from weft_policy.core.policy_objects import RateLimit
from weft_policy.core.policy_tables import PolicyTables, in_namespace
from weft_policy.core.routes import EgressNetwork, ParentKind, ParentRef, Route

CONTROLLER: Final = "linkerd.io/policy-controller"


@dataclass(frozen=True, slots=True)
class Condition:
    """type, reason: as in the API. message: for people; empty where the reason says it all."""

    type: str
    holds: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class ParentStatus:
    """What one parent makes of a route."""

    ref: ParentRef
    conditions: tuple[Condition, ...]


def route_status(index: ClusterIndex, mesh: Mesh, route: Route) -> tuple[ParentStatus, ...]:
    """One entry for each parent that is ours to speak about, in the order of the route."""
    return tuple(ParentStatus(ref, _conditions(index, mesh, route, ref)) for ref in route.parents)


def egress_status(mesh: Mesh, network: EgressNetwork) -> Condition:
    """Whether a network is accepted."""
    overlap = egress_overlap(mesh, network)
    return Condition("Accepted", not overlap, "EgressReasonNetworkOverlap" if overlap else "Accepted", overlap)


def rate_limit_status(tables: PolicyTables, limit: RateLimit) -> Condition:
    """Whether a rate limit is accepted: its Server exists, and no older one speaks about it."""
    if tables.servers.get(limit.name.namespace, limit.server) is None:
        message = f"no Server {limit.name.namespace}/{limit.server}"
        return Condition("Accepted", False, "NoMatchingTarget", message)
    first = rate_limit_of(tables, Name(limit.name.namespace, limit.server))
    if first is not None and first.name != limit.name:
        message = f"{first.name.name} already limits this Server"
        return Condition("Accepted", False, "RateLimitReasonAlreadyExists", message)
    return Condition("Accepted", True, "Accepted")


def rate_limit_of(tables: PolicyTables, server: Name) -> RateLimit | None:
    """The oldest rate limit of a Server, by name among equals."""
    found = [limit for limit in in_namespace(tables.rate_limits, server.namespace) if limit.server == server.name]
    return min(found, key=lambda limit: (not limit.created, limit.created, limit.name), default=None)


def _conditions(index: ClusterIndex, mesh: Mesh, route: Route, ref: ParentRef) -> tuple[Condition, ...]:
    accepted = _condition("Accepted", attachment_of(index, mesh, route, ref))
    if ref.parent.kind is ParentKind.SERVER:
        return (accepted,)
    return (accepted, _condition("ResolvedRefs", _resolved(index, mesh, route, ref)))


def _resolved(index: ClusterIndex, mesh: Mesh, route: Route, ref: ParentRef) -> Verdict:
    for rule in route.rules:
        for backend in rule.backends:
            verdict = backend_verdict(index, mesh, route, ref.parent, backend)
            # A filter that is not supported is not about what the reference points at.
            if not verdict.holds and verdict.reason is not Reason.UNSUPPORTED_VALUE:
                return verdict
    return Verdict(True, Reason.RESOLVED_REFS)


def _condition(type_: str, verdict: Verdict) -> Condition:
    return Condition(type_, verdict.holds, verdict.reason.value, verdict.message)
