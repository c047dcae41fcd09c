"""How the first bytes of a connection decide what it is, on both sides (wire.md 5.1, 5.4, 5.6)."""

import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest

from . import policies, targets
from .certificates import Authority, workload
from .clients import connect, connect_as_app, connect_meshed, get, http1, http2, is_closed
from .frames import FrameClient
from .namespace import CLIENT, POD
from .pod import IDENTITY, Pod, eventually
from .servers import Answer, Http2App, HttpApp, Reader, http2_app, http_app, listening, ok

INBOUND = 8082
LIMIT_S = 0.5
CART = workload("cart")
GREETING = b"220 ready\r\n"
_ports = itertools.count(8700)


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    limit_ms = int(LIMIT_S * 1000)
    limits = {"inbound_detect_timeout_ms": limit_ms, "outbound_detect_timeout_ms": limit_ms}
    # What a test has left behind is let go of before the next.
    with closing(Pod(authority, outbound_discovery_idle_ms=100, inbound_http1_pool_idle_ms=100, **limits)) as pod:
        pod.set_policy(INBOUND, policies.detect(timeout_ms=limit_ms))
        yield pod


class Side:
    """One of the proxy's two sides, with an application behind it."""

    def __init__(self, name: str, ip: str, port: int, dial: Callable[[int], socket.socket]) -> None:
        self.ip, self.port = ip, port
        self.results = f"{name}_tcp_detect_http_results_total"
        self.connect = partial(dial, port)


@pytest.fixture(params=["inbound", "outbound"])
def side(request: pytest.FixtureRequest, pod: Pod) -> Side:
    if request.param == "inbound":
        return Side("inbound", POD, INBOUND, connect)
    port = next(_ports)
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    return Side("outbound", CLIENT, port, connect_as_app)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def test_one_read_decides(pod: Pod, side: Side) -> None:
    """The head's first bytes alone are too few to tell, and what follows does not change it."""
    before = pod.value(side.results, result="not_http")
    with listening(side.port, echo, ip=side.ip), side.connect() as stream:
        stream.sendall(b"GET /")
        assert Reader(stream).exactly(5) == b"GET /"
        rest = b" HTTP/1.1\r\nhost: web.shop\r\n\r\n"
        stream.sendall(rest)
        assert Reader(stream).exactly(len(rest)) == rest
    assert pod.value(side.results, result="not_http") == before + 1


def test_a_request_line_cut_in_its_target_is_http1(pod: Pod, side: Side) -> None:
    before = pod.value(side.results, result="http/1")
    with http_app(side.port, ip=side.ip) as app, side.connect() as stream:
        stream.sendall(b"GET /a/long/path/t")
        eventually(lambda: pod.value(side.results, result="http/1") == before + 1)
        assert http1(stream, b"hat/goes/on HTTP/1.1\r\nhost: web.shop\r\n\r\n").status == 200
    assert app.last.line == "GET /a/long/path/that/goes/on HTTP/1.1"


def test_the_preface_is_http2(pod: Pod, side: Side) -> None:
    before = pod.value(side.results, result="http/2")
    with http2_app(side.port, ip=side.ip), http2(side.connect()) as client:
        assert client.request().status == 200
    assert pod.value(side.results, result="http/2") == before + 1


def test_a_client_that_waits_for_the_server_hears_it_when_the_look_times_out(pod: Pod, side: Side) -> None:
    before = pod.value(side.results, result="read_timeout")
    # Inbound, the look for TLS is over its limit first: an opaque port is for such servers.
    with listening(side.port, lambda connection: connection.sendall(GREETING), ip=side.ip), side.connect() as stream:
        if side.ip == POD:
            assert is_closed(stream)
        else:
            assert Reader(stream).exactly(len(GREETING)) == GREETING
            assert pod.value(side.results, result="read_timeout") == before + 1


def test_a_client_that_says_nothing_is_an_error(pod: Pod, side: Side) -> None:
    before = pod.value(side.results, result="error")
    with listening(side.port, echo, ip=side.ip), side.connect() as stream:
        stream.shutdown(socket.SHUT_WR)
        assert is_closed(stream)
    eventually(lambda: pod.value(side.results, result="error") == before + 1)


def test_tls_of_the_application_passes_as_bytes(pod: Pod, authority: Authority, side: Side) -> None:
    context = authority.server_context("db.example")
    trusting = ssl.create_default_context(cadata=authority.pem)
    with (
        listening(side.port, echo, ip=side.ip, tls=context),
        trusting.wrap_socket(side.connect(), server_hostname="db.example") as stream,
    ):
        stream.sendall(b"hello")
        assert stream.recv(64) == b"hello"


def test_an_idle_connection_to_the_application_is_closed(pod: Pod) -> None:
    """The application sees it end while its client's is still open."""
    ended = threading.Event()
    app = HttpApp()

    def talk(connection: socket.socket) -> None:
        try:
            app.talk(connection)
        finally:
            ended.set()

    with listening(INBOUND, talk), connect(INBOUND) as stream:
        assert http1(stream, get()).status == 200
        assert ended.wait(2), "well before the default of three seconds"
        assert http1(stream, get()).status == 200


# What each side makes of odd requests.


@pytest.mark.parametrize(
    "raw",
    [b"CONNECT / HTTP/1.1\r\nhost: web.shop\r\n\r\n", b"GET web.shop:80 HTTP/1.1\r\nhost: web.shop\r\n\r\n"],
    ids=["CONNECT without an authority", "an authority without CONNECT"],
)
def test_a_target_of_the_wrong_form_is_a_bad_request(pod: Pod, side: Side, raw: bytes) -> None:
    with http_app(side.port, ip=side.ip) as app, side.connect() as stream:
        assert http1(stream, raw).status == 400
        assert is_closed(stream)
    assert app.seen == []


def test_headers_of_one_connection_end_with_it(pod: Pod, side: Side) -> None:
    named = "connection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: 5\r\nproxy-connection: x\r\nx-yours: 2\r\n"
    with http_app(side.port, lambda _: ok(headers=named), ip=side.ip) as app, side.connect() as stream:
        reply = http1(stream, get(headers=named))
    gone = ("x-mine", "keep-alive", "proxy-connection")
    assert [app.last.all(name) for name in gone] == [[], [], []]
    assert [reply.first(name) for name in gone] == ["", "", ""]
    assert (app.last.all("x-yours"), reply.first("x-yours")) == (["2"], "2")


def test_an_offer_of_cleartext_http2_is_taken_away(pod: Pod, side: Side) -> None:
    ask = get(headers="connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n")
    with http_app(side.port, ip=side.ip) as app, side.connect() as stream:
        assert http1(stream, ask).status == 200
    assert [app.last.all(name) for name in ("upgrade", "http2-settings", "connection")] == [[], [], []]


def test_a_tunnel_to_a_peer_that_takes_http2_has_a_real_http1_connection(pod: Pod) -> None:
    port = next(_ports)
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, takes_http2=True)))

    def tunnel(connection: socket.socket) -> None:
        reader = Reader(connection)
        assert reader.until(b"\r\n\r\n").startswith(b"CONNECT db.shop:5432 HTTP/1.1\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.sendall(reader.exactly(5)[::-1])

    with listening(port, tunnel, ip=CLIENT), connect_as_app(port) as stream:
        stream.sendall(b"CONNECT db.shop:5432 HTTP/1.1\r\nhost: db.shop:5432\r\n\r\n")
        reader = Reader(stream)
        assert reader.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        stream.sendall(b"hello")
        assert reader.exactly(5) == b"olleh"


# Mesh TLS.


def test_no_application_protocol_is_agreed_where_no_header_is_to_come(pod: Pod, authority: Authority) -> None:
    context = authority.client_context(CART)
    context.set_alpn_protocols(["h2", "transport.l5d.io/v1"])
    with http_app(INBOUND), context.wrap_socket(connect(INBOUND), server_hostname=IDENTITY) as stream:
        assert stream.selected_alpn_protocol() is None
        assert http1(stream, get()).status == 200


def test_a_meshed_client_that_says_nothing_to_an_http1_port_is_one_of_http1(pod: Pod, authority: Authority) -> None:
    port = 8083
    pod.set_policy(port, policies.http1())
    before = pod.value("inbound_tcp_detect_http_results_total", result="read_timeout")
    with http_app(port) as app, connect_meshed(authority, CART, port) as stream:
        eventually(lambda: pod.value("inbound_tcp_detect_http_results_total", result="read_timeout") == before + 1)
        assert http1(stream, get()).status == 200
    assert app.last.all("l5d-client-id") == [CART]


@pytest.mark.parametrize("is_tls", [False, True], ids=["detect", "tls"])
def test_bytes_are_cut_when_policy_stops_admitting_their_client(pod: Pod, is_tls: bool) -> None:
    port = 8084
    said = b"\x01\x02\x03 no http at all"
    pod.set_policy(port, policies.tls() if is_tls else policies.detect())
    with listening(port, echo), connect(port) as stream:
        stream.sendall(said)
        assert Reader(stream).exactly(len(said)) == said
        refused = policies.meshed(CART)
        pod.set_policy(port, policies.tls(refused) if is_tls else policies.detect(authorizations=[refused]))
        assert is_closed(stream)


# Where a connection may not go.


def test_a_loopback_target_is_refused(pod: Pod) -> None:
    arrived = threading.Event()
    with listening(8790, lambda _: arrived.set(), ip="127.0.0.1"), connect_as_app(8790, ip="127.0.0.1") as stream:
        stream.sendall(get())
        assert is_closed(stream)
    assert not arrived.is_set()
    eventually(lambda: bool(pod.logged("refused a loopback target")))


def test_a_wish_to_end_is_no_business_of_the_application_while_there_are_other_endpoints(
    pod: Pod, authority: Authority
) -> None:
    """The endpoint asked for its own connection to end, and of several endpoints another may serve."""
    port = next(_ports)
    path = f"cart.shop.svc.cluster.local:{port}"
    pod.endpoints[path] = targets.found(targets.endpoint(CLIENT, port, CART))
    pod.set_target(f"{POD}:{port}", targets.detect_to(path))
    said = ok(headers="l5d-proxy-connection: close\r\n")
    context = authority.server_context(CART)
    with http_app(port, lambda _: said, ip=CLIENT, tls=context), connect_as_app(port) as stream:
        for _ in range(2):
            reply = http1(stream, get())
            assert [reply.first(name) for name in ("connection", "l5d-proxy-connection")] == ["", ""]


def test_a_wish_to_end_of_the_only_endpoint_ends_http2_too(pod: Pod, authority: Authority) -> None:
    port = next(_ports)
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, CART)))
    app = Http2App(lambda _: Answer([(":status", "200"), ("l5d-proxy-connection", "close")]))
    with listening(port, app.talk, ip=CLIENT, tls=authority.server_context(CART)), connect_as_app(port) as stream:
        client = FrameClient(stream)
        client.send()
        assert "l5d-proxy-connection" not in dict(client.reply().headers)
        assert client.ends_gracefully()
