"""Builds the injector and runs it: informers, events, webhooks, admin server. The one place that connects its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry
from weft_common.admin import AdminServer
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_common.log import configure_logging, get_logger
from weft_common.tasks import forever, until
from weft_common.version import VERSION

from weft_injector.config import InjectorSettings
from weft_injector.kube.cluster import Cluster
from weft_injector.kube.events import EventWriter
from weft_injector.mesh_files import MeshFiles
from weft_injector.metrics import AdmissionMetrics
from weft_injector.reviewer import Reviewer, validate
from weft_injector.web.certificate import ServingCertificate
from weft_injector.web.server import serving

_log = get_logger(__name__)


async def run(settings: InjectorSettings, kube_config: KubeConfig, stop: asyncio.Event) -> None:
    """Serve until stop is set. Raises OSError when a port is taken, ConfigurationError without a certificate."""
    configure_logging(settings.log_level, settings.log_format)
    certificate = ServingCertificate(settings.tls_dir)
    policy_certificate = ServingCertificate(settings.policy_tls_dir)
    profile_certificate = ServingCertificate(settings.profile_tls_dir)
    registry = CollectorRegistry()
    files = MeshFiles(settings.values_file, settings.trust_roots_file, settings.control_plane_namespace)
    async with KubeClient(kube_config) as kube:
        cluster, events = Cluster(kube), EventWriter(kube)
        reviewer = Reviewer(files, cluster, events, AdmissionMetrics(registry))

        def missing() -> Sequence[str]:
            return [*cluster.missing(), *_unreadable(files)]

        admin = AdminServer(settings.admin_port, missing, registry)
        async with (
            admin.serving() as admin_port,
            serving(reviewer.review, settings.webhook_port, certificate.context) as port,
            serving(validate, settings.policy_port, policy_certificate.context) as policy_port,
            serving(validate, settings.profile_port, profile_certificate.context) as profile_port,
        ):
            _log.info(
                "injector started",
                port=port,
                policy_port=policy_port,
                profile_port=profile_port,
                admin_port=admin_port,
                version=VERSION,
            )
            await until(
                stop,
                forever("events", events.run()),
                *(forever(informer.resource.plural, informer.run()) for informer in cluster.informers),
            )


def _unreadable(files: MeshFiles) -> Sequence[str]:
    try:
        files.read()
    except ValueError as error:
        return [str(error)]
    return []
