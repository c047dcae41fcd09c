"""Builds and connects the destination service; the one place that knows every part."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Mapping

import grpc
from prometheus_client import CollectorRegistry
from weft_common.admin import AdminServer
from weft_common.grpc_server import serve_grpc
from weft_common.kube.client import KubeClient
from weft_common.kube.config import load_kube_config
from weft_common.kube.lease import LeaseHolder
from weft_common.log import get_logger
from weft_common.redis_cache import RedisCache
from weft_common.settings import Mistake, SettingsError
from weft_common.tasks import forever, until
from weft_common.version import VERSION

from weft_destination.answers import Answers, make_answers
from weft_destination.config import DestinationSettings
from weft_destination.kube import external_slices
from weft_destination.kube.external_slices import ExternalSliceWriter
from weft_destination.kube.follow import ClusterFollower, follow_cluster
from weft_destination.kube.status import LEASE, StatusWriter
from weft_destination.rpc.destination import DestinationService
from weft_destination.rpc.inbound import InboundService
from weft_destination.rpc.outbound import OutboundService
from weft_destination.rpc.streams import StreamMetrics
from weft_destination.store.served import ServedAnswers
from weft_destination.store.snapshots import EndpointSnapshots

_log = get_logger(__name__)


async def run(settings: DestinationSettings, stop: asyncio.Event, environ: Mapping[str, str] = os.environ) -> None:
    """Serve until stop is set. Raises ConfigurationError, OSError for a port in use."""
    async with KubeClient(load_kube_config(environ=environ)) as kube:
        await serve(settings, kube, stop)


async def serve(settings: DestinationSettings, kube: KubeClient, stop: asyncio.Event) -> None:
    """Serve with a given API server until stop is set."""
    registry = CollectorRegistry()
    cache = _cache(settings.redis_url, registry)
    # The views tell the snapshots of each change, and the snapshots are made from the views' index.
    snapshots: EndpointSnapshots
    answers = make_answers(settings.mesh, lambda asked: snapshots.note(asked.target))
    follower = follow_cluster(kube, answers.index, registry)
    snapshots = EndpointSnapshots(cache, ServedAnswers(answers, follower), settings.snapshot_ttl, registry)
    status_lease, slice_lease = (
        LeaseHolder(kube, settings.mesh.control_plane_namespace, lease, socket.gethostname())
        for lease in (LEASE, external_slices.LEASE)
    )
    statuses = StatusWriter(kube, answers.index, settings.mesh, status_lease, follower.books, registry)
    slices = ExternalSliceWriter(kube, answers.index, follower.selectors, slice_lease, registry)
    answers.refresher.kinds += [statuses, slices]
    metrics = StreamMetrics(registry)
    destination = DestinationService(answers, metrics, snapshots.load)
    policies = (OutboundService(answers, metrics), InboundService(answers, metrics))
    admin = AdminServer(settings.admin_port, follower.missing, registry)
    try:
        async with (
            admin.serving() as admin_port,
            serve_grpc(f"0.0.0.0:{settings.grpc_port}", lambda server: _register(server, destination)) as grpc_port,
            serve_grpc(f"0.0.0.0:{settings.policy_port}", lambda server: _register(server, *policies)) as policy_port,
        ):
            _log.info(
                "destination is serving",
                version=VERSION,
                grpc_port=grpc_port,
                policy_port=policy_port,
                admin_port=admin_port,
            )
            await until(
                stop,
                forever("cluster informers", follower.run()),
                forever("snapshots", snapshots.write_through()),
                forever("snapshots that do not change", snapshots.keep_alive()),
                _write_to_cluster(follower, status_lease, statuses),
                _write_to_cluster(follower, slice_lease, slices),
                _announce_sync(follower, answers, snapshots),
            )
            # Before the servers stop: streams that end well make proxies reconnect elsewhere at once.
            answers.refresher.drain()
    finally:
        await cache.close()


async def _announce_sync(follower: ClusterFollower, answers: Answers, snapshots: EndpointSnapshots) -> None:
    await follower.wait_synced()
    answers.refresher.synced.set()
    snapshots.cluster_is_known()
    # The cluster's objects stay. Looking through them again and again would stop every stream for a tenth of a second.
    gc.freeze()
    _log.info("the cluster is known", services=len(list(answers.index.services.names())))


async def _write_to_cluster(
    follower: ClusterFollower, lease: LeaseHolder, writer: StatusWriter | ExternalSliceWriter
) -> None:
    # What is written before every kind is known would tell of objects that are there as missing.
    await follower.wait_synced()
    async with asyncio.TaskGroup() as group:
        group.create_task(forever(f"lease {lease.name}", lease.run()), name=f"lease {lease.name}")
        group.create_task(forever(f"holder of {lease.name}", writer.run()), name=f"holder of {lease.name}")


def _register(server: grpc.aio.Server, *services: DestinationService | OutboundService | InboundService) -> None:
    server.add_generic_rpc_handlers(tuple(service.handler() for service in services))


def _cache(url: str, registry: CollectorRegistry) -> RedisCache:
    try:
        return RedisCache.from_url(url, registry)
    except ValueError as error:
        raise SettingsError([Mistake("WEFT_REDIS_URL", url, str(error))]) from error
