"""What requests become on their way out, and what their answers lose (wire.md 2.5, 2.6, 5.4, 5.5, 5.7)."""

import itertools
import queue
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import h2.config
import h2.connection
import h2.events
import pytest
from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import destination_pb2, http_route_pb2, http_types_pb2, opaque_route_pb2, transport_pb2
from weft_proto.linkerd import outbound_pb2 as out

from . import targets
from .certificates import DIRECT_ALPN, Authority, workload
from .clients import Http2, connect_as_app, get, http1, http2, is_closed
from .failures import PROTOCOLS, Ask, ask_grpc, ask_http1, ask_http2, assert_fatal, assert_not_fatal
from .namespace import CLIENT, POD
from .pod import Pod, eventually
from .servers import Answer, Http2App, HttpApp, Reader, grpc_answer, http2_app, http_app, listening, ok

CART = workload("cart")
_ports = itertools.count(8100)


@pytest.fixture
def port() -> int:
    """A target is discovered once, so each test has its own."""
    return next(_ports)


# An HTTP/1 request to a peer that takes HTTP/2.


def carried(
    pod: Pod, port: int, raw: bytes, answer: Callable[[dict[str, str]], Answer | None] | None = None
) -> Http2App:
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, takes_http2=True)))
    with http2_app(port, answer, ip=CLIENT) as app, connect_as_app(port) as stream:
        reply = http1(stream, raw)
        assert (reply.status, reply.first("l5d-orig-proto")) == (200, "")
    return app


@pytest.mark.parametrize(
    ("line", "mark"),
    [
        ("GET /page?a=b HTTP/1.1", "HTTP/1.1"),
        ("GET /page?a=b HTTP/1.0", "HTTP/1.0"),
        ("GET http://cart.shop/page?a=b HTTP/1.1", "HTTP/1.1; absolute-form"),
    ],
)
def test_http1_to_a_peer_that_takes_http2_is_carried_with_what_it_was(
    pod: Pod, port: int, line: str, mark: str
) -> None:
    app = carried(pod, port, f"{line}\r\nhost: cart.shop\r\n\r\n".encode())
    seen = dict(app.seen[0])
    assert (seen["l5d-orig-proto"], seen[":path"], seen[":authority"]) == (mark, "/page?a=b", "cart.shop")


def test_a_chunked_body_is_carried_without_its_transfer_encoding(pod: Pod, port: int) -> None:
    raw = b"POST / HTTP/1.1\r\nhost: cart.shop\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-end: 1\r\n\r\n"
    app = carried(pod, port, raw)
    assert "transfer-encoding" not in dict(app.seen[0])
    assert app.bodies == [b"hi"]


def test_the_answer_to_a_carried_request_is_http1_again(pod: Pod, port: int) -> None:
    headers = [(":status", "200"), ("l5d-orig-proto", "HTTP/1.1"), ("content-length", "2")]
    carried(pod, port, get(), lambda _: Answer(headers))


def test_a_reset_under_a_carried_request_is_a_502(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, takes_http2=True)))
    with http2_app(port, lambda _: None, ip=CLIENT), connect_as_app(port) as stream:
        reply = http1(stream, get())
        assert (reply.status, reply.first("l5d-proxy-connection"), reply.first("connection")) == (502, "close", "close")
        assert is_closed(stream)


@pytest.mark.parametrize("is_grpc", [False, True], ids=["http2", "grpc"])
def test_a_reset_of_an_http2_request_reaches_the_application_as_it_was(pod: Pod, port: int, is_grpc: bool) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    with http2_app(port, lambda _: None, ip=CLIENT), http2(connect_as_app(port)) as client:
        reply = client.grpc() if is_grpc else client.request()
    assert reply.reset == 11


def test_a_websocket_to_a_peer_that_takes_http2_has_a_real_http1_connection(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, takes_http2=True)))
    asked = "connection: upgrade\r\nupgrade: websocket\r\n"
    switch = f"HTTP/1.1 101 Switching Protocols\r\n{asked}\r\n".encode()
    with http_app(port, lambda _: switch, ip=CLIENT) as app, connect_as_app(port) as stream:
        stream.sendall(get("/chat", headers=asked))
        assert stream.recv(64).startswith(b"HTTP/1.1 101")
    assert app.last.first("upgrade") == "websocket"


def test_http2_and_grpc_pass_with_their_trailers(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    with http2_app(port, lambda _: grpc_answer(9), ip=CLIENT) as app, http2(connect_as_app(port)) as client:
        reply = client.grpc(headers=[("x-mine", "1")])
        assert (reply.status, dict(reply.trailers), reply.body) == (200, {"grpc-status": "9"}, b"\0\0\0\0\0")
        client.request("/up", method="POST", body=b"hi", trailers=[("x-end", "1")])
    assert dict(app.seen[0])["x-mine"] == "1"
    assert "l5d-orig-proto" not in dict(app.seen[0])
    assert app.trailers == [[("x-end", "1")]]


def test_an_endpoint_is_pinged_as_discovery_asks_and_left_when_it_is_silent(pod: Pod, port: int) -> None:
    of = targets.endpoint(CLIENT, port)
    of.http2.keep_alive.interval.FromMilliseconds(50)
    of.http2.keep_alive.timeout.FromMilliseconds(200)
    pod.set_target(f"{POD}:{port}", targets.detect_to(of))
    heard = bytearray()

    def say_nothing(connection: socket.socket) -> None:
        connection.sendall(b"\0\0\0\4\0\0\0\0\0")
        while data := connection.recv(65536):
            heard.extend(data)

    ping = b"\0\0\x08\x06\0\0\0\0\0"
    with listening(port, say_nothing, ip=CLIENT), connect_as_app(port) as stream:
        assert ask_http2(stream).status == 502
    assert ping in heard


def test_an_endpoint_is_not_pinged_unasked(pod: Pod, port: int) -> None:
    """gRPC servers hang up on clients that ping more than they like."""
    of = targets.endpoint(CLIENT, port)
    of.http2.keep_alive.interval.FromMilliseconds(50)
    pod.set_target(f"{POD}:{port}", targets.detect_to(of))
    pinged = threading.Event()

    def talk(connection: socket.socket) -> None:
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http2.initiate_connection()
        connection.sendall(http2.data_to_send())
        while data := connection.recv(65536):
            for event in http2.receive_data(data):
                if isinstance(event, h2.events.PingReceived):
                    pinged.set()
                if isinstance(event, h2.events.StreamEnded):
                    pinged.wait(0.5)
                    http2.send_headers(event.stream_id or 0, [(":status", "204")], end_stream=True)
            connection.sendall(http2.data_to_send())

    with listening(port, talk, ip=CLIENT), connect_as_app(port) as stream:
        assert ask_http2(stream).status == 204
    assert not pinged.is_set()


# What a peer's proxy is told ahead of the first byte.

Header = transport_pb2.Header
HTTP1 = transport_pb2.SessionProtocol(http1=transport_pb2.SessionProtocol.Http1())
HTTP2 = transport_pb2.SessionProtocol(http2=transport_pb2.SessionProtocol.Http2())
INBOUND = 4999
"""Where the peer's proxy listens."""


@pytest.mark.parametrize(
    ("hint", "speaks", "session"),
    [
        ("", "http1", HTTP1),
        ("", "http2", HTTP2),
        ("h2", "http1", HTTP2),
        ("opaque", "http1", None),
        ("", "bytes", None),
        ("h2", "bytes", None),
    ],
)
def test_a_transport_header_names_the_real_port_and_what_comes(
    pod: Pod, authority: Authority, port: int, hint: str, speaks: str, session: transport_pb2.SessionProtocol | None
) -> None:
    of = targets.endpoint(CLIENT, port, CART)
    of.protocol_hint.opaque_transport.inbound_port = INBOUND
    if hint:
        getattr(of.protocol_hint, hint).SetInParent()
    assert told(pod, authority, port, of, speaks, at=INBOUND) == Header(port=port, session_protocol=session)


def test_a_gateways_transport_header_names_the_destination(pod: Pod, authority: Authority, port: int) -> None:
    of = targets.endpoint(CLIENT, port, CART, authority="cart.far.svc.cluster.local:8080")
    expected = Header(port=8080, name="cart.far.svc.cluster.local", session_protocol=HTTP1)
    assert told(pod, authority, port, of, "http1", at=port) == expected


def told(
    pod: Pod, authority: Authority, port: int, of: targets.Endpoint, speaks: str, *, at: int
) -> transport_pb2.Header:
    """at: where the endpoint's proxy is dialled."""
    pod.set_target(f"{POD}:{port}", targets.detect_to(of))
    context = authority.server_context(CART)
    context.set_alpn_protocols([DIRECT_ALPN])
    found: queue.Queue[transport_pb2.Header] = queue.Queue()

    def answer(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        assert connection.selected_alpn_protocol() == DIRECT_ALPN
        reader = Reader(connection)
        assert reader.exactly(23) == b"transport.l5d.io/v1\r\n\r\n"
        (length,) = struct.unpack(">I", reader.exactly(4))
        found.put(Header.FromString(reader.exactly(length)))

    with listening(at, answer, ip=CLIENT, tls=context), connect_as_app(port) as stream:
        if speaks == "http2":
            Http2(stream).send()
        else:
            stream.sendall(get() if speaks == "http1" else b"\x01\x02\x03")
        return found.get(timeout=10)


def test_without_a_header_to_write_no_alpn_is_offered(pod: Pod, authority: Authority, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, CART)))
    context = authority.server_context(CART)
    context.set_alpn_protocols([DIRECT_ALPN])
    chosen: queue.Queue[str | None] = queue.Queue()

    def answer(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        chosen.put(connection.selected_alpn_protocol())

    with listening(port, answer, ip=CLIENT, tls=context), connect_as_app(port) as stream:
        stream.sendall(get())
        assert chosen.get(timeout=10) is None


def test_an_endpoint_in_the_pod_itself_is_reached_as_it_is(pod: Pod, port: int) -> None:
    """No TLS, no transport header, no upgrade: behind the address there is no other proxy."""
    of = targets.endpoint(POD, port, CART, takes_http2=True)
    of.protocol_hint.opaque_transport.inbound_port = INBOUND
    pod.set_target(f"{POD}:{port}", targets.detect_to(of))
    with http_app(port) as app, connect_as_app(port) as stream:
        assert http1(stream, get()).status == 200
    assert app.last.line == "GET / HTTP/1.1"


# Headers of the mesh.


@PROTOCOLS
def test_an_endpoint_that_is_not_who_was_asked_for_gets_nothing(pod: Pod, port: int, ask: Ask) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    with listening(port, _never_answers, ip=CLIENT), connect_as_app(port) as stream:
        reply = ask(stream, [("l5d-require-id", CART)])
    assert_fatal(reply, ask, 502, 14, f'request required the identity "{CART}"; connection has ""')


def test_the_required_identity_is_no_business_of_the_server(pod: Pod, authority: Authority, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, CART)))
    with meshed_app(authority, port) as app, connect_as_app(port) as stream:
        assert http1(stream, get(headers=f"l5d-require-id: {CART}\r\n")).status == 200
    assert app.last.all("l5d-require-id") == []


def test_an_overridden_authority_takes_the_place_of_the_requests_host(pod: Pod, port: int) -> None:
    elsewhere = f"cart.far.svc.cluster.local:{port}"
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, authority=elsewhere)))
    with http_app(port, ip=CLIENT) as app, connect_as_app(port) as stream:
        assert http1(stream, get(headers="l5d-dst-canonical: x\r\n")).status == 200
    assert (app.last.all("host"), app.last.all("l5d-dst-canonical")) == ([elsewhere], [])


def test_what_a_meshed_peer_says_to_its_peer_stays_between_them(pod: Pod, authority: Authority, port: int) -> None:
    """It asked to end the connection, and there is no other endpoint: so ends the application's own."""
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port, CART)))
    said = "l5d-proxy-error: secret\r\nl5d-proxy-connection: close\r\n"
    with meshed_app(authority, port, ok(headers=said)), connect_as_app(port) as stream:
        reply = http1(stream, get())
        assert [reply.first(name) for name in ("l5d-proxy-error", "l5d-proxy-connection", "connection")] == [
            "",
            "",
            "close",
        ]
        assert is_closed(stream)


def test_what_a_stranger_says_passes_as_any_header(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    with http_app(port, lambda _: ok(headers="l5d-proxy-error: mine\r\n"), ip=CLIENT), connect_as_app(port) as stream:
        assert http1(stream, get()).first("l5d-proxy-error") == "mine"


L5D = {"l5d-retry-http": "5xx", "l5d-retry-limit": "2", "l5d-retry-timeout": "1s", "l5d-timeout": "2s"}


@pytest.mark.parametrize("allowed", [False, True])
def test_a_clients_own_retries_count_only_where_the_rule_allows_them(pod: Pod, port: int, allowed: bool) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, allow_l5d_request_headers=allowed))
    fails = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"
    with http_app(port, lambda _: fails, ip=CLIENT) as app, connect_as_app(port) as stream:
        assert http1(stream, get(headers="".join(f"{k}: {v}\r\n" for k, v in L5D.items()))).status == 500
    assert len(app.seen) == (3 if allowed else 1)
    assert [app.last.first(name) for name in L5D] == ([""] * 4 if allowed else list(L5D.values()))


def test_only_an_ingress_looks_at_an_override_of_the_destination(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port))
    with http_app(port, ip=CLIENT) as app, connect_as_app(port) as stream:
        assert http1(stream, get(headers="l5d-dst-override: cart.shop:1\r\n")).status == 200
    assert app.last.first("l5d-dst-override") == "cart.shop:1"


# Policies that answer by themselves.


@PROTOCOLS
def test_a_request_that_no_route_takes_is_not_found(pod: Pod, port: int, ask: Ask) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(targets.endpoint(CLIENT, port), path="/only/this"))
    with connect_as_app(port) as stream:
        assert_not_fatal(ask(stream), ask, 404, 5, "no route found for request")


@PROTOCOLS
def test_a_backend_that_did_not_resolve_is_a_bad_gateway(pod: Pod, port: int, ask: Ask) -> None:
    pod.set_target(f"{POD}:{port}", targets.detect_to(None))
    with connect_as_app(port) as stream:
        assert_fatal(ask(stream), ask, 502, 14, "backend cannot be used: it did not resolve")


@PROTOCOLS
def test_a_policy_that_makes_no_sense_is_an_internal_error(pod: Pod, port: int, ask: Ask) -> None:
    policy = targets.detect(CLIENT, port)
    policy.protocol.detect.ClearField("http1")
    pod.set_target(f"{POD}:{port}", policy)
    with connect_as_app(port) as stream:
        assert_fatal(ask(stream), ask, 500, 13, "invalid policy: detect policy has no HTTP/1 part")


@PROTOCOLS
def test_a_filter_sends_the_application_elsewhere(pod: Pod, port: int, ask: Ask) -> None:
    redirect = http_route_pb2.RequestRedirect(host="other.shop", status=308)
    filters = [out.HttpRoute.Filter(redirect=redirect)]
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, filters=filters))
    with connect_as_app(port) as stream:
        reply = ask(stream)
    if ask is ask_grpc:
        assert (reply.status, reply.first("grpc-status")) == (200, "5")
    else:
        assert (reply.status, reply.first("location")) == (308, "http://other.shop/")


@PROTOCOLS
def test_a_filter_fails_requests_with_its_status(pod: Pod, port: int, ask: Ask) -> None:
    injector = http_route_pb2.HttpFailureInjector(status=418, message="teapot")
    filters = [out.HttpRoute.Filter(failure_injector=injector)]
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, filters=filters))
    with connect_as_app(port) as stream:
        assert_not_fatal(ask(stream), ask, 418, 9, "teapot")


@PROTOCOLS
def test_filters_change_headers_both_ways(pod: Pod, port: int, ask: Ask) -> None:
    def one(name: str) -> http_types_pb2.Headers:
        return http_types_pb2.Headers(headers=[http_types_pb2.Headers.Header(name=name, value=b"set")])

    filters = [
        out.HttpRoute.Filter(request_header_modifier=http_route_pb2.RequestHeaderModifier(set=one("x-asked"))),
        out.HttpRoute.Filter(response_header_modifier=http_route_pb2.ResponseHeaderModifier(set=one("x-answered"))),
    ]
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port, filters=filters))
    app: HttpApp | Http2App
    with (
        http_app(port, ip=CLIENT) if ask is ask_http1 else http2_app(port, ip=CLIENT) as app,
        connect_as_app(port) as stream,
    ):
        assert ask(stream).first("x-answered") == "set"
    headers = app.last.headers if isinstance(app, HttpApp) else app.seen[-1]
    assert ("x-asked", "set") in headers


def test_a_backends_own_filters_meet_its_requests_only(pod: Pod, port: int) -> None:
    headers = http_types_pb2.Headers(headers=[http_types_pb2.Headers.Header(name="x-asked", value=b"set")])
    modifier = http_route_pb2.RequestHeaderModifier(set=headers)
    policy = targets.detect(CLIENT, port)
    (route,) = policy.protocol.detect.http1.routes
    plain = out.HttpRoute.Rule()
    plain.CopyFrom(route.rules[0])
    plain.matches[0].path.prefix = "/plain"
    (backend,) = route.rules[0].backends.first_available.backends
    backend.filters.append(out.HttpRoute.Filter(request_header_modifier=modifier))
    route.rules.append(plain)
    pod.set_target(f"{POD}:{port}", policy)
    with http_app(port, ip=CLIENT) as app, connect_as_app(port) as stream:
        for path in ("/", "/plain"):
            assert http1(stream, get(path)).status == 200
    assert [seen.all("x-asked") for seen in app.seen] == [["set"], []]


# ServiceProfiles.

FQN = "web.shop.svc.cluster.local"


def profile(**route: object) -> destination_pb2.DestinationProfile:
    matches = destination_pb2.RequestMatch(path=destination_pb2.PathMatch(regex="/.*"))
    budget = destination_pb2.RetryBudget(retry_ratio=0.2, min_retries_per_second=10, ttl=Duration(seconds=10))
    routes = [destination_pb2.Route(condition=matches, **route)]  # type: ignore[arg-type]  # fields by name
    return destination_pb2.DestinationProfile(fully_qualified_name=FQN, routes=routes, retry_budget=budget)


@pytest.fixture
def profiled(pod: Pod, port: int) -> int:
    found = destination_pb2.WeightedAddrSet(addrs=[targets.endpoint(CLIENT, port)])
    pod.endpoints[f"{FQN}:{port}"] = destination_pb2.Update(add=found)
    return port


def test_a_request_by_a_profile_names_its_canonical_destination(pod: Pod, profiled: int) -> None:
    pod.set_target(f"{POD}:{profiled}", targets.detect(CLIENT, profiled), profile())
    with http_app(profiled, ip=CLIENT) as app, connect_as_app(profiled) as stream:
        assert http1(stream, get()).status == 200
    assert app.last.all("l5d-dst-canonical") == [f"{FQN}:{profiled}"]


@PROTOCOLS
def test_a_profiles_timeout_ends_the_connection_too(pod: Pod, profiled: int, ask: Ask) -> None:
    route = profile(timeout=Duration(nanos=100_000_000))
    pod.set_target(f"{POD}:{profiled}", targets.detect(CLIENT, profiled), route)
    with listening(profiled, _never_answers, ip=CLIENT), connect_as_app(profiled) as stream:
        assert_fatal(ask(stream), ask, 504, 4, "request timed out")


@pytest.mark.parametrize("ask", [ask_http1, ask_grpc])
def test_a_profile_retries_what_it_says_can_be(pod: Pod, profiled: int, ask: Ask) -> None:
    raw = iter([b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", ok()])
    answers = iter([grpc_answer(14), grpc_answer(0)])
    pod.set_target(f"{POD}:{profiled}", targets.detect(CLIENT, profiled), profile(is_retryable=True))
    app: HttpApp | Http2App
    with (
        http_app(profiled, lambda _: next(raw), ip=CLIENT)
        if ask is ask_http1
        else http2_app(profiled, lambda _: next(answers), ip=CLIENT) as app,
        connect_as_app(profiled) as stream,
    ):
        reply = ask(stream)
    assert (reply.status, reply.first("grpc-status")) == (200, "" if ask is ask_http1 else "0")
    assert len(app.seen) == 2


# Where bytes go.


def echo(connection: socket.socket) -> None:
    connection.sendall(connection.recv(64)[::-1])


def echoes(port: int) -> bool:
    with connect_as_app(port) as stream:
        stream.sendall(b"hello")
        return stream.recv(64) == b"olleh"


def test_a_target_without_a_policy_is_reached_at_the_profiles_endpoint(pod: Pod, port: int) -> None:
    known = destination_pb2.DestinationProfile(endpoint=targets.endpoint(CLIENT, port))
    pod.set_target(f"{POD}:{port}", profile=known)
    with listening(port, echo, ip=CLIENT):
        assert echoes(port)


def test_a_target_that_nobody_knows_is_reached_where_it_was(pod: Pod, port: int) -> None:
    with listening(port, echo, ip=POD):
        assert echoes(port)


def test_a_profile_that_says_opaque_goes_before_the_policy(pod: Pod, port: int) -> None:
    known = destination_pb2.DestinationProfile(opaque_protocol=True)
    pod.set_target(f"{POD}:{port}", targets.detect(CLIENT, port), known)
    with (
        listening(port, lambda connection: connection.sendall(b"220 ready\r\n"), ip=CLIENT),
        connect_as_app(port) as stream,
    ):
        stream.settimeout(2)
        assert stream.recv(64) == b"220 ready\r\n"


@pytest.mark.parametrize("kind", ["forbidden", "invalid", "unresolved"])
def test_bytes_that_a_route_refuses_are_cut_and_counted(pod: Pod, port: int, kind: str) -> None:
    kinds = {
        "forbidden": ("forbidden", {"filters": [out.OpaqueRoute.Filter(forbidden=opaque_route_pb2.Forbidden())]}),
        "invalid": ("invalid_policy", {"filters": [out.OpaqueRoute.Filter(invalid=opaque_route_pb2.Invalid())]}),
        "unresolved": ("invalid_backend", {}),
    }
    error, rule = kinds[kind]
    to = None if kind == "unresolved" else targets.endpoint(CLIENT, port)
    pod.set_target(f"{POD}:{port}", targets.opaque_to(to, **rule))
    with listening(port, echo, ip=CLIENT), connect_as_app(port) as stream:
        assert is_closed(stream)
    labels = {"error": error, "target_port": str(port)}
    eventually(lambda: pod.value("outbound_tcp_route_close_total", **labels) == 1)


def test_tls_goes_by_its_server_name_and_stays_as_it_is(pod: Pod, authority: Authority, port: int) -> None:
    names = {"one.shop": targets.endpoint(CLIENT, port), "two.shop": targets.endpoint(CLIENT, port + 500)}
    pod.set_target(f"{POD}:{port}", targets.tls(names))
    context, client = authority.server_context("two.shop"), authority.client_context(CART)
    with (
        listening(port + 500, lambda connection: connection.sendall(b"two"), ip=CLIENT, tls=context),
        client.wrap_socket(connect_as_app(port), server_hostname="two.shop") as stream,
    ):
        assert stream.recv(64) == b"two"
    with connect_as_app(port) as bare, pytest.raises((ssl.SSLError, OSError)):
        client.wrap_socket(bare, server_hostname="three.shop")


def test_bytes_for_an_http_only_target_count_as_what_the_policy_says(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.http2(CLIENT, port))
    with http2_app(port, ip=CLIENT), http2(connect_as_app(port)) as client:
        assert client.request().status == 200
    assert pod.value("outbound_tcp_protocol_connections_total", protocol="http/2") > 0


def test_bytes_to_an_endpoint_count_for_its_zone(pod: Pod, port: int) -> None:
    near = targets.endpoint(CLIENT, port)
    near.metric_labels["zone_locality"] = "local"
    pod.set_target(f"{POD}:{port}", targets.opaque_to(near))
    with listening(port, echo, ip=CLIENT):
        assert echoes(port)
    cost = partial(pod.value, "outbound_tcp_transfer_cost_bytes_total", zone_locality="Local")
    eventually(lambda: cost(op="Send") == cost(op="Recv") == 5)


def _never_answers(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def meshed_app(authority: Authority, port: int, answer: bytes | None = None) -> AbstractContextManager[HttpApp]:
    return http_app(port, lambda _: answer or ok(), ip=CLIENT, tls=authority.server_context(CART))
