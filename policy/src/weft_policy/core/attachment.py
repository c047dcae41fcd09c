"""Which routes a parent takes, and what becomes of each backend a route names.

Traffic and status rest on these same decisions. Sources: the Kubernetes contract, 3.5 and 3.6; Gateway API, "Route
attachment" and ReferenceGrant.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, assert_never

from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.objects import Name
from weft_policy.core.policy_objects import ObjectRef
from weft_policy.core.route_tables import POLICY_GROUP
from weft_policy.core.routes import (
    GATEWAY_GROUP,
    PRECEDENCE,
    BackendRef,
    EgressNetwork,
    GrantedFrom,
    Parent,
    ParentKind,
    ParentRef,
    Route,
    covers,
)


@unique
class Reason(Enum):
    """Why something is or is not so, in the words of a condition."""

    ACCEPTED = "Accepted"
    NO_MATCHING_PARENT = "NoMatchingParent"
    CONFLICTED = "RouteReasonConflicted"
    UNSUPPORTED_VALUE = "UnsupportedValue"
    RESOLVED_REFS = "ResolvedRefs"
    BACKEND_NOT_FOUND = "BackendNotFound"
    INVALID_KIND = "InvalidKind"
    REF_NOT_PERMITTED = "RefNotPermitted"
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol"


@dataclass(frozen=True, slots=True)
class Verdict:
    """holds: the condition's status. message: for people, empty where the reason says it all."""

    holds: bool
    reason: Reason
    message: str = ""


_ACCEPTED: Final = Verdict(True, Reason.ACCEPTED)


def attachment_of(index: ClusterIndex, mesh: Mesh, route: Route, ref: ParentRef) -> Verdict:
    """Whether a parent takes a route."""
    if route.problems:
        return Verdict(False, Reason.UNSUPPORTED_VALUE, "; ".join(route.problems))
    missing = _why_not_a_parent(index, mesh, route, ref)
    if missing:
        return Verdict(False, Reason.NO_MATCHING_PARENT, missing)
    stronger = PRECEDENCE[: PRECEDENCE.index(route.id.kind)]
    for other in index.routes.attached_to(ref.parent):
        is_same_place = any(found.parent == ref.parent and found.port == ref.port for found in other.parents)
        if other.id.kind in stronger and not other.problems and is_same_place:
            name = "/".join(other.name)
            return Verdict(False, Reason.CONFLICTED, f"{other.id.kind} {name} is attached to the same parent")
    if route.mistakes:
        return Verdict(True, Reason.ACCEPTED, "left out: " + "; ".join(route.mistakes))
    return _ACCEPTED


def routes_for(index: ClusterIndex, mesh: Mesh, parent: Parent, port: int, client_namespace: str) -> tuple[Route, ...]:
    """The routes that take a client's traffic to a port of a parent: all of one kind, in the order they are asked.

    A producer's routes, of the parent's namespace, apply to everybody; a consumer's, of the client's, only there, and
    come first, so that they win where both match equally well.
    """
    owner = parent.name.namespace
    found = _attached(index, mesh, parent, port)
    consumer = [route for route in found if route.name.namespace == client_namespace != owner]
    producer = [route for route in found if route.name.namespace == owner]
    return _of_strongest_kind([*consumer, *producer])


def backend_verdict(index: ClusterIndex, mesh: Mesh, route: Route, parent: Parent, backend: BackendRef) -> Verdict:
    """Whether a backend of a route can take traffic. One that cannot keeps its share and fails it."""
    ref = backend.ref
    name = Name(ref.namespace, ref.name)
    if ref.is_a(POLICY_GROUP, "EgressNetwork"):
        if parent != Parent(ParentKind.EGRESS_NETWORK, name):
            return Verdict(False, Reason.INVALID_KIND, "an EgressNetwork can only be the backend of its own routes")
        if index.routes.egress_networks.get(*name) is None:
            return Verdict(False, Reason.BACKEND_NOT_FOUND, f"no EgressNetwork {ref.namespace}/{ref.name}")
        return Verdict(True, Reason.RESOLVED_REFS)
    if not ref.is_a("core", "Service"):
        return Verdict(False, Reason.INVALID_KIND, f"backends of kind {ref.group}/{ref.kind} are not supported")
    if not is_permitted(index, mesh, route, parent, ref):
        message = (
            f"no ReferenceGrant in {ref.namespace} lets {route.id.kind}s of {route.name.namespace} name {ref.name}"
        )
        return Verdict(False, Reason.REF_NOT_PERMITTED, message)
    service = index.services.get(*name)
    if service is None:
        return Verdict(False, Reason.BACKEND_NOT_FOUND, f"no Service {ref.namespace}/{ref.name}")
    if service.is_external_name:
        return Verdict(False, Reason.INVALID_KIND, f"Service {ref.namespace}/{ref.name} is an ExternalName")
    if not backend.port:
        return Verdict(False, Reason.BACKEND_NOT_FOUND, f"the reference to Service {ref.name} names no port")
    if backend.problem:
        return Verdict(False, Reason.UNSUPPORTED_VALUE, backend.problem)
    return Verdict(True, Reason.RESOLVED_REFS)


def is_permitted(index: ClusterIndex, mesh: Mesh, route: Route, parent: Parent, ref: ObjectRef) -> bool:
    """Whether a route may name a Service: one of its own namespace, its parent, one that a grant opens.

    Only Gateway API's own routes need grants; Linkerd's HTTPRoute is not a kind that a grant could name.
    """
    if route.id.group != GATEWAY_GROUP or not mesh.requires_reference_grants:
        return True
    if ref.namespace == route.name.namespace or parent == Parent(ParentKind.SERVICE, Name(ref.namespace, ref.name)):
        return True
    source = GrantedFrom(route.id.group, route.id.kind, route.name.namespace)
    return any(grant.permits(source, ref) for grant in index.routes.grants_in(ref.namespace))


def _why_not_a_parent(index: ClusterIndex, mesh: Mesh, route: Route, ref: ParentRef) -> str:
    """Empty when it is one."""
    kind, name = ref.parent
    where = "/".join(name)
    match kind:
        case ParentKind.SERVICE:
            service = index.services.get(*name)
            if service is None:
                return f"no Service {where}"
            if service.is_external_name or not service.cluster_ips:
                return f"Service {where} has no ClusterIP, which routes need"
            if ref.port is not None and service.port_named_by(ref.port) is None:
                return f"Service {where} has no port {ref.port}"
        case ParentKind.EGRESS_NETWORK:
            network = index.routes.egress_networks.get(*name)
            if network is None:
                return f"no EgressNetwork {where}"
            if ref.port is None:
                return "a route of an EgressNetwork must name a port"
            if overlap := egress_overlap(mesh, network):
                return f"EgressNetwork {where} is not accepted: {overlap}"
        case ParentKind.SERVER:
            if route.name.namespace != name.namespace or index.policy.servers.get(*name) is None:
                return f"no Server {name.name} in {route.name.namespace}"
            if ref.port is not None or ref.section:
                return "a route of a Server must name neither a port nor a section"
        case _:
            assert_never(kind)
    return ""


def egress_overlap(mesh: Mesh, network: EgressNetwork) -> str:
    """Which of a network's blocks belongs to the cluster, in words; empty when none does."""
    for block in network.networks:
        for inside in mesh.cluster_networks:
            overlaps = covers(inside, block.net) or covers(block.net, inside)
            if overlaps and not any(covers(hole, inside) for hole in block.exceptions):
                return f"{block.net} overlaps {inside}, which is inside the cluster"
    return ""


def _attached(index: ClusterIndex, mesh: Mesh, parent: Parent, port: int) -> list[Route]:
    def takes(route: Route) -> bool:
        refs = (ref for ref in route.parents if ref.parent == parent and ref.port in (None, port))
        return any(attachment_of(index, mesh, route, ref).holds for ref in refs)

    return [route for route in index.routes.attached_to(parent) if takes(route)]


def _of_strongest_kind(routes: list[Route]) -> tuple[Route, ...]:
    for kind in PRECEDENCE:
        found = tuple(route for route in routes if route.id.kind is kind)
        if found:
            return found
    return ()
