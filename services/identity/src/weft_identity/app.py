"""Builds and connects the identity service; the one place that knows every part."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import grpc
from prometheus_client import CollectorRegistry, Gauge
from weft_common.admin import AdminServer
from weft_common.grpc_server import serve_grpc
from weft_common.kube.client import KubeClient
from weft_common.kube.config import load_kube_config
from weft_common.log import get_logger
from weft_common.redis_cache import RedisCache
from weft_common.settings import ConfigurationError, Mistake, SettingsError
from weft_common.tasks import forever, until
from weft_common.version import VERSION
from weft_proto.linkerd import identity_pb2_grpc
from weft_proto.weft import identity_pb2_grpc as weft_identity_pb2_grpc

from weft_identity.aftermath import Aftermath
from weft_identity.authority import Authority, ProveWorkload
from weft_identity.certificates import CertificatesService
from weft_identity.config import IdentitySettings
from weft_identity.core.issuer import IssuerUnusable
from weft_identity.core.leaf import Lifetime
from weft_identity.core.names import TrustDomain
from weft_identity.expiry_watch import ExpiryWatch
from weft_identity.kube import KubeTokenReviews, check_may_review_tokens
from weft_identity.material import MaterialFiles
from weft_identity.pods import BarePods, ClusterPods, MeshedPods, bare_pods_informer, pods_informer
from weft_identity.ports import Material
from weft_identity.rotator import Rotator
from weft_identity.rpc import CertifyMetrics, IdentityService
from weft_identity.store import CertificateInventory
from weft_identity.trust import TrustNews, TrustService

_log = get_logger(__name__)


class IssuerRejected(ConfigurationError):
    """The issuer that is mounted can never sign."""


def utc_now() -> datetime:
    """The clock that core functions are given."""
    return datetime.now(UTC)


async def run(settings: IdentitySettings, stop: asyncio.Event, environ: Mapping[str, str] = os.environ) -> None:
    """Serve until stop is set. Raises ConfigurationError, OSError for a port in use."""
    async with KubeClient(load_kube_config(environ=environ)) as kube:
        await check_may_review_tokens(kube)
        await serve(settings, kube, stop)


async def serve(settings: IdentitySettings, kube: KubeClient, stop: asyncio.Event) -> None:
    """Serve with a given API server until stop is set."""
    registry = CollectorRegistry()
    cache = _cache(settings.redis_url, registry)
    inventory = CertificateInventory(cache, utc_now)
    aftermath = Aftermath(kube, inventory, settings.control_plane_namespace, utc_now, registry)
    news = TrustNews()

    def updated(fresh: Material) -> None:
        aftermath.issuer_updated(fresh)
        news.publish(fresh)

    material = MaterialFiles(settings.issuer_dir, settings.trust_roots_file, updated, aftermath.issuer_update_skipped)
    try:
        material.load_first()
    except IssuerUnusable as error:
        raise IssuerRejected(f"issuer in {settings.issuer_dir}: {error}") from error
    if material.current is not None:
        news.publish(material.current)
    _issuer_ttl_gauge(material, registry)
    pods, bare_pods = MeshedPods(), BarePods()
    pods_followed = pods_informer(kube, pods, settings.control_plane_namespace)
    bare_pods_followed = bare_pods_informer(kube, bare_pods, settings.control_plane_namespace)
    proof = ProveWorkload(
        TrustDomain(settings.control_plane_namespace, settings.trust_domain),
        KubeTokenReviews(kube, settings.accept_api_tokens),
        ClusterPods(pods, bare_pods),
    )
    authority = Authority(
        proof=proof,
        lifetime=Lifetime(settings.issuance_lifetime, settings.clock_skew_allowance),
        material=lambda: material.current,
        observer=aftermath,
        now=utc_now,
    )
    rotator = Rotator(
        kube,
        settings.control_plane_namespace,
        pods,
        inventory,
        settings.issuance_lifetime + 2 * settings.clock_skew_allowance,
        utc_now,
        aftermath.own_event,
        lambda: material.current is not None and material.current.is_over(utc_now()),
    )
    expiry = ExpiryWatch(lambda: material.current, utc_now, aftermath.own_event, registry)
    certify = IdentityService(authority, CertifyMetrics(registry))
    trust = TrustService(news, proof, inventory, utc_now, registry)
    certificates = CertificatesService(
        inventory, lambda: material.current, lambda: material.trouble, settings.issuance_lifetime, utc_now
    )

    def register(server: grpc.aio.Server) -> None:
        identity_pb2_grpc.add_IdentityServicer_to_server(certify, server)
        weft_identity_pb2_grpc.add_TrustServicer_to_server(trust, server)
        weft_identity_pb2_grpc.add_CertificatesServicer_to_server(certificates, server)

    admin = AdminServer(settings.admin_port, lambda: _missing(material), registry)
    try:
        async with (
            admin.serving() as admin_port,
            serve_grpc(f"0.0.0.0:{settings.grpc_port}", register) as grpc_port,
        ):
            _log.info("identity is serving", version=VERSION, grpc_port=grpc_port, admin_port=admin_port)
            await until(
                stop,
                forever("issuer reload", material.follow()),
                forever("events", aftermath.post_events()),
                forever("records", inventory.write_behind()),
                forever("records written again", inventory.catch_up()),
                forever("expiry", expiry.run()),
                forever("pods", pods_followed.run()),
                forever("pods outside the mesh", bare_pods_followed.run()),
                forever("rotation state", rotator.informer().run()),
                forever("rotation", rotator.run(pods_followed.synced)),
            )
    finally:
        await cache.close()


def _missing(material: MaterialFiles) -> Sequence[str]:
    if material.current is not None:
        return []
    return [f"no usable issuer in {material.issuer_dir}: {material.trouble or 'not loaded yet'}"]


def _cache(url: str, registry: CollectorRegistry) -> RedisCache:
    try:
        return RedisCache.from_url(url, registry)
    except ValueError as error:
        raise SettingsError([Mistake("WEFT_REDIS_URL", url, str(error))]) from error


def _issuer_ttl_gauge(material: MaterialFiles, registry: CollectorRegistry) -> None:
    def seconds_left() -> float:
        if material.current is None:
            return 0.0
        return (material.current.issuer.certificate.not_valid_after_utc - utc_now()).total_seconds()

    gauge = Gauge("issuer_cert_ttl_seconds", "Seconds until the issuer certificate expires", registry=registry)
    gauge.set_function(seconds_left)
