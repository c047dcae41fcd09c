"""Spans from the engine's events to a real OTLP collector."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from weft_proto.weft import engine_pb2
from weft_proxy import spans
from weft_proxy.core.log_filter import LogFilter
from weft_proxy.core.metrics import SpanMetrics
from weft_proxy.core.settings import ControlService, TraceSettings
from weft_proxy.core.values import parse_host_port
from weft_proxy.logs import LogSink

TRACE_ID, SPAN_ID, PARENT_ID = b"t" * 16, b"s" * 8, b"p" * 8


class Collector(TraceServiceServicer):
    def __init__(self) -> None:
        self.got: asyncio.Queue[ExportTraceServiceRequest] = asyncio.Queue()
        self.refuses = False
        self.refused: asyncio.Queue[None] = asyncio.Queue()

    async def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        if self.refuses:
            self.refused.put_nowait(None)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        self.got.put_nowait(request)
        return ExportTraceServiceResponse()


@contextlib.asynccontextmanager
async def exporting(
    collector: Collector, labels_path: Path
) -> AsyncIterator[tuple[spans.SpanExporter, SpanMetrics, io.StringIO]]:
    server = grpc.aio.server()
    add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated without types
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    service = ControlService("opentelemetry", parse_host_port(f"localhost.:{port}"), "")
    attributes = (("service.name", "cart"), ("k8s.pod.ip", "10.0.0.1"))
    settings = TraceSettings(service, "linkerd-proxy", str(labels_path), attributes)
    metrics, out = SpanMetrics(), io.StringIO()
    log = LogSink(LogFilter.parse("warn"), as_json=False, out=out).logger("test")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.TaskGroup() as group:
        exporter = spans.SpanExporter(settings, channel, metrics, log)
        task = group.create_task(exporter.run())
        yield exporter, metrics, out
        task.cancel()
    await server.stop(None)


def a_span(**changes: Any) -> engine_pb2.Span:
    fields = {
        "trace_id": TRACE_ID,
        "span_id": SPAN_ID,
        "parent_id": PARENT_ID,
        "name": "/quote",
        "start_unix_ns": 1_000,
        "end_unix_ns": 2_000,
        "texts": {"direction": "inbound"},
        "numbers": {"http.response.status_code": 200},
    }
    return engine_pb2.Span(**{**fields, **changes})


async def test_a_batch_reaches_the_collector_with_the_resource_and_every_attribute(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.write_text('app="cart"\nservice.name="by label"\n')
    collector = Collector()
    async with exporting(collector, labels) as (exporter, metrics, _), asyncio.timeout(10):
        for _ in range(spans.BATCH_SIZE):
            exporter.add(a_span())
        (resource_spans,) = (await collector.got.get()).resource_spans
    resource = {pair.key: pair.value.string_value for pair in resource_spans.resource.attributes}
    assert (resource["service.name"], resource["app"], resource["k8s.pod.ip"]) == ("cart", "cart", "10.0.0.1")
    assert {"process.pid", "process.start_timestamp", "host.name"} <= resource.keys()
    (scope,) = resource_spans.scope_spans
    assert len(scope.spans) == spans.BATCH_SIZE
    sent = scope.spans[0]
    assert (sent.trace_id, sent.span_id, sent.parent_span_id, sent.kind) == (
        TRACE_ID, SPAN_ID, PARENT_ID, Span.SPAN_KIND_SERVER,
    )  # fmt: skip
    assert {pair.key: pair.value.string_value or pair.value.int_value for pair in sent.attributes} == {
        "direction": "inbound",
        "http.response.status_code": 200,
    }
    assert (metrics.streams, metrics.requests, metrics.dropped) == (1, 1, 0)


async def test_what_waits_when_the_proxy_stops_is_still_sent(tmp_path: Path) -> None:
    collector = Collector()
    async with exporting(collector, tmp_path / "none") as (exporter, metrics, _), asyncio.timeout(10):
        # The exporter's task begins to wait.
        await asyncio.sleep(0)
        assert metrics.streams == 1
        exporter.add(a_span(is_client=True, is_error=True))
    (sent,) = collector.got.get_nowait().resource_spans[0].scope_spans[0].spans
    assert (sent.kind, sent.status.code) == (Span.SPAN_KIND_CLIENT, Status.STATUS_CODE_ERROR)


async def test_a_collector_that_refuses_costs_spans_and_one_log_line(tmp_path: Path) -> None:
    collector = Collector()
    collector.refuses = True
    async with exporting(collector, tmp_path / "none") as (exporter, metrics, out), asyncio.timeout(10):
        for _ in range(2):
            for _ in range(spans.BATCH_SIZE):
                exporter.add(a_span())
            await collector.refused.get()
    assert metrics.dropped >= spans.BATCH_SIZE
    assert metrics.exports == 0
    assert out.getvalue().count("Spans are not taken") == 1


async def test_spans_beyond_the_buffer_are_counted_and_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "MAX_WAITING", 2)
    async with exporting(Collector(), tmp_path / "none") as (exporter, metrics, _):
        for _ in range(5):
            exporter.add(a_span())
        assert metrics.dropped == 3
