"""Finds an address of a control-plane service that accepts connections from here.

The Service's cluster address is tried, then the addresses of its ready pods. Both work where the caller can reach the
cluster's network, as on the machine of a `weft local` cluster; elsewhere a port-forward does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import PODS, SERVICES

from weft_cli.errors import CliError

CONNECT_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Reachable:
    """A service to reach. install: what to do when the cluster has none of it."""

    namespace: str
    service: str
    port: int
    install: str


async def find_address(kube: KubeClient, wanted: Reachable) -> str:
    """host:port. Raises CliError, KubeError."""
    candidates: list[str] = []
    try:
        service = await kube.get(SERVICES.path(wanted.namespace, wanted.service))
    except KubeError as error:
        if error.status != 404:
            raise
        raise CliError(
            f"this cluster has no {wanted.service}: Service {wanted.namespace}/{wanted.service} does not exist",
            hint=wanted.install,
        ) from error
    cluster_ip = service.get("spec", {}).get("clusterIP")
    if cluster_ip and cluster_ip != "None":
        candidates.append(cluster_ip)
    candidates += await _ready_pod_ips(kube, wanted.namespace, service.get("spec", {}).get("selector") or {})
    for host in candidates:
        if await _accepts(host, wanted.port):
            return _authority(host, wanted.port)
    if len(candidates) < 2:
        raise CliError(f"{wanted.service} has no ready pod", hint=f"look:  kubectl get pods -n {wanted.namespace}")
    tried = ", ".join(_authority(host, wanted.port) for host in candidates)
    hint = (
        f"forward it:  kubectl port-forward -n {wanted.namespace} svc/{wanted.service} {wanted.port}  "
        f"and pass --api-addr localhost:{wanted.port}"
    )
    raise CliError(f"{wanted.service} cannot be reached from here (tried {tried})", hint=hint)


async def _ready_pod_ips(kube: KubeClient, namespace: str, selector: dict[str, str]) -> list[str]:
    labels = ",".join(f"{name}={value}" for name, value in selector.items())
    pods = await kube.list(PODS.path(namespace), {"labelSelector": labels} if labels else {})
    return [
        pod["status"]["podIP"]
        for pod in pods["items"]
        if pod.get("status", {}).get("podIP")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])
    ]


async def _accepts(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
