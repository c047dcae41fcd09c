"""A real gRPC server that gives the answers it was made with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from weft_proto.weft import metrics_pb2 as pb
from weft_proto.weft import metrics_pb2_grpc

from weft_cli.__main__ import main

Run = Callable[..., tuple[int, str, str]]
"""Gives the exit code, and what was written to stdout and stderr."""


class Answers(metrics_pb2_grpc.MetricsServicer):
    """Remembers what it was asked. An exception's text becomes INVALID_ARGUMENT."""

    def __init__(self) -> None:
        self.stat: dict[str, list[pb.StatRow]] = {}
        self.edges: list[pb.Edge] = []
        self.refusal = ""
        self.events: list[pb.TapEvent] = []
        self.closed = ""
        self.decisions = pb.DecisionsResponse()
        self.asked: list[Any] = []

    def StatSummary(self, request: pb.StatSummaryRequest, context: Any) -> pb.StatSummaryResponse:
        self.asked.append(request)
        if self.refusal:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.refusal)
        return pb.StatSummaryResponse(rows=self.stat.get(request.selector.kind, []), covered_s=60)

    def Edges(self, request: pb.EdgesRequest, context: Any) -> pb.EdgesResponse:
        self.asked.append(request)
        return pb.EdgesResponse(edges=self.edges)

    def Tap(self, request: pb.TapRequest, context: Any) -> Iterator[pb.TapEvent]:
        self.asked.append(request)
        if self.closed:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.closed)
        yield from self.events

    def Decisions(self, request: pb.DecisionsRequest, context: Any) -> pb.DecisionsResponse:
        self.asked.append(request)
        return self.decisions

    def SelfCheck(self, request: pb.SelfCheckRequest, context: Any) -> pb.SelfCheckResponse:
        return pb.SelfCheckResponse(results=[pb.CheckResult(subsystem="scraper", description="proxies are scraped")])


@contextmanager
def serving(answers: Answers) -> Iterator[str]:
    """Yields host:port."""
    server = grpc.server(ThreadPoolExecutor(2))
    metrics_pb2_grpc.add_MetricsServicer_to_server(answers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def running(answers: Answers, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Yields what runs `weft WORDS…` against such a server."""
    with serving(answers) as address:

        def run(*words: str) -> tuple[int, str, str]:
            code = main([*words, "--api-addr", address])
            printed = capsys.readouterr()
            return code, printed.out, printed.err

        yield run
