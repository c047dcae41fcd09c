"""What discovery says of an endpoint, field by field, and how its set of endpoints changes (wire.md 2.2, 2.3, 7.1)."""

import itertools
import queue
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import destination_pb2
from weft_proto.linkerd import outbound_pb2 as out
from weft_proto.weft import engine_pb2

from . import targets
from .certificates import Authority, workload
from .clients import connect_as_app, get, http1
from .failures import PROTOCOLS, Ask, ask_grpc, ask_http2, assert_fatal
from .namespace import CLIENT, POD
from .pod import Pod, eventually
from .policies import socket_message
from .servers import Fields, Http2App, HttpApp, http2_app, http_app, listening, ok

CART = workload("cart")
SPIFFE = "spiffe://root.linkerd.cluster.local/vm/cart"
SECOND = 500
"""How far the port of a second endpoint is from that of the first."""
_ports = itertools.count(8500)


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    """Fails fast after 300 ms, so that an endpoint which cannot be had is told from one which can."""
    queue = engine_pb2.Queue(capacity=100, failfast_ms=300)
    with closing(Pod(authority, outbound_queue=queue, http1_pool_idle_ms=200)) as pod:
        yield pod


@pytest.fixture
def port() -> int:
    """A target is discovered once, so each test has its own."""
    return next(_ports)


# Who it is.


@contextmanager
def meshed(authority: Authority, identity: str, port: int) -> Iterator[queue.Queue[str]]:
    """An application behind a peer's proxy. Yields the server names that its clients ask for."""
    context = authority.server_context(identity)
    asked: queue.Queue[str] = queue.Queue()
    context.sni_callback = lambda _socket, name, _context: asked.put(name or "")
    with http_app(port, ip=CLIENT, tls=context):
        yield asked


def status(port: int) -> int:
    with connect_as_app(port) as stream:
        return http1(stream, get()).status


def test_a_server_is_asked_for_by_its_server_name_and_known_by_its_identity(
    pod: Pod, authority: Authority, port: int
) -> None:
    of = targets.endpoint(CLIENT, port, CART)
    of.tls_identity.server_name.name = "gateway.shop"
    pod.set_target(f"{POD}:{port}", targets.detect_to(of))
    with meshed(authority, CART, port) as asked:
        assert status(port) == 200
    assert asked.get(timeout=10) == "gateway.shop"


def test_an_identity_without_a_server_name_is_asked_for_by_itself(pod: Pod, authority: Authority, port: int) -> None:
    of = targets.endpoint(CLIENT, port, CART)
    of.tls_identity.ClearField("server_name")
    pod.set_target(f"{POD}:{port}", targets.detect_to(of))
    with meshed(authority, CART, port) as asked:
        assert status(port) == 200
    assert asked.get(timeout=10) == CART


def uri_identity(port: int, uri: str, server_name: str) -> targets.Endpoint:
    of = targets.endpoint(CLIENT, port)
    of.tls_identity.uri_like_identity.uri = uri
    of.tls_identity.server_name.name = server_name
    return of


def test_a_server_may_be_known_by_a_uri(pod: Pod, authority: Authority, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(uri_identity(port, SPIFFE, "vm.shop")))
    with meshed(authority, SPIFFE, port) as asked:
        assert status(port) == 200
    assert asked.get(timeout=10) == "vm.shop"
    eventually(lambda: pod.value("response_total", server_id=SPIFFE, status_code="200") == 1)


def test_a_uri_without_a_server_name_is_no_identity(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(uri_identity(port, SPIFFE, "")))
    with http_app(port, ip=CLIENT):
        assert status(port) == 200
    labels = {"no_tls_reason": "not_provided_by_service_discovery", "target_port": str(port)}
    assert pod.value("tcp_open_total", peer="dst", tls="no_identity", **labels) == 1


@pytest.mark.parametrize("proves", [f"other.{CART}", SPIFFE])
def test_a_server_that_proves_to_be_somebody_else_gets_nothing(
    pod: Pod, authority: Authority, port: int, proves: str
) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, CART)))
    with meshed(authority, proves, port) as asked:
        assert status(port) == 504
    assert asked.get(timeout=10) == CART


def test_a_server_whose_certificate_another_authority_signed_gets_nothing(pod: Pod, port: int, tmp_path: Path) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, CART)))
    with meshed(Authority(tmp_path), CART, port):
        assert status(port) == 504


# How it is spoken to.


def test_http1_stays_http1_where_no_hint_allows_more(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port)))
    with http_app(port, ip=CLIENT) as app:
        assert status(port) == 200
    assert (app.last.line, app.last.all("l5d-orig-proto")) == ("GET / HTTP/1.1", [])


@pytest.mark.parametrize("ask", [ask_http2, ask_grpc])
def test_an_overridden_authority_takes_the_place_of_the_requests_own(pod: Pod, port: int, ask: Ask) -> None:
    elsewhere = "cart.far.svc.cluster.local:8080"
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, authority=elsewhere)))
    with http2_app(port, ip=CLIENT) as app, connect_as_app(port) as stream:
        assert ask(stream, [("l5d-dst-canonical", "x")]).status == 200
    seen = dict(app.seen[0])
    assert (seen[":authority"], seen.get("host"), seen.get("l5d-dst-canonical")) == (elsewhere, None, None)


def test_an_overridden_authority_without_a_port_goes_without_a_transport_header(
    pod: Pod, authority: Authority, port: int
) -> None:
    of = targets.endpoint(CLIENT, port, CART, authority="cart.far.svc.cluster.local")
    pod.set_target(f"{POD}:{port}", targets.detect_to(of))
    with meshed(authority, CART, port):
        assert status(port) == 200


def test_without_tls_there_is_no_transport_header(pod: Pod, port: int) -> None:
    of = targets.endpoint(CLIENT, port)
    of.protocol_hint.opaque_transport.inbound_port = 4143
    pod.set_target(f"{POD}:{port}", targets.detect_to(of))
    with http_app(port, ip=CLIENT):
        assert status(port) == 200


@pytest.mark.parametrize("inbound_port", [0, 65535, 70000])
def test_an_inbound_port_that_is_none_is_not_dialled(
    pod: Pod, authority: Authority, port: int, inbound_port: int
) -> None:
    of = targets.endpoint(CLIENT, port, CART)
    of.protocol_hint.opaque_transport.inbound_port = inbound_port
    pod.set_target(f"{POD}:{port}", targets.detect_to(of))
    with meshed(authority, CART, port):
        assert status(port) == 200


class Leaving(Http2App):
    """Ends its connection with each answer."""

    def _reply(self, http2: h2.connection.H2Connection, stream: int, headers: Fields, received: bytes) -> None:
        super()._reply(http2, stream, headers, received)
        http2.close_connection()


def test_an_endpoint_that_ends_its_connections_costs_no_request(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    app = Leaving()
    with listening(port, app.talk, ip=CLIENT):
        for _ in range(20):
            with connect_as_app(port) as stream:
                assert ask_http2(stream).status == 200
    assert len(app.seen) == 20


def windows(of: targets.Endpoint, pod: Pod, port: int) -> tuple[int, int]:
    """Of a stream and of the connection, as the endpoint sees them: bytes."""
    pod.set_target(f"{POD}:{port}", targets.detect_to(of))
    found: queue.Queue[tuple[int, int]] = queue.Queue()

    class Measuring(Http2App):
        def _reply(self, http2: h2.connection.H2Connection, stream: int, headers: Fields, received: bytes) -> None:
            initial = http2.remote_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE]
            found.put((initial, http2.outbound_flow_control_window))
            super()._reply(http2, stream, headers, received)

    with listening(port, Measuring().talk, ip=CLIENT), connect_as_app(port) as stream:
        assert ask_http2(stream).status == 200
    return found.get(timeout=10)


@pytest.mark.parametrize(
    ("stream", "connection", "expected"),
    [(100_000, 200_000, (100_000, 200_000)), (100_000, 0, (65_535, 1_048_576)), (0, 200_000, (65_535, 1_048_576))],
)
def test_windows_are_as_discovery_asks_when_it_names_both(
    pod: Pod, port: int, stream: int, connection: int, expected: tuple[int, int]
) -> None:
    of = targets.endpoint(CLIENT, port)
    of.http2.flow_control.initial_stream_window_size = stream
    of.http2.flow_control.initial_connection_window_size = connection
    assert windows(of, pod, port) == expected


# How it counts.


def test_labels_of_the_set_and_of_the_address_are_counted_together(pod: Pod, port: int) -> None:
    of = targets.endpoint(CLIENT, port)
    of.metric_labels.update({"pod": "cart-1", "service": "cart"})
    found = destination_pb2.WeightedAddrSet(addrs=[of], metric_labels={"namespace": "shop", "service": "other"})
    balanced(pod, port, destination_pb2.Update(add=found))
    with http_app(port, ip=CLIENT):
        assert status(port) == 200
    labels = {"dst_pod": "cart-1", "dst_namespace": "shop", "dst_service": "cart"}
    eventually(lambda: pod.value("response_total", authority=path(port), status_code="200", **labels) == 1)


def test_weight_draws_no_traffic(pod: Pod, port: int) -> None:
    light, heavy = targets.endpoint(CLIENT, port), targets.endpoint(CLIENT, port + SECOND)
    light.weight, heavy.weight = 0, 10_000
    balanced(pod, port, targets.found(light, heavy))
    with http_app(port, ip=CLIENT) as app, http_app(port + SECOND, ip=CLIENT):
        eventually(lambda: status(port) == 200 and len(app.seen) > 0)


def test_an_endpoint_that_fails_at_once_draws_no_traffic_where_failures_weigh(pod: Pod, port: int) -> None:
    """By its latency alone it would be the better of the two."""
    policy = balanced(pod, port, targets.found(targets.endpoint(CLIENT, port), targets.endpoint(CLIENT, port + SECOND)))
    (route,) = policy.protocol.detect.http1.routes
    (backend,) = route.rules[0].backends.first_available.backends
    backend.backend.balancer.penalty_peak_ewma.penalty.CopyFrom(Duration(seconds=5))
    pod.set_target(f"{POD}:{port}", policy)
    fails = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
    with http_app(port, lambda _: fails, ip=CLIENT) as failing, http_app(port + SECOND, ip=CLIENT):
        statuses = [status(port) for _ in range(30)]
    assert statuses.count(503) == len(failing.seen) <= 1


# How the set changes.


def path(port: int) -> str:
    return f"cart.shop.svc.cluster.local:{port}"


def balanced(pod: Pod, port: int, first: destination_pb2.Update) -> out.OutboundPolicy:
    """A target whose endpoints are discovered, the first message of them known."""
    pod.endpoints[path(port)] = first
    policy = targets.detect_to(path(port))
    # What is known of an endpoint's latency is soon forgotten, so that both of two are used within a test's time.
    (route,) = policy.protocol.detect.http1.routes
    (backend,) = route.rules[0].backends.first_available.backends
    backend.backend.balancer.peak_ewma.decay.FromMilliseconds(20)
    pod.set_target(f"{POD}:{port}", policy)
    return policy


@contextmanager
def two_applications(port: int) -> Iterator[Callable[[], str]]:
    """Yields which of the two answers a request."""

    def answers() -> str:
        with connect_as_app(port) as stream:
            return http1(stream, get()).body.decode()

    with (
        http_app(port, lambda _: ok(b"first"), ip=CLIENT),
        http_app(port + SECOND, lambda _: ok(b"second"), ip=CLIENT),
    ):
        yield answers


def test_an_added_address_joins_and_a_removed_one_leaves(pod: Pod, port: int) -> None:
    balanced(pod, port, targets.found(targets.endpoint(CLIENT, port)))
    with two_applications(port) as answers:
        assert answers() == "first"
        pod.set_endpoints(path(port), targets.found(targets.endpoint(CLIENT, port + SECOND)))
        eventually(lambda: answers() == "second")
        eventually(lambda: answers() == "first")
        gone = destination_pb2.AddrSet(addrs=[socket_message(CLIENT, port)])
        pod.set_endpoints(path(port), destination_pb2.Update(remove=gone))
        eventually(lambda: {answers() for _ in range(5)} == {"second"})


def test_an_address_that_nobody_takes_costs_no_request(pod: Pod, port: int) -> None:
    balanced(pod, port, targets.found(targets.endpoint(CLIENT, port), targets.endpoint(CLIENT, port + SECOND)))
    with http_app(port, ip=CLIENT):
        assert [status(port) for _ in range(20)] == [200] * 20


def test_the_first_addresses_of_a_new_stream_are_all_there_are(pod: Pod, port: int) -> None:
    balanced(pod, port, targets.found(targets.endpoint(CLIENT, port)))
    with two_applications(port) as answers:
        assert answers() == "first"
        pod.set_endpoints(path(port), targets.found(targets.endpoint(CLIENT, port + SECOND)), is_first=True)
        eventually(lambda: {answers() for _ in range(5)} == {"second"})


def test_an_update_that_says_nothing_changes_nothing(pod: Pod, port: int) -> None:
    balanced(pod, port, targets.found(targets.endpoint(CLIENT, port)))
    with two_applications(port) as answers:
        for update in (targets.found(), destination_pb2.Update(remove=destination_pb2.AddrSet())):
            pod.set_endpoints(path(port), update)
        assert {answers() for _ in range(5)} == {"first"}


@PROTOCOLS
def test_without_endpoints_requests_fail_fast(pod: Pod, port: int, ask: Ask) -> None:
    balanced(pod, port, destination_pb2.Update(no_endpoints=destination_pb2.NoEndpoints(exists=True)))
    with connect_as_app(port) as stream:
        assert_fatal(ask(stream), ask, 504, 4, "no ready endpoint: fail fast")


def test_an_address_whose_identity_changed_is_dialled_anew(pod: Pod, authority: Authority, port: int) -> None:
    balanced(pod, port, targets.found(targets.endpoint(CLIENT, port)))
    with http_app(port, ip=CLIENT):
        assert status(port) == 200
    with meshed(authority, CART, port):
        pod.set_endpoints(path(port), targets.found(targets.endpoint(CLIENT, port, CART)))
        eventually(lambda: status(port) == 200)
    served = {"authority": path(port), "server_id": CART, "status_code": "200"}
    eventually(lambda: pod.value("response_total", **served) == 1)


@PROTOCOLS
def test_endpoints_that_the_control_plane_refuses_are_a_bad_gateway(pod: Pod, port: int, ask: Ask) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(path(port)))
    with connect_as_app(port) as stream:
        eventually(lambda: path(port) in pod.asked)
        pod.refuse_endpoints(path(port), "not to be had")
        assert_fatal(ask(stream), ask, 502, 14, "backend cannot be used: not to be had")


def test_an_address_that_is_none_is_skipped(pod: Pod, port: int) -> None:
    nowhere = targets.Endpoint(weight=1)
    nowhere.addr.port = port
    balanced(pod, port, targets.found(nowhere, targets.endpoint(CLIENT, port)))
    with two_applications(port) as answers:
        assert {answers() for _ in range(5)} == {"first"}


def test_an_http1_connection_that_idles_is_closed(pod: Pod, port: int) -> None:
    """The endpoint sees its connection end while the application's is still open."""
    ended: queue.Queue[bool] = queue.Queue()
    app = HttpApp()

    def talk(connection: socket.socket) -> None:
        try:
            app.talk(connection)
        finally:
            ended.put(True)

    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    with listening(port, talk, ip=CLIENT), connect_as_app(port) as stream:
        assert http1(stream, get()).status == 200
        assert ended.get(timeout=5)
        assert http1(stream, get()).status == 200
