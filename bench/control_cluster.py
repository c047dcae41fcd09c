"""The cluster that the control plane is measured with: Services with pods behind them, and changes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from weft_common.kube.client import KubeClient
from weft_common.kube.resource import ENDPOINT_SLICES, PODS, SERVICES
from weft_destination.testing.raw import raw_endpoint, raw_pod, raw_service, raw_slice

NAMESPACE: Final = "load"
# What a slice of the control plane holds at most.
ENDPOINTS_PER_SLICE: Final = 100
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class LoadedCluster:
    """Services `s0`, `s1` … of namespace `load`; pod `s0-3` is the fourth behind the first."""

    kube: KubeClient

    async def prepare(self) -> None:
        """The namespace and its ServiceAccount."""
        await self.kube.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        account = {"metadata": {"name": "default"}}
        await self.kube.create(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account)

    async def add_services(self, first: int, end: int, endpoints: int) -> None:
        """Services first..end-1, each with that many endpoints, with their pods and slices."""
        pods = (self._create_pod(service, pod) for service in range(first, end) for pod in range(endpoints))
        await all_of(pods)
        await all_of(self._create_service(service, range(endpoints)) for service in range(first, end))

    async def create_pods(self, service: int, pods: Iterable[int]) -> None:
        """More pods, not yet endpoints."""
        await all_of(self._create_pod(service, pod) for pod in pods)

    async def set_endpoints(self, service: int, pods: Iterable[int], port: int = 8080) -> None:
        """Make these pods, on this port, the endpoints of a Service."""
        path = ENDPOINT_SLICES.path(NAMESPACE, f"s{service}-1")
        await self.kube.update(path, _slice(service, pods, port))

    async def delete_pod(self, service: int, pod: int) -> None:
        await self.kube.delete(PODS.path(NAMESPACE, f"s{service}-{pod}"), {"gracePeriodSeconds": "0"})

    async def _create_pod(self, service: int, pod: int) -> None:
        number = service * 1024 + pod
        address = f"10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}"
        await self.kube.create(PODS.path(NAMESPACE), raw_pod(f"s{service}-{pod}", address, NAMESPACE))

    async def _create_service(self, service: int, pods: Iterable[int]) -> None:
        await self.kube.create(SERVICES.path(NAMESPACE), raw_service(f"s{service}", NAMESPACE))
        await self.kube.create(ENDPOINT_SLICES.path(NAMESPACE), _slice(service, pods, 8080))


def authority(service: int) -> str:
    """What a proxy would ask for."""
    return f"s{service}.{NAMESPACE}.svc.cluster.local:80"


async def all_of(works: Iterable[Awaitable[Any]]) -> None:
    """Do all, a few at a time."""
    pending = iter(works)

    async def worker() -> None:
        for work in pending:
            await work

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(worker())


def _slice(service: int, pods: Iterable[int], port: int) -> dict[str, Any]:
    endpoints = []
    for pod in pods:
        number = service * 1024 + pod
        address = f"10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}"
        endpoints.append(raw_endpoint(f"s{service}-{pod}", address, NAMESPACE))
    return raw_slice(f"s{service}-1", f"s{service}", endpoints, NAMESPACE, port)
