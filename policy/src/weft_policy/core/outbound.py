"""How a client should send to a target: protocol, routes, backends, resilience. Source: the wire contract, 2.6."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import Final

from weft_policy.core.attachment import (
    backend_verdict,
    egress_overlap,
    routes_for,
)
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import AddressTarget, Refusal, RefusalCode, ServiceTarget
from weft_policy.core.objects import Name, Service, ServicePort
from weft_policy.core.profile import is_opaque_on_service
from weft_policy.core.resilience import (
    NO_RESILIENCE,
    NO_TIMEOUTS,
    GrpcRetry,
    HttpRetry,
    LoadPenalty,
    Resilience,
    Timeouts,
    resilience_from_annotations,
)
from weft_policy.core.route_tables import POLICY_GROUP
from weft_policy.core.routes import (
    BackendRef,
    EgressNetwork,
    Fail,
    FailReason,
    Filter,
    GrpcMatch,
    HttpMatch,
    Parent,
    ParentKind,
    Route,
    RouteKind,
    RouteRule,
    contains,
)


@unique
class OutboundProtocol(Enum):
    """What a client's proxy should expect on connections to a target."""

    DETECT = "detect"
    OPAQUE = "opaque"
    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class ObjectId:
    """The object behind a part of a policy. port: 0 where none belongs to it."""

    group: str
    kind: str
    name: Name
    port: int = 0
    section: str = ""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """No object stands behind it."""

    name: str


Origin = ObjectId | BuiltIn


@dataclass(frozen=True, slots=True)
class ServiceBackend:
    """Balance over a Service. authority: what to resolve for its endpoints, without port."""

    origin: ObjectId
    authority: str
    load_penalty: LoadPenalty | None = None


@dataclass(frozen=True, slots=True)
class ForwardBackend:
    """Go where the client was going."""

    origin: Origin
    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class InvalidBackend:
    """Could not be resolved; whatever is sent to it fails."""

    origin: ObjectId
    message: str


Backend = ServiceBackend | ForwardBackend | InvalidBackend


@dataclass(frozen=True, slots=True)
class Share:
    """A backend's part of a rule's traffic, and what happens on the way to it."""

    backend: Backend
    weight: int = 1
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """matches: any of them; empty for everything. shares: drawn by weight, empty only where filters answer everything.

    is_default: the one backend is the parent itself, because the rule names none.
    """

    shares: tuple[Share, ...]
    matches: tuple[HttpMatch | GrpcMatch, ...] = ()
    filters: tuple[Filter, ...] = ()
    name: str = ""
    is_default: bool = True
    timeouts: Timeouts = NO_TIMEOUTS
    http_retry: HttpRetry | None = None
    grpc_retry: GrpcRetry | None = None


@dataclass(frozen=True, slots=True)
class PolicyRoute:
    """hosts: empty for any; `*.` opens a suffix; server names for TLS."""

    origin: Origin
    rules: tuple[PolicyRule, ...]
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """What a client should do. routes: for what the protocol speaks, in the order they are asked.

    opaque: for bytes that are not what the protocol says; None where they cannot be.
    """

    origin: Origin
    protocol: OutboundProtocol
    routes: tuple[PolicyRoute, ...] = ()
    opaque: PolicyRoute | None = None
    resilience: Resilience = NO_RESILIENCE


OutboundAnswer = OutboundPolicy | Refusal


def outbound_policy_of(
    index: ClusterIndex, mesh: Mesh, target: ServiceTarget | AddressTarget, client_namespace: str = ""
) -> OutboundAnswer:
    """The policy for a target. NOT_FOUND tells the proxy to make its own, from the profile or the address."""
    if isinstance(target, ServiceTarget):
        service = None if target.instance else index.services.get(*target.service)
        if service is None:
            return Refusal(RefusalCode.NOT_FOUND, f"no service {mesh.authority_of(target.service)}")
        return _policy_of_service(index, mesh, service, target.port, client_namespace)
    services = index.services_at(target.ip)
    if services:
        return _policy_of_service(index, mesh, services[0], target.port, client_namespace)
    network = egress_network_for(index, mesh, target.ip, client_namespace)
    if network is not None:
        return _policy_of_egress(index, mesh, network, target, client_namespace)
    if mesh.is_inside(target.ip):
        return Refusal(RefusalCode.NOT_FOUND, f"no service has the address {target.ip}")
    return _outside_cluster(target)


def protocol_of(port: ServicePort, *, is_opaque: bool, routes: RouteKind | None = None) -> OutboundProtocol:
    """appProtocol beats the opaque-ports annotation, which beats the kind of the routes; a word we do not know means
    bytes we do not understand."""
    match port.app_protocol:
        case None if is_opaque:
            return OutboundProtocol.OPAQUE
        case None:
            return _PROTOCOL_OF_ROUTES[routes] if routes else OutboundProtocol.DETECT
        case "http":
            return OutboundProtocol.HTTP1
        case "kubernetes.io/h2c":
            return OutboundProtocol.GRPC if routes is RouteKind.GRPC else OutboundProtocol.HTTP2
        case _:
            return OutboundProtocol.OPAQUE


_PROTOCOL_OF_ROUTES: Final = {
    RouteKind.GRPC: OutboundProtocol.GRPC,
    RouteKind.HTTP: OutboundProtocol.DETECT,
    RouteKind.TLS: OutboundProtocol.TLS,
    RouteKind.TCP: OutboundProtocol.OPAQUE,
}
_ROUTES_OF_PROTOCOL: Final = {
    OutboundProtocol.DETECT: RouteKind.HTTP,
    OutboundProtocol.HTTP1: RouteKind.HTTP,
    OutboundProtocol.HTTP2: RouteKind.HTTP,
    OutboundProtocol.GRPC: RouteKind.GRPC,
    OutboundProtocol.TLS: RouteKind.TLS,
}


def egress_network_for(index: ClusterIndex, mesh: Mesh, ip: str, client_namespace: str) -> EgressNetwork | None:
    """The network that governs an address: the client's namespace's, or the global ones where it has none.

    Among those that contain the address, the narrowest block wins, then the oldest network, then its name.
    """
    address = ipaddress.ip_network(ip)
    for namespace in (client_namespace, mesh.global_egress_namespace):
        networks = [found for found in index.routes.networks_in(namespace) if not egress_overlap(mesh, found)]
        if networks:
            fitting = [
                (-bits, not found.created, found.created, found.name, found)
                for found in networks
                if (bits := contains(found, address, mesh.cluster_networks)) is not None
            ]
            return min(fitting)[-1] if fitting else None
    return None


def _policy_of_service(
    index: ClusterIndex, mesh: Mesh, service: Service, port: int, client_namespace: str
) -> OutboundPolicy:
    origin = ObjectId("core", "Service", service.name, port)
    defined = service.port_named_by(port)
    if defined is None:
        forbidden = PolicyRule((), filters=(Fail(FailReason.DENIED, "the Service does not define this port"),))
        return OutboundPolicy(
            origin, OutboundProtocol.OPAQUE, opaque=PolicyRoute(BuiltIn("undefined-port"), (forbidden,))
        )
    resilience = resilience_from_annotations(dict(service.annotations))
    context = _Context(index, mesh, Parent(ParentKind.SERVICE, service.name), origin, resilience)
    backend = ServiceBackend(origin, mesh.authority_of(service.name), resilience.load_penalty)
    routes = routes_for(index, mesh, context.parent, port, client_namespace)
    kind = routes[0].id.kind if routes else None
    protocol = protocol_of(defined, is_opaque=is_opaque_on_service(index, mesh, service, port), routes=kind)
    opaque = PolicyRoute(BuiltIn("opaq"), (PolicyRule((Share(backend),)),))
    if kind is RouteKind.TCP:
        opaque = context.route(routes[0], backend)
    served: tuple[PolicyRoute, ...] = ()
    if kind is not None and kind is _ROUTES_OF_PROTOCOL.get(protocol):
        served = tuple(context.route(route, backend) for route in routes)
    elif protocol is not OutboundProtocol.OPAQUE:
        served = (PolicyRoute(BuiltIn("http"), (context.default_rule(backend),)),)
    return OutboundPolicy(origin, protocol, served, opaque, resilience)


def _policy_of_egress(
    index: ClusterIndex, mesh: Mesh, network: EgressNetwork, target: AddressTarget, client_namespace: str
) -> OutboundPolicy:
    origin = ObjectId(POLICY_GROUP, "EgressNetwork", network.name, target.port)
    resilience = resilience_from_annotations(dict(network.annotations))
    context = _Context(index, mesh, Parent(ParentKind.EGRESS_NETWORK, network.name), origin, resilience)
    backend = ForwardBackend(origin, target.ip, target.port)
    routes = routes_for(index, mesh, context.parent, target.port, client_namespace)
    kind = routes[0].id.kind if routes else None
    protocol = _PROTOCOL_OF_ROUTES[kind] if kind else OutboundProtocol.DETECT
    word = "allow" if network.allows else "deny"
    denied = () if network.allows else (Fail(FailReason.DENIED, "traffic not allowed"),)

    def otherwise(name: str) -> PolicyRoute:
        rule = context.default_rule(backend, denied)
        return PolicyRoute(BuiltIn(f"{name}-egress-{word}"), (rule,))

    opaque = context.route(routes[0], backend) if kind is RouteKind.TCP else otherwise("tcp")
    if protocol is OutboundProtocol.OPAQUE:
        return OutboundPolicy(origin, protocol, (), opaque, resilience)
    served = tuple(context.route(route, backend) for route in routes)
    name = {OutboundProtocol.GRPC: "grpc", OutboundProtocol.TLS: "tls"}.get(protocol, "http")
    return OutboundPolicy(origin, protocol, (*served, otherwise(name)), opaque, resilience)


def _outside_cluster(target: AddressTarget) -> OutboundPolicy:
    origin = BuiltIn("egress-fallback")
    route = PolicyRoute(origin, (PolicyRule((Share(ForwardBackend(origin, target.ip, target.port)),)),))
    return OutboundPolicy(origin, OutboundProtocol.DETECT, (route,), route)


@dataclass(frozen=True, slots=True)
class _Context:
    """What all routes of one parent share."""

    index: ClusterIndex
    mesh: Mesh
    parent: Parent
    origin: ObjectId
    resilience: Resilience

    def route(self, route: Route, default: Backend) -> PolicyRoute:
        """A user's route on the wire."""
        origin = ObjectId(route.id.group, route.id.kind, route.name)
        return PolicyRoute(origin, tuple(self._rule(route, rule, default) for rule in route.rules), route.hostnames)

    def default_rule(self, backend: Backend, filters: tuple[Filter, ...] = ()) -> PolicyRule:
        """The rule of a parent without routes."""
        own = self.resilience
        return PolicyRule(
            (Share(backend),),
            filters=filters,
            timeouts=own.timeouts,
            http_retry=own.http_retry,
            grpc_retry=own.grpc_retry,
        )

    def _rule(self, route: Route, rule: RouteRule, default: Backend) -> PolicyRule:
        own = self.resilience
        annotated, per_try_ms = route.timeouts, rule.backend_timeout_ms
        timeouts = Timeouts(
            rule.request_timeout_ms if annotated.request_ms is None else annotated.request_ms,
            per_try_ms if annotated.response_ms is None else annotated.response_ms,
            annotated.idle_ms,
        )
        http_retry = route.http_retry or rule.retry or own.http_retry
        if http_retry is not None and http_retry.timeout_ms is None:
            # What bounds a response ends the exchange; only a limit of a try leads to another.
            http_retry = replace(http_retry, timeout_ms=per_try_ms)
        return PolicyRule(
            shares=self._shares(route, rule, default),
            matches=rule.matches,
            filters=rule.filters,
            name=rule.name,
            is_default=not rule.backends,
            timeouts=own.timeouts if timeouts == NO_TIMEOUTS else timeouts,
            http_retry=http_retry,
            grpc_retry=route.grpc_retry or own.grpc_retry,
        )

    def _shares(self, route: Route, rule: RouteRule, default: Backend) -> tuple[Share, ...]:
        if not rule.backends:
            return (Share(default),)
        if not any(backend.weight for backend in rule.backends):
            # Proxies cannot draw among nothing, and Gateway API wants 500 for it.
            return (Share(InvalidBackend(self.origin, "every backend of the rule has weight 0")),)
        return tuple(self._share(route, backend, default) for backend in rule.backends)

    def _share(self, route: Route, ref: BackendRef, default: Backend) -> Share:
        named = ref.ref
        name = Name(named.namespace, named.name)
        verdict = backend_verdict(self.index, self.mesh, route, self.parent, ref)
        if not verdict.holds:
            origin = ObjectId(named.group, named.kind, name, ref.port or 0)
            return Share(InvalidBackend(origin, verdict.message), ref.weight)
        if named.is_a(POLICY_GROUP, "EgressNetwork"):
            return Share(default, ref.weight, ref.filters)
        origin = ObjectId("core", "Service", name, ref.port or 0)
        backend = ServiceBackend(origin, self.mesh.authority_of(name), self.resilience.load_penalty)
        return Share(backend, ref.weight, ref.filters)
