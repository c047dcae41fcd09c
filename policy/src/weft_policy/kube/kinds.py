"""Every kind that answers depend on: where it lives in the API, how it is read, which table of the index it fills."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from weft_common.kube.resource import (
    ENDPOINT_SLICES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    Resource,
    key_of,
)

from weft_policy.core.index import ClusterIndex
from weft_policy.core.route_tables import POLICY_GROUP
from weft_policy.core.routes import GATEWAY_GROUP, RouteKind
from weft_policy.core.tables import Table
from weft_policy.kube import parse, parse_policy, parse_profiles, parse_routes

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class IndexedKind:
    """resource: in the version that is asked first. other_versions: that parse reads just as well.

    is_builtin: always served; others may not be installed. has_status: its status is ours to write.
    """

    resource: Resource
    parse: Callable[[Raw], Any]
    table: Callable[[ClusterIndex], Table[Any]]
    is_builtin: bool = False
    has_status: bool = False
    other_versions: tuple[str, ...] = ()


def _routes(group: str, kind: RouteKind) -> Callable[[ClusterIndex], Table[Any]]:
    return lambda index: index.routes.routes[(group, kind)]


KINDS: Final = (
    IndexedKind(NAMESPACES, parse.parse_namespace, lambda index: index.namespaces, is_builtin=True),
    IndexedKind(NODES, parse.parse_node, lambda index: index.nodes, is_builtin=True),
    IndexedKind(REPLICA_SETS, parse.parse_replica_set, lambda index: index.replica_sets, is_builtin=True),
    IndexedKind(PODS, parse.parse_pod, lambda index: index.pods, is_builtin=True),
    IndexedKind(SERVICES, parse.parse_service, lambda index: index.services, is_builtin=True),
    IndexedKind(ENDPOINT_SLICES, parse.parse_slice, lambda index: index.slices, is_builtin=True),
    IndexedKind(
        parse.EXTERNAL_WORKLOADS,
        parse.parse_external_workload,
        lambda index: index.external_workloads,
        other_versions=("v1alpha1",),
    ),
    IndexedKind(parse_policy.SERVERS, parse_policy.parse_server, lambda index: index.policy.servers),
    IndexedKind(
        parse_policy.SERVER_AUTHORIZATIONS,
        parse_policy.parse_server_authorization,
        lambda index: index.policy.server_authorizations,
    ),
    IndexedKind(
        parse_policy.AUTHORIZATION_POLICIES,
        parse_policy.parse_authorization_policy,
        lambda index: index.policy.authorization_policies,
    ),
    IndexedKind(
        parse_policy.MESH_AUTHENTICATIONS,
        parse_policy.parse_mesh_authentication,
        lambda index: index.policy.mesh_authentications,
    ),
    IndexedKind(
        parse_policy.NETWORK_AUTHENTICATIONS,
        parse_policy.parse_network_authentication,
        lambda index: index.policy.network_authentications,
    ),
    IndexedKind(
        parse_policy.RATE_LIMITS,
        parse_policy.parse_rate_limit,
        lambda index: index.policy.rate_limits,
        has_status=True,
    ),
    IndexedKind(
        parse_routes.HTTP_ROUTES,
        parse_routes.parse_http_route,
        _routes(GATEWAY_GROUP, RouteKind.HTTP),
        has_status=True,
        other_versions=("v1beta1",),
    ),
    IndexedKind(
        parse_routes.POLICY_HTTP_ROUTES,
        parse_routes.parse_http_route,
        _routes(POLICY_GROUP, RouteKind.HTTP),
        has_status=True,
        other_versions=("v1beta2", "v1beta1"),
    ),
    IndexedKind(
        parse_routes.GRPC_ROUTES,
        parse_routes.parse_grpc_route,
        _routes(GATEWAY_GROUP, RouteKind.GRPC),
        has_status=True,
        other_versions=("v1alpha2",),
    ),
    IndexedKind(
        parse_routes.TLS_ROUTES,
        parse_routes.parse_tls_route,
        _routes(GATEWAY_GROUP, RouteKind.TLS),
        has_status=True,
        other_versions=("v1", "v1alpha3"),
    ),
    IndexedKind(
        parse_routes.TCP_ROUTES,
        parse_routes.parse_tcp_route,
        _routes(GATEWAY_GROUP, RouteKind.TCP),
        has_status=True,
        other_versions=("v1",),
    ),
    IndexedKind(
        parse_routes.EGRESS_NETWORKS,
        parse_routes.parse_egress_network,
        lambda index: index.routes.egress_networks,
        has_status=True,
    ),
    IndexedKind(
        parse_profiles.SERVICE_PROFILES,
        parse_profiles.parse_service_profile,
        lambda index: index.profiles,
        other_versions=("v1alpha1",),
    ),
    IndexedKind(
        parse_routes.REFERENCE_GRANTS,
        parse_routes.parse_reference_grant,
        lambda index: index.routes.grants,
        other_versions=("v1", "v1alpha2"),
    ),
)
_BY_KIND: Final[Mapping[tuple[str, str], IndexedKind]] = {
    (kind.resource.group, kind.resource.kind): kind for kind in KINDS
}


def apply_object(index: ClusterIndex, raw: Raw) -> bool:
    """Put one object into an index; False when no answer depends on its kind. Raises as the parsers do.

    An object without namespace is taken as of `default`, as kubectl does.
    """
    group, _, _ = raw.get("apiVersion", "v1").rpartition("/")
    kind = _BY_KIND.get((group, raw.get("kind", "")))
    if kind is None:
        return False
    if kind.resource.namespaced:
        raw = {**raw, "metadata": {"namespace": "default", **raw["metadata"]}}
    kind.table(index).apply(key_of(raw), kind.parse(raw))
    return True


def index_from_objects(objects: Iterable[Raw]) -> ClusterIndex:
    """An index of objects as manifests or the API have them."""
    index = ClusterIndex()
    for raw in objects:
        apply_object(index, raw)
    return index
