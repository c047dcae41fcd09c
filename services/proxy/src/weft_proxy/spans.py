"""Spans of traced requests, in batches, to an OpenTelemetry collector (observability.md 7.3).

Owns the buffer and its bound, and the form of OTLP; the engine measured the spans. A collector that is away costs
spans, never memory.
"""

import asyncio
import os
import re
import socket
import time
from collections import deque
from pathlib import Path

import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from weft_proto.weft import engine_pb2

from weft_proxy import VERSION
from weft_proxy.core.metrics import SpanMetrics
from weft_proxy.core.settings import TraceSettings
from weft_proxy.logs import Logger

MAX_WAITING = 1_000
BATCH_SIZE = 100
MAX_WAIT_S = 10.0
EXPORT_TIMEOUT_S = 10.0
_LABEL = re.compile(r'^([^=]+)="(.*)"$')


class SpanExporter:
    """`run` sends until cancelled, and then what still waits."""

    def __init__(
        self, settings: TraceSettings, channel: grpc.aio.Channel, metrics: SpanMetrics | None, log: Logger
    ) -> None:
        self._stub = TraceServiceStub(channel)  # type: ignore[no-untyped-call]  # generated without types
        self._resource = Resource(attributes=[_text(key, value) for key, value in resource_attributes(settings)])
        self._metrics = metrics or SpanMetrics()
        self._log = log
        self._waiting: deque[engine_pb2.Span] = deque()
        self._enough = asyncio.Event()
        self._is_failing = False

    def add(self, span: engine_pb2.Span) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.dropped += 1
            return
        self._waiting.append(span)
        if len(self._waiting) >= BATCH_SIZE:
            self._enough.set()

    async def run(self) -> None:
        self._metrics.streams += 1
        try:
            while True:
                try:
                    async with asyncio.timeout(MAX_WAIT_S):
                        await self._enough.wait()
                except TimeoutError:
                    pass
                self._enough.clear()
                await self._send_waiting()
        finally:
            async with asyncio.timeout(1.0):
                await self._send_waiting()

    async def _send_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_SIZE))]
            request = ExportTraceServiceRequest(resource_spans=[self._of_resource(batch)])
            self._metrics.requests += 1
            try:
                await self._stub.Export(request, timeout=EXPORT_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                self._metrics.dropped += len(batch)
                if not self._is_failing:
                    self._log.warning("Spans are not taken", why=f"{error.code().name}: {error.details()}")
                self._is_failing = True
                return
            self._is_failing = False
            self._metrics.exports += len(batch)

    def _of_resource(self, batch: list[engine_pb2.Span]) -> ResourceSpans:
        scope = InstrumentationScope(name="weft-proxy", version=VERSION)
        return ResourceSpans(
            resource=self._resource, scope_spans=[ScopeSpans(scope=scope, spans=[_otlp(span) for span in batch])]
        )


def resource_attributes(settings: TraceSettings) -> list[tuple[str, str]]:
    """Later sources win: the service name, the pod's labels, what the environment adds, then facts of the process."""
    found = {"service.name": settings.service_name, **_labels(settings.labels_path), **dict(settings.attributes)}
    found["process.pid"] = str(os.getpid())
    found["process.start_timestamp"] = str(int(time.time()))
    found["host.name"] = socket.gethostname()
    return list(found.items())


def _labels(path: str | None) -> dict[str, str]:
    """The file that the downward API writes: key="value", one a line. A file that is not there has none."""
    if path is None:
        return {}
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    return {match[1]: match[2] for line in lines if (match := _LABEL.match(line))}


def _otlp(span: engine_pb2.Span) -> Span:
    attributes = [_text(key, value) for key, value in sorted(span.texts.items())]
    attributes += [KeyValue(key=key, value=AnyValue(int_value=value)) for key, value in sorted(span.numbers.items())]
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_id,
        name=span.name,
        kind=Span.SPAN_KIND_CLIENT if span.is_client else Span.SPAN_KIND_SERVER,
        start_time_unix_nano=span.start_unix_ns,
        end_time_unix_nano=span.end_unix_ns,
        attributes=attributes,
        status=Status(code=Status.STATUS_CODE_ERROR if span.is_error else Status.STATUS_CODE_UNSET),
    )


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))
