"""weft.metrics.v1.Metrics over the core's answers: messages in, messages out, errors to statuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc
from weft_proto.weft import metrics_pb2 as pb
from weft_proto.weft import metrics_pb2_grpc

from weft_metrics_api.core.checks import Check, Status
from weft_metrics_api.core.edges import Edge, edges
from weft_metrics_api.core.pods import Directory
from weft_metrics_api.core.stat import BadQuery, StatQuery, StatRow, stat_rows
from weft_metrics_api.core.tap import NothingToTap
from weft_metrics_api.core.traffic import Requests, Tcp
from weft_metrics_api.core.window import Window
from weft_metrics_api.rpc.messages import resource, selector
from weft_metrics_api.rpc.requests import ProxyQuestions

Context = grpc.aio.ServicerContext

DEFAULT_WINDOW_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class MetricsService(metrics_pb2_grpc.MetricsServicer):
    """missing: what has not been listed yet. self_check: the service's own state. Both are asked per call."""

    directory: Directory
    window: Window
    resolution_s: float
    missing: Callable[[], Sequence[str]]
    self_check: Callable[[], Sequence[Check]]
    questions: ProxyQuestions

    async def StatSummary(  # noqa: N802 - the name is the contract's
        self,
        request: pb.StatSummaryRequest,
        context: Context[pb.StatSummaryRequest, pb.StatSummaryResponse],
    ) -> pb.StatSummaryResponse:
        """Rows, sorted. INVALID_ARGUMENT for a question that has no answer, UNAVAILABLE before the first list."""
        await self._refuse_unready(context)
        try:
            query = StatQuery(
                selector=selector(request.selector),
                window_s=self._window_s(request.window_s),
                to=selector(request.to) if request.HasField("to") else None,
                from_=selector(getattr(request, "from")) if request.HasField("from") else None,
            )
            rows, covered_s = stat_rows(self.directory, self.window, query)
        except BadQuery as error:
            await _refuse(context, error)
        return pb.StatSummaryResponse(rows=[_row(row) for row in rows], covered_s=covered_s)

    async def Edges(  # noqa: N802
        self, request: pb.EdgesRequest, context: Context[pb.EdgesRequest, pb.EdgesResponse]
    ) -> pb.EdgesResponse:
        """Edges, sorted. Statuses as StatSummary."""
        await self._refuse_unready(context)
        try:
            found = edges(self.directory, self.window, selector(request.selector), self._window_s(request.window_s))
        except BadQuery as error:
            await _refuse(context, error)
        return pb.EdgesResponse(edges=[_edge(edge) for edge in found])

    async def Tap(  # type: ignore[override]  # noqa: N802 - gRPC also takes a coroutine that writes to its context
        self, request: pb.TapRequest, context: Context[pb.TapRequest, pb.TapEvent]
    ) -> None:
        """Events until the client leaves. Statuses as StatSummary, and FAILED_PRECONDITION when no pod can be asked."""
        await self._refuse_unready(context)
        try:
            to = selector(request.to) if request.HasField("to") else None
            await self.questions.tap(request, selector(request.target), to, context)
        except (BadQuery, NothingToTap) as error:
            await _refuse(context, error)

    async def Decisions(  # noqa: N802
        self, request: pb.DecisionsRequest, context: Context[pb.DecisionsRequest, pb.DecisionsResponse]
    ) -> pb.DecisionsResponse:
        """Decisions, newest first. Statuses as Tap."""
        await self._refuse_unready(context)
        try:
            return await self.questions.decisions(request, selector(request.target))
        except (BadQuery, NothingToTap) as error:
            await _refuse(context, error)

    async def SelfCheck(  # noqa: N802
        self, request: pb.SelfCheckRequest, context: Context[pb.SelfCheckRequest, pb.SelfCheckResponse]
    ) -> pb.SelfCheckResponse:
        """The state of each subsystem."""
        return pb.SelfCheckResponse(results=[_check(check) for check in self.self_check()])

    def _window_s(self, asked_s: float) -> float:
        window_s = asked_s or DEFAULT_WINDOW_S
        if window_s < self.resolution_s:
            raise BadQuery(f"window_s: {window_s:g} s is less than the scrape interval of {self.resolution_s:g} s")
        return window_s

    async def _refuse_unready(self, context: Context[Any, Any]) -> None:
        if missing := self.missing():
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"not ready: {'; '.join(missing)}")


async def _refuse(context: Context[Any, Any], error: BadQuery | NothingToTap) -> NoReturn:
    is_question = isinstance(error, BadQuery)
    status = grpc.StatusCode.INVALID_ARGUMENT if is_question else grpc.StatusCode.FAILED_PRECONDITION
    await context.abort(status, str(error))


def _requests(requests: Requests | None) -> pb.HttpStats | None:
    if requests is None:
        return None
    return pb.HttpStats(
        success_count=requests.success_count,
        failure_count=requests.failure_count,
        success_rate=requests.success_rate,
        rps=requests.rps,
        latency_ms_p50=requests.p50_ms,
        latency_ms_p95=requests.p95_ms,
        latency_ms_p99=requests.p99_ms,
    )


def _tcp(tcp: Tcp | None) -> pb.TcpStats | None:
    if tcp is None:
        return None
    return pb.TcpStats(
        open_connections=tcp.open_connections,
        read_bytes_per_s=tcp.read_bytes_per_s,
        write_bytes_per_s=tcp.write_bytes_per_s,
    )


def _row(row: StatRow) -> pb.StatRow:
    return pb.StatRow(
        resource=resource(row.resource),
        meshed_pods=row.meshed_pods,
        running_pods=row.running_pods,
        failed_pods=row.failed_pods,
        http=_requests(row.http),
        tcp=_tcp(row.tcp),
        sent=_requests(row.sent),
        exchanges=_requests(row.exchanges),
    )


def _edge(edge: Edge) -> pb.Edge:
    return pb.Edge(
        src=resource(edge.src),
        dst=resource(edge.dst),
        client_id=edge.client_id,
        server_id=edge.server_id,
        secured=edge.secured,
        no_tls_reason=edge.no_tls_reason,
        open_connections=edge.tcp.open_connections if edge.tcp else 0,
        http=_requests(edge.http),
        tcp=_tcp(edge.tcp),
        exchanges=_requests(edge.exchanges),
    )


_STATUSES: Final = {
    Status.OK: pb.CheckResult.OK,
    Status.WARNING: pb.CheckResult.WARNING,
    Status.FAILED: pb.CheckResult.FAILED,
}


def _check(check: Check) -> pb.CheckResult:
    return pb.CheckResult(
        subsystem=check.subsystem,
        description=check.description,
        status=_STATUSES[check.status],
        message=check.message,
    )
