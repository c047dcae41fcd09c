"""Answers that break or stall once they have begun: how each protocol's client hears of it (wire.md 5.7, 7.4)."""

import http.client
import itertools
import socket
import threading
from dataclasses import dataclass

import h2.connection
import pytest
from weft_proto.linkerd import http_route_pb2

from . import policies, targets
from .certificates import Authority, workload
from .clients import Http2, Reply, connect_as_app, connect_meshed, get, http1, http2
from .namespace import CLIENT, POD
from .pod import Pod
from .servers import Answer, Fields, Http2App, Reader, grpc_answer, http2_app, listening, read_request

CART = workload("cart")
INTERNAL_ERROR = 2
CANCEL = 8
_ports = itertools.count(8300)


@pytest.fixture
def port() -> int:
    """A target is discovered once, so each test has its own."""
    return next(_ports)


@dataclass
class Half(Http2App):
    """Begins each answer; then resets its stream, or leaves it open."""

    resets: bool = True

    def _reply(self, http2: h2.connection.H2Connection, stream: int, headers: Fields, received: bytes) -> None:
        answer = self.answer(dict(headers)) or Answer()
        http2.send_headers(stream, [field for field in answer.headers if field[0] != "content-length"])
        http2.send_data(stream, b"\0\0\0\0\0")
        if self.resets:
            http2.reset_stream(stream, error_code=INTERNAL_ERROR)


def half_http1(connection: socket.socket, *, stalls: bool = False) -> None:
    read_request(Reader(connection))
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    if stalls:
        connection.recv(1)


def ask_http2(client: Http2, *, is_grpc: bool) -> Reply:
    return client.grpc() if is_grpc else client.request()


def assert_broken(reply: Reply, *, is_grpc: bool, code: str, why: str) -> None:
    if is_grpc:
        assert dict(reply.trailers) == {"grpc-status": code, "grpc-message": why}
        assert reply.reset is None
    else:
        assert reply.reset is not None


BOTH = pytest.mark.parametrize("is_grpc", [False, True], ids=["http2", "grpc"])


@BOTH
def test_an_answer_that_breaks_is_a_reset_or_trailers(pod: Pod, port: int, is_grpc: bool) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    app = Half(lambda _: grpc_answer(0) if is_grpc else Answer())
    with listening(port, app.talk, ip=CLIENT), http2(connect_as_app(port)) as client:
        reply = ask_http2(client, is_grpc=is_grpc)
    assert_broken(reply, is_grpc=is_grpc, code="14", why="upstream stream broke")
    assert is_grpc or reply.reset == INTERNAL_ERROR


@BOTH
def test_an_inbound_answer_that_breaks_is_so_too(pod: Pod, authority: Authority, is_grpc: bool) -> None:
    port = 8081
    pod.set_policy(port, policies.detect())
    app = Half(lambda _: grpc_answer(0) if is_grpc else Answer())
    with listening(port, app.talk), http2(connect_meshed(authority, CART, port)) as client:
        reply = ask_http2(client, is_grpc=is_grpc)
    assert_broken(reply, is_grpc=is_grpc, code="14", why="upstream stream broke")


def test_an_http1_answer_that_breaks_ends_its_connection_short(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    with (
        listening(port, half_http1, ip=CLIENT),
        connect_as_app(port) as stream,
        pytest.raises(http.client.IncompleteRead),
    ):
        http1(stream, get())


def stalling(pod: Pod, port: int) -> None:
    timeouts = http_route_pb2.Timeouts()
    timeouts.idle.FromMilliseconds(200)
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, timeouts=timeouts))


@BOTH
def test_an_answer_that_stalls_is_given_up_after_the_idle_timeout(pod: Pod, port: int, is_grpc: bool) -> None:
    stalling(pod, port)
    app = Half(lambda _: grpc_answer(0) if is_grpc else Answer(), resets=False)
    with listening(port, app.talk, ip=CLIENT), http2(connect_as_app(port)) as client:
        reply = ask_http2(client, is_grpc=is_grpc)
    assert_broken(reply, is_grpc=is_grpc, code="4", why="stream idled out")


def test_an_http1_answer_that_stalls_is_given_up_after_the_idle_timeout(pod: Pod, port: int) -> None:
    stalling(pod, port)

    def stall(connection: socket.socket) -> None:
        half_http1(connection, stalls=True)

    with listening(port, stall, ip=CLIENT), connect_as_app(port) as stream, pytest.raises(http.client.IncompleteRead):
        http1(stream, get())


def test_data_that_keeps_coming_is_no_stall(pod: Pod, port: int) -> None:
    stalling(pod, port)

    def drip(connection: socket.socket) -> None:
        read_request(Reader(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        for _ in range(5):
            threading.Event().wait(0.1)
            connection.sendall(b"x")

    with listening(port, drip, ip=CLIENT), connect_as_app(port) as stream:
        assert http1(stream, get()).body == b"xxxxx"


def test_a_client_that_gives_up_half_a_request_keeps_its_connection(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.http2(CLIENT, port))
    with http2_app(port, ip=CLIENT) as app, connect_as_app(port) as stream:
        client = Http2(stream)
        before = pod.value("outbound_http_errors_total")
        for _ in range(50):
            half = client.connection.get_next_available_stream_id()
            post = [(":method", "POST"), (":scheme", "http"), (":authority", "web.shop"), (":path", "/")]
            client.connection.send_headers(half, post)
            client.connection.send_data(half, b"half")
            stream.sendall(client.connection.data_to_send())
            client.connection.reset_stream(half, error_code=CANCEL)
            assert client.request().status == 200
        assert client.goaway is None
    assert len(app.seen) == 50
    assert pod.value("outbound_http_errors_total") == before
