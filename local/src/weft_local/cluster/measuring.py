"""Waits for the first numbers: a mesh that was just brought up is shown with them, not with empty rows."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

import grpc.aio
from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import PODS
from weft_proto.weft import metrics_pb2
from weft_proto.weft.metrics_pb2_grpc import MetricsStub

NAMESPACE: Final = "linkerd-viz"
COMPONENT: Final = "metrics-api"
PORT: Final = 8085
LOOK_EVERY_S: Final = 0.5


async def until_measured(kube: KubeClient, namespaces: Collection[str], limit_s: float) -> bool:
    """Whether every meshed Deployment of the namespaces had traffic within limit_s; False at once without metrics-api.

    Traffic is up to the user's workloads, so having none is no failure.
    """
    address = await _address(kube)
    if address is None:
        return False
    try:
        async with asyncio.timeout(limit_s), grpc.aio.insecure_channel(address) as channel:
            stub = MetricsStub(channel)
            request = metrics_pb2.StatSummaryRequest(selector=metrics_pb2.Resource(kind="deployment"))
            while True:
                answer = await stub.StatSummary(request, wait_for_ready=True)
                if all(_is_measured(row) for row in answer.rows if row.resource.namespace in namespaces):
                    return True
                await asyncio.sleep(LOOK_EVERY_S)
    except (TimeoutError, grpc.aio.AioRpcError):
        return False


def _is_measured(row: metrics_pb2.StatRow) -> bool:
    return row.meshed_pods == 0 or any(row.HasField(field) for field in ("http", "exchanges", "sent"))


async def _address(kube: KubeClient) -> str | None:
    try:
        pods = await kube.list(PODS.path(NAMESPACE))
    except KubeError:
        return None
    found = [pod for pod in pods["items"] if pod["metadata"]["name"].startswith(COMPONENT)]
    ips = [ip for pod in found if (ip := pod.get("status", {}).get("podIP"))]
    return f"{ips[0]}:{PORT}" if ips else None
