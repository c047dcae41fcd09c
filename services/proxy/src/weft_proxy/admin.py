"""The admin port between the engine, which owns the socket, and `core.admin`, which owns the answers."""

import gzip
import os
from collections.abc import Callable
from typing import assert_never

from google.protobuf.json_format import MessageToJson
from weft_proto.weft import decision_pb2, engine_pb2

from weft_proxy.core import admin as core
from weft_proxy.core.metrics import ControlMetrics, IdentityMetrics, SpanMetrics, exposition
from weft_proxy.logs import Logger, LogSink
from weft_proxy.ports import Engine, EngineFault

GZIP_LEVEL = 1
"""Metrics text shrinks tenfold at the cheapest level; scrapes are frequent and the event loop waits for this."""


class Admin:
    def __init__(
        self,
        engine: Engine,
        sink: LogSink,
        log: Logger,
        identity: IdentityMetrics,
        control: ControlMetrics,
        spans: SpanMetrics | None,
        *,
        shutdown_enabled: bool,
        is_ready: Callable[[], bool],
        is_stopping: Callable[[], bool],
        shut_down: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._sink = sink
        self._log = log
        self._identity = identity
        self._control = control
        self._spans = spans
        self._shutdown_enabled = shutdown_enabled
        self._is_ready = is_ready
        self._is_stopping = is_stopping
        self._shut_down = shut_down

    def handle(self, message: engine_pb2.AdminRequest) -> None:
        answer = core.answer(
            core.Request(
                method=message.method,
                path=message.path,
                query=message.query,
                is_loopback=message.client_is_loopback,
                headers=message.headers,
                body=message.body,
            ),
            core.View(
                ready=self._is_ready(),
                stopping=self._is_stopping(),
                shutdown_enabled=self._shutdown_enabled,
                log_filter=self._sink.filter.text,
                environ=os.environ,
            ),
        )
        body, headers = answer.body, dict(answer.headers)
        match answer.effect:
            case None:
                pass
            case core.SetLogFilter(log_filter):
                self._sink.filter = log_filter
                self._log.info("Log filter changed", filter=log_filter.text)
            case core.ShutDown():
                self._shut_down()
            case core.WriteMetrics(compress):
                body = self._engine.metrics() + exposition(self._identity, self._control, self._spans) + b"# EOF\n"
                if compress:
                    body = gzip.compress(body, GZIP_LEVEL)
                    headers["content-encoding"] = "gzip"
            case core.ListDecisions(failures_only, limit, request_id):
                asked = decision_pb2.ListDecisions(failures_only=failures_only, limit=limit, id=request_id)
                listed = self._engine.decisions(asked)
                body = MessageToJson(listed, preserving_proto_field_name=True).encode() + b"\n"
            case effect:
                assert_never(effect)
        response = engine_pb2.AdminResponse(
            id=message.id, status=answer.status, content_type=answer.content_type, headers=headers, body=body
        )
        try:
            self._engine.apply(engine_pb2.Command(admin_response=response))
        except EngineFault as error:
            self._log.warning("Admin answer not sent", path=message.path, why=str(error))
