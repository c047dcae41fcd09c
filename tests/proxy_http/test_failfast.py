"""What clients are told when there is nobody to answer (wire.md 5.7, 7.2)."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from weft_proto.linkerd import outbound_pb2 as out
from weft_proto.weft import engine_pb2

from . import policies, targets
from .certificates import Authority, workload
from .clients import Reply, connect_as_app, connect_meshed, is_closed
from .failures import PROTOCOLS, Ask, ask_grpc, ask_http1, ask_http2, assert_fatal
from .frames import FrameClient
from .namespace import CLIENT, POD
from .pod import Pod, eventually
from .servers import Answer, grpc_answer, http2_app, http_app, listening, ok

FULL, CROWDED, NO_BYTES, LIMITING = 8088, 8089, 8097, 8098
BYTES_WAIT_S = 1.0
# One for each protocol: the gate of another's would be shut already.
ABSENT: dict[Ask, int] = {ask_http1: 8090, ask_http2: 8091, ask_grpc: 8092}
SILENT: dict[Ask, int] = {ask_http1: 8201, ask_http2: 8202, ask_grpc: 8203}
FAILING: dict[Ask, int] = {ask_http1: 8094, ask_http2: 8095, ask_grpc: 8096}
CART = workload("cart")


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    """Fails fast after 300 ms, and one request may wait at a time; connections that are bytes wait longer."""
    settings = {
        "outbound_queue": engine_pb2.Queue(capacity=1, failfast_ms=300),
        "outbound_tcp_queue": engine_pb2.Queue(capacity=10, failfast_ms=int(BYTES_WAIT_S * 1000)),
        "inbound_connect_timeout_ms": 200,
        "outbound_connect_timeout_ms": 200,
        # What cannot be reached is due to be tried again with the next request.
        "outbound_connect_backoff": engine_pb2.Backoff(min_ms=1, max_ms=1),
    }
    with contextlib.closing(Pod(authority, **settings)) as pod:
        yield pod


@PROTOCOLS
def test_without_a_ready_endpoint_requests_fail_fast_then_are_shed_until_one_is_there(pod: Pod, ask: Ask) -> None:
    port = ABSENT[ask]
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    with connect_as_app(port) as stream:
        assert_fatal(ask(stream), ask, 504, 4, "no ready endpoint: fail fast")
    with connect_as_app(port) as stream:
        assert_fatal(ask(stream), ask, 503, 14, "load shed")

    with http_app(port, ip=CLIENT) if ask is ask_http1 else http2_app(port, ip=CLIENT) as app:

        def is_served() -> bool:
            with connect_as_app(port) as stream:
                ask(stream)
            return bool(app.seen)

        eventually(is_served)


def two_backends(first: int, second: int) -> out.OutboundPolicy:
    """The second for when the first is not available."""
    policy = targets.detect(CLIENT, first)
    detect, other = policy.protocol.detect, targets.detect(CLIENT, second).protocol.detect
    http = detect.http1.routes[0].rules[0].backends.first_available.backends
    http.extend(other.http1.routes[0].rules[0].backends.first_available.backends)
    opaque = detect.opaque.routes[0].rules[0].backends.first_available.backends
    opaque.extend(other.opaque.routes[0].rules[0].backends.first_available.backends)
    return policy


@pytest.mark.parametrize("retries", [0, 1])
def test_what_fails_fast_is_tried_with_the_next_backend(pod: Pod, retries: int) -> None:
    first, second = 8211 + 2 * retries, 8212 + 2 * retries
    policy = two_backends(first, second)
    if retries:
        rule = policy.protocol.detect.http1.routes[0].rules[0]
        rule.retry.max_retries = retries
        rule.retry.conditions.SetInParent()
    pod.set_target(f"{POD}:{first}", policy)
    with http_app(second, ip=CLIENT) as app, connect_as_app(first) as stream:
        assert ask_http1(stream).status == (200 if retries else 504)
    assert len(app.seen) == retries


def test_a_backend_that_cannot_be_reached_is_passed_over_until_it_can(pod: Pod) -> None:
    """No request is spent on finding out whether it can."""
    first, second = 8221, 8222
    pod.set_target(f"{POD}:{first}", two_backends(first, second))

    def status() -> int:
        with connect_as_app(first) as stream:
            return ask_http1(stream).status

    with http_app(second, ip=CLIENT):
        assert status() == 504
        assert [status() for _ in range(20)] == [200] * 20
        with http_app(first, ip=CLIENT) as app:
            eventually(lambda: status() == 200 and len(app.seen) > 0)


def test_bytes_pass_over_a_backend_that_cannot_be_reached(pod: Pod) -> None:
    first, second = 8223, 8224
    pod.set_target(f"{POD}:{first}", two_backends(first, second))

    def answer() -> bytes:
        with connect_as_app(first) as stream:
            stream.sendall(b"\x01\x02\x03 no http at all")
            return stream.recv(64)

    with listening(second, lambda connection: connection.sendall(connection.recv(64)[:1]), ip=CLIENT):
        assert answer() == b""
        assert [answer() for _ in range(20)] == [b"\x01"] * 20


@PROTOCOLS
def test_an_endpoint_that_fails_in_a_row_is_left_alone_until_a_probe_succeeds(pod: Pod, ask: Ask) -> None:
    port = FAILING[ask]
    path = f"cart.shop.svc.cluster.local:{port}"
    pod.endpoints[path] = targets.found(targets.endpoint(CLIENT, port))
    policy = targets.detect_to(path)
    for routes in (policy.protocol.detect.http1, policy.protocol.detect.http2):
        routes.failure_accrual.consecutive_failures.max_failures = 2
        routes.failure_accrual.consecutive_failures.backoff.min_backoff.FromMilliseconds(1000)
        routes.failure_accrual.consecutive_failures.backoff.max_backoff.FromMilliseconds(1000)
    pod.set_target(f"{POD}:{port}", policy)
    fails = [True]

    def answer_http1(_: object) -> bytes:
        return b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n" if fails else ok()

    def answer_http2(_: object) -> Answer:
        if ask is ask_grpc:
            return grpc_answer(14 if fails else 0)
        return Answer([(":status", "500" if fails else "200")], b"x")

    def once() -> Reply:
        with connect_as_app(port) as stream:
            return ask(stream)

    apps = http_app(port, answer_http1, ip=CLIENT) if ask is ask_http1 else http2_app(port, answer_http2, ip=CLIENT)
    with apps as app:
        for _ in range(2):
            once()
        assert_fatal(once(), ask, 504, 4, "no ready endpoint: fail fast")
        assert len(app.seen) == 2
        fails.clear()

        def is_served() -> bool:
            once()
            return len(app.seen) > 2

        eventually(is_served)


def test_an_endpoint_that_limits_rates_is_left_alone_where_its_success_rate_counts(pod: Pod) -> None:
    """By failures in a row it would not be: 429 is none of those."""
    path = f"cart.shop.svc.cluster.local:{LIMITING}"
    pod.endpoints[path] = targets.found(targets.endpoint(CLIENT, LIMITING))
    policy = targets.detect_to(path)
    unified = policy.protocol.detect.http1.failure_accrual.unified
    unified.success_rate_threshold = 0.5
    unified.min_requests = 2
    unified.max_consecutive_failures = 2
    unified.backoff.min_backoff.FromMilliseconds(2000)
    unified.backoff.max_backoff.FromMilliseconds(2000)
    pod.set_target(f"{POD}:{LIMITING}", policy)
    limits = [True]

    def answer(_: object) -> bytes:
        return b"HTTP/1.1 429 Slower\r\ncontent-length: 0\r\n\r\n" if limits else ok()

    def status() -> int:
        with connect_as_app(LIMITING) as stream:
            return ask_http1(stream).status

    with http_app(LIMITING, answer, ip=CLIENT) as app:
        assert [status() for _ in range(3)] == [429, 429, 504]
        assert len(app.seen) == 2
        limits.clear()
        eventually(lambda: status() == 200)


def test_what_the_queue_does_not_hold_is_shed(pod: Pod) -> None:
    pod.set_target(f"{POD}:{CROWDED}", targets.detect(CLIENT, CROWDED))
    with connect_as_app(CROWDED) as stream:
        client = FrameClient(stream)
        for _ in range(3):
            client.send()
        # One waits for the endpoint until it fails fast; there is no place for the others.
        assert sorted(reply.status for reply in client.replies().values()) == [503, 503, 504]


def test_bytes_wait_by_a_queue_of_their_own(pod: Pod) -> None:
    pod.set_target(f"{POD}:{NO_BYTES}", targets.opaque(CLIENT, NO_BYTES))
    started = time.monotonic()
    with connect_as_app(NO_BYTES) as stream:
        assert is_closed(stream)
    assert time.monotonic() - started >= BYTES_WAIT_S
    eventually(lambda: pod.value("outbound_tcp_errors_total", error="failfast", target_port=str(NO_BYTES)) == 1)


@PROTOCOLS
def test_an_endpoint_that_takes_no_connection_is_waited_for_until_it_is_too_long(pod: Pod, ask: Ask) -> None:
    port = SILENT[ask]
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    with full_backlog(port, ip=CLIENT), connect_as_app(port) as stream:
        assert_fatal(ask(stream), ask, 504, 4, "no ready endpoint: fail fast")


@PROTOCOLS
def test_an_application_that_takes_no_connection_times_out(pod: Pod, authority: Authority, ask: Ask) -> None:
    pod.set_policy(FULL, policies.detect())
    with full_backlog(FULL), connect_meshed(authority, CART, FULL) as stream:
        assert_fatal(ask(stream), ask, 504, 4, "connect timed out")


@contextlib.contextmanager
def full_backlog(port: int, *, ip: str = POD) -> Iterator[None]:
    """A socket that listens, and whose kernel takes no more connections."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(socket.create_server((ip, port), backlog=0))
        for _ in range(16):
            waiting = stack.enter_context(socket.socket())
            waiting.bind((ip, 0))
            waiting.settimeout(0.3)
            try:
                waiting.connect((ip, port))
            except TimeoutError:
                break
        else:
            pytest.fail("the backlog has no end")
        yield
