"""Asks metrics-api, in the CLI's own values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_proto.weft import metrics_pb2 as pb
from weft_proto.weft import metrics_pb2_grpc

from weft_cli.core.edges_view import EdgeLine
from weft_cli.core.resources import Target
from weft_cli.core.stat_view import Measured, StatLine
from weft_cli.errors import BadInput, CliError
from weft_cli.reaching import Reachable, find_address

T = TypeVar("T")

VIZ_NAMESPACE: Final = "linkerd-viz"
METRICS_API: Final = "metrics-api"
METRICS_PORT: Final = 8085
CALL_TIMEOUT_S: Final = 15.0
_METRICS_API: Final = Reachable(
    VIZ_NAMESPACE,
    METRICS_API,
    METRICS_PORT,
    "install it with its chart, weft-metrics-api; `weft local up` brings it along",
)


@dataclass(frozen=True, slots=True)
class TapQuery:
    """Empty texts admit everything. to: a resource and its namespace."""

    target: Target
    namespace: str
    to: tuple[Target, str] | None
    max_rps: float
    scheme: str
    method: str
    authority: str
    path: str
    extract_headers: bool


class MetricsClient:
    """weft.metrics.v1 at one address."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._stub: metrics_pb2_grpc.MetricsAsyncStub = metrics_pb2_grpc.MetricsStub(channel)

    async def stat(
        self,
        target: Target,
        namespace: str,
        window_s: float,
        to: tuple[Target, str] | None = None,
        from_: tuple[Target, str] | None = None,
    ) -> list[StatLine]:
        """Rows in the API's order. to, from_: a resource and its namespace. Raises CliError."""
        ends: dict[str, Any] = {}
        if to is not None:
            ends["to"] = _resource(*to)
        if from_ is not None:
            ends["from"] = _resource(*from_)
        request = pb.StatSummaryRequest(selector=_resource(target, namespace), window_s=window_s, **ends)
        answer = await self._call(self._stub.StatSummary(request, timeout=CALL_TIMEOUT_S))
        return [_stat_line(row) for row in answer.rows]

    async def edges(self, kind: str, namespace: str, window_s: float) -> list[EdgeLine]:
        """Edges in the API's order. Raises CliError."""
        request = pb.EdgesRequest(selector=pb.Resource(kind=kind, namespace=namespace), window_s=window_s)
        answer = await self._call(self._stub.Edges(request, timeout=CALL_TIMEOUT_S))
        return [_edge_line(edge) for edge in answer.edges]

    async def tap(self, query: TapQuery) -> AsyncIterator[pb.TapEvent]:
        """Events until the caller stops. Raises CliError."""
        request = pb.TapRequest(
            target=_resource(query.target, query.namespace),
            to=_resource(*query.to) if query.to else None,
            max_rps=query.max_rps,
            scheme=query.scheme,
            method=query.method,
            authority=query.authority,
            path=query.path,
            extract_headers=query.extract_headers,
        )
        try:
            async for event in self._stub.Tap(request):
                yield event
        except grpc.aio.AioRpcError as error:
            raise _cli_error(error, self.address) from error

    async def decisions(
        self, target: Target, namespace: str, *, failures_only: bool, limit: int, request_id: str = ""
    ) -> pb.DecisionsResponse:
        """Records, newest first. Raises CliError."""
        request = pb.DecisionsRequest(
            target=_resource(target, namespace), failures_only=failures_only, limit=limit, id=request_id
        )
        return await self._call(self._stub.Decisions(request, timeout=CALL_TIMEOUT_S))

    async def self_check(self) -> Sequence[pb.CheckResult]:
        """The service's own opinion of itself. Raises CliError."""
        answer = await self._call(self._stub.SelfCheck(pb.SelfCheckRequest(), timeout=CALL_TIMEOUT_S))
        return answer.results

    async def _call(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise _cli_error(error, self.address) from error


def _cli_error(error: grpc.aio.AioRpcError, address: str) -> CliError:
    details = error.details() or error.code().name
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return BadInput(details)
    if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
        return CliError(details)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return CliError(f"metrics-api at {address} does not answer: {details}", hint="see why:  weft check")
    return CliError(f"metrics-api at {address} failed: {details} ({error.code().name})")


@asynccontextmanager
async def metrics_client(config: KubeConfig | None, api_addr: str | None) -> AsyncIterator[MetricsClient]:
    """A client for the block. config may be None only when api_addr is given. Raises CliError."""
    if api_addr is None:
        if config is None:
            raise TypeError("a cluster or an address is needed")
        async with KubeClient(config) as kube:
            api_addr = await find_metrics_api(kube)
    async with grpc.aio.insecure_channel(api_addr, options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield MetricsClient(api_addr, channel)


async def find_metrics_api(kube: KubeClient) -> str:
    """An address of metrics-api that accepts connections from here. Raises CliError, KubeError."""
    return await find_address(kube, _METRICS_API)


def _resource(target: Target, namespace: str) -> pb.Resource:
    return pb.Resource(kind=target.kind, name=target.name, namespace="" if target.kind == "namespace" else namespace)


def _measured(row: pb.StatRow) -> tuple[Measured | None, pb.HttpStats | None]:
    """What a workload serves says most about it; then the bytes it answers, then what it asks of others."""
    if row.HasField("http"):
        return Measured.SERVED, row.http
    if row.HasField("exchanges"):
        return Measured.EXCHANGED, row.exchanges
    if row.HasField("sent"):
        return Measured.SENT, row.sent
    return None, None


def _stat_line(row: pb.StatRow) -> StatLine:
    measured, requests = _measured(row)
    tcp = row.tcp if row.HasField("tcp") else None
    return StatLine(
        namespace=row.resource.namespace,
        kind=row.resource.kind,
        name=row.resource.name,
        meshed_pods=row.meshed_pods,
        running_pods=row.running_pods,
        success_rate=requests.success_rate if requests else None,
        rps=requests.rps if requests else None,
        p50_ms=requests.latency_ms_p50 if requests and requests.HasField("latency_ms_p50") else None,
        p95_ms=requests.latency_ms_p95 if requests and requests.HasField("latency_ms_p95") else None,
        p99_ms=requests.latency_ms_p99 if requests and requests.HasField("latency_ms_p99") else None,
        open_connections=tcp.open_connections if tcp else None,
        read_bytes_per_s=tcp.read_bytes_per_s if tcp else None,
        write_bytes_per_s=tcp.write_bytes_per_s if tcp else None,
        measured=measured,
    )


def _edge_line(edge: pb.Edge) -> EdgeLine:
    return EdgeLine(
        src=edge.src.name,
        src_kind=edge.src.kind,
        src_namespace=edge.src.namespace,
        dst=edge.dst.name,
        dst_kind=edge.dst.kind,
        dst_namespace=edge.dst.namespace,
        client_id=edge.client_id,
        server_id=edge.server_id,
        secured=edge.secured,
        no_tls_reason=edge.no_tls_reason,
        open_connections=edge.open_connections,
    )
