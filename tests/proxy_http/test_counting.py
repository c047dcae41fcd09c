"""As what requests count: classes, errors, and names where they are asked for (observability.md 1.2 to 1.6)."""

import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import h2.connection
import h2.errors
import pytest
from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import http_route_pb2
from weft_proto.weft import engine_pb2

from . import policies, targets
from .certificates import Authority, workload
from .clients import Reply, connect, connect_as_app, connect_meshed, get, http1, http2, is_closed
from .failures import ask_grpc, ask_http1, ask_http2
from .namespace import CLIENT, POD
from .pod import Pod, eventually
from .servers import Answer, Fields, Http2App, grpc_answer, http2_app, http_app, listening

PORT = 8080
CART = workload("cart")
Codes = h2.errors.ErrorCodes
_ports = itertools.count(8900)


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    names = {"outbound_metrics_hostname_labels": True, "inbound_metrics_authority_labels": True}
    with closing(Pod(authority, outbound_queue=engine_pb2.Queue(capacity=1, failfast_ms=100), **names)) as pod:
        yield pod


@pytest.fixture
def port() -> int:
    """A target is discovered once, so each test has its own."""
    return next(_ports)


# Classes of answers, where they are counted by status.


def no_status(_: object) -> Answer:
    return Answer([(":status", "200"), ("content-type", "application/grpc")], b"\0\0\0\0\0")


@pytest.mark.parametrize(
    ("answer", "classification", "status"),
    [
        *((partial(lambda code, _: grpc_answer(code), code), "success", str(code)) for code in (0, 1, 5, 8)),
        *((partial(lambda code, _: grpc_answer(code), code), "failure", str(code)) for code in (2, 4, 7, 13, 14, 15)),
        (no_status, "success", "2"),
    ],
    ids=["0", "1", "5", "8", "2", "4", "7", "13", "14", "15", "none"],
)
def test_a_call_is_classed_by_its_code(
    pod: Pod, port: int, answer: Callable[[object], Answer], classification: str, status: str
) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    with http2_app(port, answer, ip=CLIENT), connect_as_app(port) as stream:
        assert ask_grpc(stream).status == 200
    labels = {"classification": classification, "grpc_status": status, "status_code": "200", "error": ""}
    eventually(lambda: pod.value("response_total", direction="outbound", target_port=str(port), **labels) == 1)


@pytest.mark.parametrize(("status", "classification"), [(200, "success"), (404, "success"), (500, "failure")])
def test_a_request_is_classed_by_its_status(pod: Pod, port: int, status: int, classification: str) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    raw = f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode()
    with http_app(port, lambda _: raw, ip=CLIENT), connect_as_app(port) as stream:
        assert ask_http1(stream).status == status
    labels = {"classification": classification, "grpc_status": "", "status_code": str(status), "error": ""}
    eventually(lambda: pod.value("response_total", direction="outbound", target_port=str(port), **labels) == 1)


def test_what_policy_refuses_is_no_answer_of_the_workload(pod: Pod, authority: Authority) -> None:
    count = partial(pod.value, direction="inbound", target_port=str(PORT))
    pod.set_policy(PORT, policies.detect())
    with http_app(PORT), connect(PORT) as stream:
        assert http1(stream, get()).status == 200
        eventually(lambda: count("response_total", status_code="200") == 1)
        pod.set_policy(PORT, policies.detect(authorizations=[]))
        assert http1(stream, get()).status == 403
        pod.set_policy(PORT, policies.detect(policies.route(policies.path("/elsewhere"))))
        assert http1(stream, get()).status == 404
        pod.set_policy(PORT, policies.detect())
        assert http1(stream, get()).status == 200
        eventually(lambda: count("response_total", status_code="200") == 2)
    assert (count("request_total"), count("response_total")) == (2, 2)


# Errors, by what they were.


def routed(pod: Pod, port: int, **rule: object) -> Callable[[str], float]:
    """A target whose only route is named for its port. Yields how many of its requests ended with an error."""
    policy = targets.detect(CLIENT, port, **rule)
    for routes in (policy.protocol.detect.http1, policy.protocol.detect.http2):
        routes.routes[0].metadata.default = f"route-{port}"
    pod.set_target(f"{POD}:{port}", policy)

    def count(error: str) -> float:
        family = "outbound_http_route_request_statuses_total"
        return pod.value(family, route_name=f"route-{port}", error=error)

    return count


@dataclass
class Resetting(Http2App):
    """Resets each stream, perhaps having begun its answer."""

    code: Codes = Codes.CANCEL
    begins: bool = False

    def _reply(self, http2: h2.connection.H2Connection, stream: int, headers: Fields, received: bytes) -> None:
        if self.begins:
            http2.send_headers(stream, [(":status", "200")])
        http2.reset_stream(stream, error_code=self.code)


@pytest.mark.parametrize("begins", [False, True], ids=["before the answer", "within the answer"])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (Codes.CANCEL, "CANCEL"),
        (Codes.REFUSED_STREAM, "REFUSED"),
        (Codes.ENHANCE_YOUR_CALM, "ENHANCE_YOUR_CALM"),
        (Codes.INTERNAL_ERROR, "RESET"),
    ],
)
def test_a_reset_counts_by_its_code(pod: Pod, port: int, code: Codes, error: str, begins: bool) -> None:
    count = routed(pod, port)
    app = Resetting(code=code, begins=begins)
    with listening(port, app.talk, ip=CLIENT), http2(connect_as_app(port)) as client:
        assert client.request().reset == code
    eventually(lambda: count(error) == 1)
    if begins:
        legacy = "response_total", {"direction": "outbound", "target_port": str(port), "error": f"h2({code.name})"}
        eventually(lambda: pod.value(legacy[0], **legacy[1]) == 1)


def _hang_up(connection: socket.socket) -> None:
    connection.recv(65536)


def _never_answers(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


LIMIT = Duration(nanos=100_000_000)


@pytest.mark.parametrize(
    ("timeouts", "talk", "error", "cause"),
    [
        (http_route_pb2.Timeouts(request=LIMIT), _never_answers, "REQUEST_TIMEOUT", "response timeout"),
        (http_route_pb2.Timeouts(response=LIMIT), _never_answers, "RESPONSE_STREAM_TIMEOUT", "response timeout"),
        (http_route_pb2.Timeouts(idle=LIMIT), _never_answers, "IDLE_TIMEOUT", "response timeout"),
        (http_route_pb2.Timeouts(), _hang_up, "IO", "i/o"),
    ],
    ids=["request", "response", "idle", "hang up"],
)
def test_a_request_without_an_answer_counts_by_why_it_has_none(
    pod: Pod,
    port: int,
    timeouts: http_route_pb2.Timeouts,
    talk: Callable[[socket.socket], None],
    error: str,
    cause: str,
) -> None:
    count = routed(pod, port, timeouts=timeouts)
    before = pod.value("outbound_http_errors_total", error=cause)
    with listening(port, talk, ip=CLIENT), connect_as_app(port) as stream:
        assert ask_http1(stream).status >= 500
    eventually(lambda: count(error) == 1)
    assert pod.value("outbound_http_errors_total", error=cause) == before + 1


def test_what_nobody_takes_counts_as_failed_fast_and_then_as_shed(pod: Pod, port: int) -> None:
    count = routed(pod, port)
    for error, cause, status in (("FAIL_FAST", "failfast", 504), ("LOAD_SHED", "loadshed", 503)):
        before = pod.value("outbound_http_errors_total", error=cause)
        with connect_as_app(port) as stream:
            assert ask_http2(stream).status == status
        eventually(partial(lambda error: count(error) == 1, error))
        assert pod.value("outbound_http_errors_total", error=cause) == before + 1


def test_a_request_that_the_proxy_will_not_send_counts_by_why_it_will_not(pod: Pod, port: int) -> None:
    count = partial(pod.value, "outbound_http_errors_total")
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    pod.set_target(f"{POD}:{port + 500}", targets.detect_to(None))
    with http_app(port, ip=CLIENT):
        for to, headers, cause in (
            (port, [("l5d-require-id", CART)], "identity required"),
            (port + 500, [], "unexpected"),
        ):
            before = count(error=cause)
            with connect_as_app(to) as stream:
                assert ask_http1(stream, headers).status == 502
            assert count(error=cause) == before + 1


def test_a_connection_that_is_reset_counts_by_the_errors_name(pod: Pod, port: int) -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(64)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    pod.set_target(f"{POD}:{port}", targets.opaque(CLIENT, port))
    with listening(port, reset, ip=CLIENT), connect_as_app(port) as stream:
        stream.sendall(b"hello")
        assert is_closed(stream)
    count = partial(pod.value, "tcp_close_total", direction="outbound", target_port=str(port))
    eventually(lambda: count(peer="dst", errno="ECONNRESET") == 1)


# Names.


def ask(stream: socket.socket, host: str) -> Reply:
    with stream:
        return http1(stream, get(host=host))


def test_a_routes_series_tell_the_host_where_that_is_wanted(pod: Pod, port: int) -> None:
    routed(pod, port)
    with http_app(port, ip=CLIENT):
        for host in ("Web.shop:80", "web.shop", "10.1.2.3", "[fd00::1]:80"):
            assert ask(connect_as_app(port), host).status == 200
    count = partial(pod.value, "outbound_http_route_request_statuses_total", route_name=f"route-{port}")
    eventually(lambda: (count(hostname="web.shop"), count(hostname="")) == (2, 2))


def test_inbound_series_tell_the_authority_where_that_is_wanted(pod: Pod, authority: Authority) -> None:
    pod.set_policy(PORT, policies.detect())
    with http_app(PORT):
        assert ask(connect_meshed(authority, CART, PORT), "any.name").status == 200
    eventually(lambda: pod.value("response_total", direction="inbound", authority="any.name") == 1)
