"""The parent process of a cluster: API server, controllers, node, DNS, addresses, in one event loop.

Order of life: the pod network's own address first, because the API server listens there too; then the API, the objects
every cluster has, and everything that follows the API. On the way down the controllers end first, so that nothing
replaces what the node stops; the API server ends last, because stopping pods report to it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_common.log import get_logger
from weft_common.tasks import forever

from weft_local.apiserver.server import ADMIN, ApiServer, ApiServerSettings
from weft_local.apiserver.webhooks import ResolveService
from weft_local.cluster import pki
from weft_local.cluster.bootstrap import write_first_objects
from weft_local.cluster.forward import forward
from weft_local.cluster.kubeconfig import kubeconfig, write_private
from weft_local.cluster.ports import free_port
from weft_local.cluster.resolve import ready_address
from weft_local.cluster.state import Record, StateDir, process_start, write_record
from weft_local.controllers.runner import Controllers
from weft_local.dns.server import DnsServer
from weft_local.node.network import PodNetwork
from weft_local.node.node import Node
from weft_local.node.settings import NodeSettings
from weft_local.services.rules import ServiceRules

API_PORT: Final = 6443
WEB_PORT: Final = 8084
WEB_SERVICE: Final = ("linkerd-viz", "web", 8084)
_LOOPBACK: Final = "127.0.0.1"
_API_NAMES: Final = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)
# Longest that pods may take to stop when the whole cluster goes; whoever waits for `down` waits this long at most.
STOP_S: Final = 15.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Access:
    """How to reach the API from this host and from pods."""

    config: KubeConfig
    ca_pem: str
    settings: ApiServerSettings
    port: int


async def run_cluster(settings: NodeSettings, state: StateDir, manifests: tuple[str, ...], stop: asyncio.Event) -> None:
    """Run until stop is set and every pod has stopped. Raises OSError when a part cannot start."""
    network = PodNetwork(settings)
    try:
        await network.setup_host()
    finally:
        network.close()

    web_port = free_port(WEB_PORT)
    server: ApiServer
    access = _prepare_access(settings, state, lambda *service: _resolve(server, *service))
    server = ApiServer(access.settings)
    record = Record(
        name=state.name,
        pid=os.getpid(),
        process_start=process_start(os.getpid()) or 0,
        started_at=time.time(),
        api=access.config.server,
        web=f"http://{_LOOPBACK}:{web_port}",
        manifests=manifests,
        serving=False,
    )
    write_record(state, record)
    api_stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(api_stop), name="api server")
        await server.started.wait()
        async with KubeClient(access.config) as kube:
            gateway = (str(settings.gateway_ip), access.port)
            await write_first_objects(kube, str(settings.service_cidr[1]), gateway)
            node = Node(settings)
            server.runtime = node
            dns = DnsServer(str(settings.dns_ip), settings.cluster_domain)
            rules = ServiceRules(settings)
            followers = [
                group.create_task(forever(name, loop), name=name)
                for name, loop in _followers(kube, server, dns, rules, access, web_port)
            ]
            pods = group.create_task(node.run(kube, stop), name="node")
            # Pods resolve names and reach ClusterIPs from their first moment.
            await asyncio.gather(node.ready.wait(), dns.ready.wait(), rules.ready.wait())
            write_record(state, replace(record, serving=True))
            _log.info("cluster serves", api=record.api, web=record.web)
            await stop.wait()
            for task in followers[:1]:
                task.cancel()
            try:
                async with asyncio.timeout(STOP_S):
                    await asyncio.shield(pods)
            except TimeoutError:
                _log.warning("some pods did not stop in time; what is left is killed", after_s=STOP_S)
                pods.cancel()
            for task in followers:
                task.cancel()
        api_stop.set()


def _followers(
    kube: KubeClient, server: ApiServer, dns: DnsServer, rules: ServiceRules, access: _Access, web_port: int
) -> list[tuple[str, Awaitable[None]]]:
    """Loops that live as long as the cluster; the controllers are the first."""
    return [
        ("controllers", Controllers(kube, access.ca_pem).run()),
        ("dns", dns.run(kube)),
        ("service rules", rules.run(kube)),
        ("web forward", forward(_LOOPBACK, web_port, lambda: ready_address(server.operations, *WEB_SERVICE))),
    ]


async def _resolve(server: ApiServer, namespace: str, name: str, port: int) -> tuple[str, int]:
    return ready_address(server.operations, namespace, name, port)


def _prepare_access(settings: NodeSettings, state: StateDir, resolve: ResolveService) -> _Access:
    """Keys, certificate, token and port of the API server, written where the user and the server find them."""
    now = datetime.now(UTC)
    authority = pki.certificate_authority(f"weft-local-{state.name}", now)
    service_ip, gateway_ip = str(settings.service_cidr[1]), str(settings.gateway_ip)
    certificate = pki.server_certificate(authority, _API_NAMES, [_LOOPBACK, gateway_ip, service_ip], now)
    certificate_file, key_file = state.pki / "apiserver.crt", state.pki / "apiserver.key"
    write_private(certificate_file, certificate.certificate_pem)
    write_private(key_file, certificate.key_pem)
    port = free_port(API_PORT)
    token = secrets.token_urlsafe(32)
    ca_pem = authority.certificate_pem
    config = KubeConfig(server=f"https://{_LOOPBACK}:{port}", ca_pem=ca_pem, token=token)
    write_private(state.kubeconfig, kubeconfig(state.name, config.server, ca_pem, token))
    return _Access(
        config=config,
        ca_pem=ca_pem,
        port=port,
        settings=ApiServerSettings(
            addresses=((_LOOPBACK, port), (gateway_ip, port)),
            certificate=certificate_file,
            private_key=key_file,
            token_key=pki.new_key(),
            service_cidr=settings.service_cidr,
            resolve_service=resolve,
            tokens={token: ADMIN},
            reserved_ips=(service_ip,),
        ),
    )
