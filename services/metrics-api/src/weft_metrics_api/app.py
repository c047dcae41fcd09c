"""Builds metrics-api and runs it: watches, scraper, gRPC and admin servers. The only place that connects its parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Literal, cast

from prometheus_client import CollectorRegistry
from weft_common.admin import AdminServer
from weft_common.grpc_server import serve_grpc
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_common.log import configure_logging, get_logger
from weft_common.tasks import forever, until
from weft_common.version import VERSION
from weft_proto.weft import metrics_pb2_grpc

from weft_metrics_api.config import MetricsApiSettings
from weft_metrics_api.core.checks import Check, check_cluster, check_scrapes
from weft_metrics_api.core.pods import Directory
from weft_metrics_api.core.window import Window
from weft_metrics_api.kube.watches import ClusterWatches
from weft_metrics_api.rpc.requests import ProxyQuestions
from weft_metrics_api.rpc.service import MetricsService
from weft_metrics_api.scrape.scraper import Scraper

_log = get_logger(__name__)


async def run(settings: MetricsApiSettings, kube_config: KubeConfig, stop: asyncio.Event) -> None:
    """Serve until stop is set. Raises OSError when a port is taken."""
    configure_logging(settings.log_level, cast(Literal["json", "console"], settings.log_format))
    registry = CollectorRegistry()
    interval_s = settings.scrape_interval.total_seconds()
    directory = Directory()
    window = Window(settings.window_retention.total_seconds())
    scraper = Scraper(directory, window, interval_s, registry)
    async with KubeClient(kube_config) as kube:
        watches = ClusterWatches(
            kube, directory, settings.control_plane_namespace, frozenset(settings.ignored_namespaces)
        )

        def self_check() -> Sequence[Check]:
            return (
                check_cluster(watches.missing(), watches.stale()),
                check_scrapes(time.time(), window.newest_round, interval_s, scraper.targets, scraper.failing),
            )

        service = MetricsService(directory, window, interval_s, watches.missing, self_check, ProxyQuestions(directory))
        async with (
            AdminServer(settings.admin_port, watches.missing, registry).serving(),
            serve_grpc(
                f"0.0.0.0:{settings.grpc_port}",
                lambda server: metrics_pb2_grpc.add_MetricsServicer_to_server(service, server),
            ) as port,
        ):
            _log.info("metrics-api started", port=port, scrape_interval_s=interval_s, version=VERSION)
            await until(
                stop,
                *(forever(f"watch of {informer.resource.plural}", informer.run()) for informer in watches.all),
                forever("scraper", _scrape_once_synced(watches, scraper)),
            )


async def _scrape_once_synced(watches: ClusterWatches, scraper: Scraper) -> None:
    # A first round without targets would only make the window look older than it is.
    for informer in watches.needed:
        await informer.synced.wait()
    await scraper.run()
