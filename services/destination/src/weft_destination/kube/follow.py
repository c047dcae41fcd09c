"""One informer per kind, all feeding one index."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from weft_common.kube.client import KubeClient
from weft_common.kube.informer import Informer
from weft_common.kube.resource import ENDPOINT_SLICES, NAMESPACES, NODES, PODS, REPLICA_SETS, SERVICES
from weft_policy.core.index import ClusterIndex
from weft_policy.core.policy_tables import PolicyTables
from weft_policy.core.route_tables import POLICY_GROUP
from weft_policy.core.routes import GATEWAY_GROUP, RouteKind
from weft_policy.kube.parse import (
    parse_namespace,
    parse_node,
    parse_pod,
    parse_replica_set,
    parse_service,
    parse_slice,
)
from weft_policy.kube.parse_policy import (
    AUTHORIZATION_POLICIES,
    MESH_AUTHENTICATIONS,
    NETWORK_AUTHENTICATIONS,
    RATE_LIMITS,
    SERVER_AUTHORIZATIONS,
    SERVERS,
    parse_authorization_policy,
    parse_mesh_authentication,
    parse_network_authentication,
    parse_rate_limit,
    parse_server,
    parse_server_authorization,
)
from weft_policy.kube.parse_routes import (
    EGRESS_NETWORKS,
    GRPC_ROUTES,
    HTTP_ROUTES,
    OTHER_VERSIONS,
    POLICY_HTTP_ROUTES,
    REFERENCE_GRANTS,
    TCP_ROUTES,
    TLS_ROUTES,
    parse_egress_network,
    parse_grpc_route,
    parse_http_route,
    parse_reference_grant,
    parse_tcp_route,
    parse_tls_route,
)

from weft_destination.kube.status import StatusBook


@dataclass(frozen=True, slots=True)
class ClusterFollower:
    """Keeps an index in step with the cluster. books: what the statuses of routes and policies say."""

    informers: tuple[Informer[Any], ...]
    books: tuple[StatusBook[Any], ...] = ()

    async def run(self) -> None:
        """Follow every kind until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self.informers:
                group.create_task(informer.run(), name=f"follow {informer.resource.qualified}")

    async def wait_synced(self) -> None:
        """Return once every kind has been listed."""
        for informer in self.informers:
            await informer.synced.wait()

    def missing(self) -> list[str]:
        """Kinds that have not been listed yet, in words."""
        return [f"waiting for {i.resource.qualified}" for i in self.informers if not i.synced.is_set()]


def follow_cluster(kube: KubeClient, index: ClusterIndex, registry: CollectorRegistry) -> ClusterFollower:
    """Informers for every kind that answers depend on, with a gauge for those that lost the API server."""
    books = _status_books(index)
    followed = tuple(
        Informer(
            kube,
            book.resource,
            book.read,
            book,
            may_be_absent=True,
            other_versions=OTHER_VERSIONS.get(book.resource, ()),
        )
        for book in books
    )
    informers: tuple[Informer[Any], ...] = (
        Informer(kube, NAMESPACES, parse_namespace, index.namespaces),
        Informer(kube, NODES, parse_node, index.nodes),
        Informer(kube, REPLICA_SETS, parse_replica_set, index.replica_sets),
        Informer(kube, PODS, parse_pod, index.pods),
        Informer(kube, SERVICES, parse_service, index.services),
        Informer(kube, ENDPOINT_SLICES, parse_slice, index.slices),
        *_follow_policy(kube, index.policy),
        *followed,
        Informer(
            kube,
            REFERENCE_GRANTS,
            parse_reference_grant,
            index.routes.grants,
            may_be_absent=True,
            other_versions=OTHER_VERSIONS[REFERENCE_GRANTS],
        ),
    )
    stale = Gauge(
        "weft_destination_stale",
        "1 while a kind cannot be followed and answers rest on its last known state",
        ["resource"],
        registry=registry,
    )
    for informer in informers:
        stale.labels(informer.resource.qualified).set_function(
            lambda informer=informer: float(informer.stale or not informer.synced.is_set())  # type: ignore[misc]
        )
    return ClusterFollower(informers, books)


def _follow_policy(kube: KubeClient, tables: PolicyTables) -> tuple[Informer[Any], ...]:
    return (
        Informer(kube, SERVERS, parse_server, tables.servers, may_be_absent=True),
        Informer(
            kube,
            SERVER_AUTHORIZATIONS,
            parse_server_authorization,
            tables.server_authorizations,
            may_be_absent=True,
        ),
        Informer(
            kube,
            AUTHORIZATION_POLICIES,
            parse_authorization_policy,
            tables.authorization_policies,
            may_be_absent=True,
        ),
        Informer(
            kube, MESH_AUTHENTICATIONS, parse_mesh_authentication, tables.mesh_authentications, may_be_absent=True
        ),
        Informer(
            kube,
            NETWORK_AUTHENTICATIONS,
            parse_network_authentication,
            tables.network_authentications,
            may_be_absent=True,
        ),
    )


def _status_books(index: ClusterIndex) -> tuple[StatusBook[Any], ...]:
    routes = index.routes.routes
    return (
        StatusBook(HTTP_ROUTES, parse_http_route, routes[(GATEWAY_GROUP, RouteKind.HTTP)]),
        StatusBook(POLICY_HTTP_ROUTES, parse_http_route, routes[(POLICY_GROUP, RouteKind.HTTP)]),
        StatusBook(GRPC_ROUTES, parse_grpc_route, routes[(GATEWAY_GROUP, RouteKind.GRPC)]),
        StatusBook(TLS_ROUTES, parse_tls_route, routes[(GATEWAY_GROUP, RouteKind.TLS)]),
        StatusBook(TCP_ROUTES, parse_tcp_route, routes[(GATEWAY_GROUP, RouteKind.TCP)]),
        StatusBook(EGRESS_NETWORKS, parse_egress_network, index.routes.egress_networks),
        StatusBook(RATE_LIMITS, parse_rate_limit, index.policy.rate_limits),
    )
