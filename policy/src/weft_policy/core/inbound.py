"""Which server answers on a port of a workload, and whom it admits. Source: the wire contract, 3."""

from __future__ import annotations

from dataclasses import dataclass

from weft_policy.core.attachment import attachment_of
from weft_policy.core.authorization import (
    POLICY_GROUP,
    Authorization,
    Source,
    default_authorizations,
    default_source,
    route_authorizations,
    server_authorizations,
)
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import Refusal, RefusalCode, WorkloadRef
from weft_policy.core.objects import DefaultPolicy, ExternalWorkload, Name, Pod
from weft_policy.core.policy_objects import Server, ServerProtocol
from weft_policy.core.policy_tables import PolicyTables
from weft_policy.core.routes import Filter, GrpcMatch, HttpMatch, Parent, ParentKind, Route, RouteId, RouteKind
from weft_policy.core.servers import server_for
from weft_policy.core.status import rate_limit_of


@dataclass(frozen=True, slots=True)
class InboundRule:
    """matches: any of them; empty for everything."""

    matches: tuple[HttpMatch | GrpcMatch, ...] = ()
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class InboundRoute:
    """Requests that a route of a Server admits, beside whom the Server itself does. hosts: empty for any."""

    id: RouteId
    rules: tuple[InboundRule, ...]
    hosts: tuple[str, ...] = ()
    authorizations: tuple[Authorization, ...] = ()


@dataclass(frozen=True, slots=True)
class IdentityLimit:
    """A rate that clients with these identities share."""

    requests_per_second: int
    identities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServerRateLimit:
    """Requests per second; None for no limit."""

    name: Name
    total: int | None = None
    identity: int | None = None
    overrides: tuple[IdentityLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class InboundServer:
    """One port. No authorizations deny everybody. probe_paths: paths that kubelets may GET, sorted.

    routes: in the order they are asked; empty for the defaults, which probe paths belong to.
    """

    source: Source
    protocol: ServerProtocol
    authorizations: tuple[Authorization, ...]
    probe_paths: tuple[str, ...]
    routes: tuple[InboundRoute, ...] = ()
    rate_limit: ServerRateLimit | None = None


InboundAnswer = InboundServer | Refusal

_AUTHENTICATED = {
    DefaultPolicy.ALL_UNAUTHENTICATED: DefaultPolicy.ALL_AUTHENTICATED,
    DefaultPolicy.CLUSTER_UNAUTHENTICATED: DefaultPolicy.CLUSTER_AUTHENTICATED,
}


def inbound_server_of(index: ClusterIndex, mesh: Mesh, workload: WorkloadRef, port: int) -> InboundAnswer:
    """The server on a port of a meshed pod or external workload. NOT_FOUND for anything else: the proxy asks again."""
    found = _workload_of(index, workload)
    if found is None:
        kind = "external workload" if workload.is_external else "meshed pod"
        return Refusal(RefusalCode.NOT_FOUND, f"unknown server: no {kind} {'/'.join(workload.name)}")
    probes = found.probes if isinstance(found, Pod) else ()
    probe_paths = tuple(sorted({path for probed, path in probes if probed == port}))
    server = server_for(index.policy, found, port)
    if server is not None:
        return InboundServer(
            source=Source(POLICY_GROUP, "server", server.name.name),
            protocol=server.protocol,
            authorizations=server_authorizations(index.policy, mesh, server),
            probe_paths=probe_paths,
            routes=_routes_of(index, mesh, server),
            rate_limit=_rate_limit_of(index.policy, mesh, server),
        )
    opaque_ports = index.opaque_ports_of(found.opaque_ports, found.name.namespace)
    is_opaque = opaque_ports is not None and port in opaque_ports
    policy = default_policy_for(index, mesh, found, port)
    return InboundServer(
        source=default_source(policy),
        protocol=ServerProtocol.OPAQUE if is_opaque else ServerProtocol.DETECT,
        authorizations=default_authorizations(policy, mesh),
        probe_paths=probe_paths,
    )


def _workload_of(index: ClusterIndex, workload: WorkloadRef) -> Pod | ExternalWorkload | None:
    if workload.is_external:
        return index.external_workloads.get(*workload.name)
    pod = index.pods.get(*workload.name)
    return pod if pod is not None and pod.mesh else None


def _routes_of(index: ClusterIndex, mesh: Mesh, server: Server) -> tuple[InboundRoute, ...]:
    kind = RouteKind.GRPC if server.protocol is ServerProtocol.GRPC else RouteKind.HTTP
    parent = Parent(ParentKind.SERVER, server.name)

    def is_bound(route: Route) -> bool:
        refs = (ref for ref in route.parents if ref.parent == parent)
        return any(attachment_of(index, mesh, route, ref).holds for ref in refs)

    return tuple(
        InboundRoute(
            id=route.id,
            rules=tuple(InboundRule(rule.matches, rule.filters) for rule in route.rules),
            hosts=route.hostnames,
            authorizations=route_authorizations(index.policy, mesh, server, route),
        )
        for route in index.routes.attached_to(parent)
        if route.id.kind is kind and is_bound(route)
    )


def _rate_limit_of(tables: PolicyTables, mesh: Mesh, server: Server) -> ServerRateLimit | None:
    found = rate_limit_of(tables, server.name)
    if found is None:
        return None
    overrides = tuple(
        IdentityLimit(each.requests_per_second, tuple(map(mesh.identity_of, each.clients))) for each in found.overrides
    )
    return ServerRateLimit(found.name, found.total, found.identity, overrides)


def default_policy_for(index: ClusterIndex, mesh: Mesh, workload: Pod | ExternalWorkload, port: int) -> DefaultPolicy:
    """Its own annotation, else its namespace's, else the cluster's; identity forced where a pod asks for it."""
    namespace = index.namespaces.get("", workload.name.namespace)
    policy = workload.default_policy or (namespace.default_policy if namespace else None) or mesh.default_policy
    is_forced = isinstance(workload, Pod) and port in workload.require_identity_ports
    return _AUTHENTICATED.get(policy, policy) if is_forced else policy
