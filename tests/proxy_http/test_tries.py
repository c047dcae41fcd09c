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
from .clients import connect_as_app, get, http1, http2
from .failures import PROTOCOLS, Ask, ask_grpc, ask_http1, ask_http2, assert_not_fatal
from .namespace import CLIENT, POD
from .pod import Pod
from .servers import Answer, Fields, Http2App, Reader, http2_app, http_app, listening, ok, read_request

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


CHUNKED = b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
SIZED = b"content-length: 5\r\n\r\nhello"


@pytest.mark.parametrize("body", [SIZED, CHUNKED], ids=["sized", "chunked"])
def test_a_body_is_sent_again_with_each_try(pod: Pod, body: bytes) -> None:
    port = 8106 if body is SIZED else 8107
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, retry=_retry(limit=2)))
    answers = iter([UNAVAILABLE, UNAVAILABLE, ok()])
    with http_app(port, lambda _: next(answers), ip=CLIENT) as app, connect_as_app(port) as stream:
        assert http1(stream, b"POST / HTTP/1.1\r\nhost: web.shop\r\n" + body).status == 200
    assert [seen.body for seen in app.seen] == [b"hello"] * 3


def test_an_http2_body_is_sent_again_with_its_trailers(pod: Pod) -> None:
    pod.set_target(f"{POD}:8108", targets.detect(CLIENT, 8108, retry=_retry(limit=2)))
    answers = iter([Answer([(":status", "503")], b"no"), Answer()])
    with http2_app(8108, lambda _: next(answers), ip=CLIENT) as app, http2(connect_as_app(8108)) as client:
        assert client.request(method="POST", body=b"hello", trailers=[("x-end", "1")]).status == 200
    assert (app.bodies, app.trailers) == ([b"hello"] * 2, [[("x-end", "1")]] * 2)


def test_a_carried_request_is_sent_again_as_it_was(pod: Pod) -> None:
    """HTTP/1 that goes on as HTTP/2, with the trailers of its body."""
    of = targets.endpoint(CLIENT, 8112, takes_http2=True)
    pod.set_target(f"{POD}:8112", targets.detect_to(of, retry=_retry(limit=2)))
    answers = iter([Answer([(":status", "503")], b"no"), Answer()])
    body = b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-end: 1\r\n\r\n"
    with http2_app(8112, lambda _: next(answers), ip=CLIENT) as app, connect_as_app(8112) as stream:
        assert http1(stream, b"POST / HTTP/1.1\r\nhost: web.shop\r\n" + body).status == 200
    assert [dict(seen)["l5d-orig-proto"] for seen in app.seen] == ["HTTP/1.1"] * 2
    assert (app.bodies, app.trailers) == ([b"hello"] * 2, [[("x-end", "1")]] * 2)


def test_a_body_that_its_client_held_back_is_sent_again(pod: Pod) -> None:
    pod.set_target(f"{POD}:8113", targets.detect(CLIENT, 8113, retry=_retry(limit=2)))
    answers = iter([UNAVAILABLE, ok()])
    with http_app(8113, lambda _: next(answers), ip=CLIENT) as app, connect_as_app(8113) as stream:
        stream.sendall(b"POST / HTTP/1.1\r\nhost: web.shop\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert stream.recv(64).startswith(b"HTTP/1.1 100")
        assert http1(stream, b"hello").status == 200
    assert [seen.body for seen in app.seen] == [b"hello"] * 2


@pytest.mark.parametrize("is_sized", [True, False], ids=["sized", "chunked"])
def test_a_body_longer_than_the_rule_keeps_is_sent_once(pod: Pod, is_sized: bool) -> None:
    port = 8109 + is_sized
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, retry=_retry(limit=2)))
    body = b"a" * 1025
    framed = b"content-length: 1025\r\n\r\n" + body
    if not is_sized:
        framed = b"transfer-encoding: chunked\r\n\r\n401\r\n" + body + b"\r\n0\r\n\r\n"
    with http_app(port, lambda _: UNAVAILABLE, ip=CLIENT) as app, connect_as_app(port) as stream:
        assert http1(stream, b"POST / HTTP/1.1\r\nhost: web.shop\r\n" + framed).status == 503
    assert [seen.body for seen in app.seen] == [body]


def test_an_answer_ahead_of_the_requests_end_is_final(pod: Pod) -> None:
    pod.set_target(f"{POD}:8111", targets.detect(CLIENT, 8111, retry=_retry(limit=2)))
    arrived: list[bytes] = []

    def hasty(connection: socket.socket) -> None:
        reader = Reader(connection)
        arrived.append(reader.until(b"\r\n\r\n"))
        connection.sendall(UNAVAILABLE)
        reader.rest()

    with listening(8111, hasty, ip=CLIENT), connect_as_app(8111) as stream:
        reply = http1(stream, b"POST / HTTP/1.1\r\nhost: web.shop\r\ncontent-length: 5\r\n\r\nhel")
        assert reply.status == 503
    assert len(arrived) == 1


@PROTOCOLS
def test_a_connection_that_breaks_is_not_tried_again(pod: Pod, ask: Ask) -> None:
    port = PORT_OF[ask] + 30
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, retry=_retry(limit=2)))
    arrived: list[bytes] = []

    def hang_up(connection: socket.socket) -> None:
        arrived.append(connection.recv(65536))

    with listening(port, hang_up, ip=CLIENT), connect_as_app(port) as stream:
        reply = ask(stream)
    assert (reply.status, reply.first("grpc-status")) == ((200, "14") if ask is ask_grpc else (502, ""))
    assert len(arrived) == 1


@PROTOCOLS
@pytest.mark.parametrize("name", ["l5d-timeout", "l5d-request-timeout", "l5d-response-timeout"])
def test_a_clients_own_timeout_counts_where_the_rule_allows_it(pod: Pod, ask: Ask, name: str) -> None:
    port = PORT_OF[ask] + 40 + 5 * len(name)
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, allow_l5d_request_headers=True))
    app = Reluctant(silent=10)
    with app.listening(ask, port), connect_as_app(port) as stream:
        why = "response timed out" if name == "l5d-response-timeout" else "request timed out"
        assert_not_fatal(ask(stream, [(name, "100ms")]), ask, 504, 4, why)


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
