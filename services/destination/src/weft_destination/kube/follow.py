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
    SERVER_AUTHORIZATIONS,
    SERVERS,
    parse_authorization_policy,
    parse_mesh_authentication,
    parse_network_authentication,
    parse_server,
    parse_server_authorization,
)


@dataclass(frozen=True, slots=True)
class ClusterFollower:
    """Keeps an index in step with the cluster."""

    informers: tuple[Informer[Any], ...]

    async def run(self) -> None:
        """Follow every kind until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self.informers:
                group.create_task(informer.run(), name=f"follow {informer.resource.plural}")

    async def wait_synced(self) -> None:
        """Return once every kind has been listed."""
        for informer in self.informers:
            await informer.synced.wait()

    def missing(self) -> list[str]:
        """Kinds that have not been listed yet, in words."""
        return [f"waiting for {i.resource.plural}" for i in self.informers if not i.synced.is_set()]


def follow_cluster(kube: KubeClient, index: ClusterIndex, registry: CollectorRegistry) -> ClusterFollower:
    """Informers for every kind that answers depend on, with a gauge for those that lost the API server."""
    informers: tuple[Informer[Any], ...] = (
        Informer(kube, NAMESPACES, parse_namespace, index.namespaces),
        Informer(kube, NODES, parse_node, index.nodes),
        Informer(kube, REPLICA_SETS, parse_replica_set, index.replica_sets),
        Informer(kube, PODS, parse_pod, index.pods),
        Informer(kube, SERVICES, parse_service, index.services),
        Informer(kube, ENDPOINT_SLICES, parse_slice, index.slices),
        *_follow_policy(kube, index.policy),
    )
    stale = Gauge(
        "weft_destination_stale",
        "1 while a kind cannot be followed and answers rest on its last known state",
        ["resource"],
        registry=registry,
    )
    for informer in informers:
        stale.labels(informer.resource.plural).set_function(
            lambda informer=informer: float(informer.stale or not informer.synced.is_set())  # type: ignore[misc]
        )
    return ClusterFollower(informers)


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
