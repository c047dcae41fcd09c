"""How long a request and each of its tries may take, and how long the proxy waits between tries (wire.md 7.4).

What a route's `timeouts.backendRequest` and `retry.backoff` become: the limit of each try, the wait before the next.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic

import h2.connection
import h2.errors
import pytest
from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import http_route_pb2
from weft_proto.linkerd import outbound_pb2 as out

from . import targets
from .clients import connect_as_app, get, http1
from .failures import PROTOCOLS, Ask, ask_grpc, ask_http1, ask_http2, assert_not_fatal
from .namespace import CLIENT, POD
from .pod import Pod
from .servers import Fields, Http2App, Reader, http_app, listening, ok, read_request

# A busy machine may add to any wait; a wait that is too short, or another rule's, is the fault.
LATE_S = 2.0
PORT_OF: dict[Ask, int] = {ask_http1: 8091, ask_http2: 8092, ask_grpc: 8093}
"""A target is discovered once, so each protocol of a test has its own."""
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


def test_tries_are_apart_by_a_wait_that_doubles_up_to_its_maximum(pod: Pod) -> None:
    pod.set_target(f"{POD}:8090", targets.detect(CLIENT, 8090, retry=_retry(limit=4, backoff_ms=(50, 150))))
    arrived: list[float] = []

    def answer(_: object) -> bytes:
        arrived.append(monotonic())
        return UNAVAILABLE if len(arrived) < 5 else ok()

    with http_app(8090, answer, ip=CLIENT), connect_as_app(8090) as stream:
        assert http1(stream, get()).status == 200
    waits = [after - before for before, after in pairwise(arrived)]
    for wait, least in zip(waits, (0.05, 0.10, 0.15, 0.15), strict=True):
        assert least <= wait < least + LATE_S, waits


@PROTOCOLS
def test_a_try_that_takes_too_long_is_given_up_for_another(pod: Pod, ask: Ask) -> None:
    port = PORT_OF[ask]
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, retry=_retry(limit=1, try_ms=100)))
    app = Reluctant(silent=1)
    started = monotonic()
    with app.listening(ask, port), connect_as_app(port) as stream:
        assert ask(stream).status == 200
    assert len(app.arrived) == 2
    assert 0.1 <= app.arrived[1] - started < 0.1 + LATE_S


def test_the_last_try_may_take_longer_than_the_others(pod: Pod) -> None:
    pod.set_target(f"{POD}:8094", targets.detect(CLIENT, 8094, retry=_retry(limit=1, try_ms=50)))
    arrived: list[float] = []

    def answer(_: object) -> bytes:
        arrived.append(monotonic())
        threading.Event().wait(0.3)
        return ok()

    with http_app(8094, answer, ip=CLIENT), connect_as_app(8094) as stream:
        started = monotonic()
        assert http1(stream, get()).status == 200
        assert monotonic() - started >= 0.35
    assert len(arrived) == 2


@pytest.mark.parametrize("ask", [ask_http2, ask_grpc])
def test_a_stream_that_was_refused_is_tried_again(pod: Pod, ask: Ask) -> None:
    port = PORT_OF[ask] + 12
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, retry=_retry(limit=1)))
    app = _Refusing()
    with listening(port, app.talk, ip=CLIENT), connect_as_app(port) as stream:
        assert ask(stream).status == 200
    assert app.refused == 1


@PROTOCOLS
def test_the_requests_own_timeout_bounds_all_tries_and_the_waits_between(pod: Pod, ask: Ask) -> None:
    port = PORT_OF[ask] + 4
    rule = {"timeouts": _timeouts(request_ms=300), "retry": _retry(limit=10, try_ms=100, backoff_ms=(30_000, 30_000))}
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, **rule))
    app = Reluctant(silent=10)
    with app.listening(ask, port), connect_as_app(port) as stream:
        started = monotonic()
        assert_not_fatal(ask(stream), ask, 504, 4, "request timed out")
        assert 0.3 <= monotonic() - started < 0.3 + LATE_S
    assert len(app.arrived) == 1


@PROTOCOLS
def test_a_response_that_is_late_after_the_request_was_sent_times_out(pod: Pod, ask: Ask) -> None:
    port = PORT_OF[ask] + 7
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, timeouts=_timeouts(response_ms=100)))
    app = Reluctant(silent=10)
    with app.listening(ask, port), connect_as_app(port) as stream:
        started = monotonic()
        assert_not_fatal(ask(stream), ask, 504, 4, "response timed out")
        assert 0.1 <= monotonic() - started < 0.1 + LATE_S


class Reluctant:
    """An application of any protocol that never answers its first requests. silent: how many."""

    def __init__(self, silent: int) -> None:
        self.silent = silent
        self.arrived: list[float] = []

    def listening(self, ask: Ask, port: int) -> AbstractContextManager[object]:
        return listening(
            port, self._talk_http1 if ask is ask_http1 else _Http2(is_silent=self.is_silent).talk, ip=CLIENT
        )

    def is_silent(self) -> bool:
        self.arrived.append(monotonic())
        return len(self.arrived) <= self.silent

    def _talk_http1(self, connection: socket.socket) -> None:
        reader = Reader(connection)
        while True:
            read_request(reader)
            if not self.is_silent():
                connection.sendall(ok())


@dataclass
class _Http2(Http2App):
    is_silent: Callable[[], bool] = lambda: False

    def _reply(self, http2: h2.connection.H2Connection, stream: int, headers: Fields, received: bytes) -> None:
        if not self.is_silent():
            super()._reply(http2, stream, headers, received)


@dataclass
class _Refusing(Http2App):
    """Refuses its first request."""

    refused: int = 0

    def _reply(self, http2: h2.connection.H2Connection, stream: int, headers: Fields, received: bytes) -> None:
        if self.refused:
            super()._reply(http2, stream, headers, received)
        else:
            self.refused += 1
            http2.reset_stream(stream, error_code=h2.errors.ErrorCodes.REFUSED_STREAM)


def _retry(*, limit: int, try_ms: int = 0, backoff_ms: tuple[int, int] = (1, 1)) -> out.HttpRoute.Retry:
    conditions = out.HttpRoute.Retry.Conditions
    least, most = backoff_ms
    return out.HttpRoute.Retry(
        conditions=conditions(status_ranges=[conditions.StatusRange(start=500, end=599)]),
        max_retries=limit,
        max_request_bytes=1024,
        backoff=out.ExponentialBackoff(min_backoff=_ms(least), max_backoff=_ms(most)),
        timeout=_ms(try_ms),
    )


def _timeouts(*, request_ms: int = 0, response_ms: int = 0) -> http_route_pb2.Timeouts:
    return http_route_pb2.Timeouts(request=_ms(request_ms), response=_ms(response_ms))


def _ms(ms: int) -> Duration | None:
    """None for none."""
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000) if ms else None
