"""Connections that other proxies make to our own port: the transport header, the gateway, and what is refused."""

import socket
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest
from weft_proto.linkerd import transport_pb2

from . import policies, targets
from .certificates import Authority, workload
from .clients import Http2, connect, connect_direct, get, http1, is_closed
from .namespace import ADMIN_PORT, INBOUND_PORT, POD
from .pod import IDENTITY, Pod, eventually
from .servers import Reader, grpc_answer, http2_app, http_app, listening

PORT = 8083
CART = workload("cart")
Header = transport_pb2.Header
HTTP1 = transport_pb2.SessionProtocol(http1=transport_pb2.SessionProtocol.Http1())
HTTP2 = transport_pb2.SessionProtocol(http2=transport_pb2.SessionProtocol.Http2())
NAME = "web.shop.svc.cluster.local"


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    with closing(Pod(authority, inbound_gateway_suffixes=["svc.cluster.local."])) as pod:
        pod.set_policy(PORT, policies.detect(authorizations=[policies.meshed(CART)]))
        pod.set_policy(INBOUND_PORT, policies.detect(authorizations=[policies.meshed(CART)]))
        pod.set_target(f"{NAME}:{PORT}", targets.detect(POD, PORT))
        yield pod


def test_http_behind_a_transport_header_reaches_the_port_it_names(pod: Pod, authority: Authority) -> None:
    before = pod.value("inbound_tcp_transport_header_connections_total", client_id=CART, target_port=str(PORT))
    with http_app(PORT) as app, connect_direct(authority, CART, Header(port=PORT, session_protocol=HTTP1)) as stream:
        assert http1(stream, get()).status == 200
    assert app.last.all("l5d-client-id") == [CART]
    after = pod.value("inbound_tcp_transport_header_connections_total", client_id=CART, target_port=str(PORT))
    assert after == before + 1


def test_a_request_that_a_peer_carries_as_http2_arrives_as_it_was(pod: Pod, authority: Authority) -> None:
    with http_app(PORT) as app, connect_direct(authority, CART, Header(port=PORT, session_protocol=HTTP2)) as stream:
        client = Http2(stream)
        one = client.request("/one", headers=[("l5d-orig-proto", "HTTP/1.1")])
        absolute = client.request("/two", headers=[("l5d-orig-proto", "HTTP/1.1; absolute-form")])
        assert (one.status, one.first("l5d-orig-proto"), absolute.status) == (200, "HTTP/1.1", 200)
    assert [seen.line for seen in app.seen] == ["GET /one HTTP/1.1", "GET http://web.shop/two HTTP/1.1"]
    assert [seen.all("host") for seen in app.seen] == [["web.shop"], ["web.shop"]]
    assert app.last.all("l5d-orig-proto") == []


def test_native_http2_and_grpc_stay_so_with_their_trailers(pod: Pod, authority: Authority) -> None:
    with (
        http2_app(PORT, lambda headers: grpc_answer(9)) as app,
        connect_direct(authority, CART, Header(port=PORT, session_protocol=HTTP2)) as stream,
    ):
        reply = Http2(stream).grpc(headers=[("x-mine", "1")])
        assert (reply.status, dict(reply.trailers), reply.body) == (200, {"grpc-status": "9"}, b"\0\0\0\0\0")
        assert dict(app.seen[0])["x-mine"] == "1"
        assert dict(app.seen[0])["l5d-client-id"] == CART


def test_a_stream_that_the_application_resets_is_reset_the_same_way(pod: Pod, authority: Authority) -> None:
    with (
        http2_app(PORT, lambda headers: None),
        connect_direct(authority, CART, Header(port=PORT, session_protocol=HTTP2)) as stream,
    ):
        assert Http2(stream).request().reset == 11


def test_opaque_bytes_behind_a_transport_header_reach_the_port_it_names(pod: Pod, authority: Authority) -> None:
    with (
        listening(PORT, lambda connection: connection.sendall(connection.recv(64)[::-1])),
        connect_direct(authority, CART, Header(port=PORT)) as stream,
    ):
        stream.sendall(b"hello")
        assert stream.recv(64) == b"olleh"


def test_policy_of_the_named_port_holds_on_a_direct_connection(pod: Pod, authority: Authority) -> None:
    other = workload("other")
    with http_app(PORT), connect_direct(authority, other, Header(port=PORT, session_protocol=HTTP1)) as stream:
        assert http1(stream, get()).status == 403
    with connect_direct(authority, other, Header(port=PORT)) as stream:
        stream.sendall(b"hello")
        assert is_closed(stream)


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\nhost: web.shop\r\n\r\n",
        b"transport.l5d.io/v2\r\n\r\n\0\0\0\0",
        b"transport.l5d.io/v1\r\n\r\n" + struct.pack(">I", 65537),
        b"transport.l5d.io/v1\r\n\r\n" + struct.pack(">I", 2) + b"\xff\xff",
        b"transport.l5d.io/v1\r\n\r\n" + struct.pack(">I", 0),
    ],
    ids=["none", "another version", "too long", "no message", "no port"],
)
def test_a_direct_connection_without_a_proper_header_is_closed(pod: Pod, authority: Authority, header: bytes) -> None:
    context = authority.client_context(CART, direct=True)
    with http_app(PORT) as app, context.wrap_socket(connect(INBOUND_PORT), server_hostname=IDENTITY) as stream:
        stream.sendall(header)
        assert is_closed(stream)
    assert app.seen == []


def test_a_header_that_leads_back_to_the_proxy_is_refused(pod: Pod, authority: Authority) -> None:
    with connect_direct(authority, CART, Header(port=INBOUND_PORT)) as stream:
        stream.sendall(b"hello")
        assert is_closed(stream)


def test_a_direct_connection_without_alpn_or_identity_is_refused(pod: Pod, authority: Authority) -> None:
    header = Header(port=PORT)
    with connect_direct(authority, CART, None) as stream:
        stream.sendall(b"transport.l5d.io/v1\r\n\r\n" + struct.pack(">I", 3) + header.SerializeToString())
        assert is_closed(stream)
    with connect_direct(authority, "", header) as stream:
        assert is_closed(stream)
    with connect(INBOUND_PORT) as stream:
        stream.sendall(get())
        assert is_closed(stream)


def test_the_admin_port_is_no_loopback_client_away(pod: Pod, authority: Authority) -> None:
    """CVE-2024-40632: nobody reaches the admin port through the proxy as if from this host."""
    pod.admin_requests.clear()
    with connect_direct(authority, CART, Header(port=ADMIN_PORT, session_protocol=HTTP1)) as stream:
        http1(stream, b"POST /shutdown HTTP/1.1\r\nhost: localhost:4191\r\ncontent-length: 0\r\n\r\n")
    assert all(not asked.client_is_loopback for asked in pod.admin_requests)


def test_a_gateway_passes_requests_on_and_says_for_whom(pod: Pod, authority: Authority) -> None:
    header = Header(port=PORT, name=NAME, session_protocol=HTTP1)
    with http_app(PORT) as app, connect_direct(authority, CART, header) as stream:
        reply = http1(stream, get("/page", host="web.shop"))
        assert (reply.status, reply.body) == (200, b"ok")
    assert app.last.first("host") == f"{NAME}:{PORT}"
    assert app.last.first("forwarded") == f"by={IDENTITY};for={CART};host=web.shop;proto=https"
    labels = {"direction": "inbound", "target_port": str(INBOUND_PORT), "client_id": CART}
    eventually(lambda: pod.value("response_total", status_code="200", **labels) > 0)


def test_a_gateway_passes_http2_on_with_its_authority(pod: Pod, authority: Authority) -> None:
    header = Header(port=PORT, name=NAME, session_protocol=HTTP2)
    with http2_app(PORT) as app, connect_direct(authority, CART, header) as stream:
        assert Http2(stream).request("/page", host="web.shop").status == 200
    seen = dict(app.seen[0])
    assert seen[":authority"] == "web.shop"
    assert seen["forwarded"] == f"by={IDENTITY};for={CART};host=web.shop;proto=https"


def test_a_gateway_passes_opaque_bytes_on(pod: Pod, authority: Authority) -> None:
    with (
        listening(PORT, lambda connection: connection.sendall(connection.recv(64)[::-1])),
        connect_direct(authority, CART, Header(port=PORT, name=NAME)) as stream,
    ):
        stream.sendall(b"hello")
        assert stream.recv(64) == b"olleh"


def test_a_gateway_admits_by_the_policy_of_its_own_port(pod: Pod, authority: Authority) -> None:
    header = Header(port=PORT, name=NAME, session_protocol=HTTP1)
    with http_app(PORT) as app, connect_direct(authority, workload("other"), header) as stream:
        assert http1(stream, get()).status == 403
    assert app.seen == []


@pytest.mark.parametrize("name", ["elsewhere.example", "unknown.shop.svc.cluster.local"])
def test_a_gateway_does_not_find_what_is_not_its_own(pod: Pod, authority: Authority, name: str) -> None:
    header = Header(port=PORT, name=name, session_protocol=HTTP1)
    before = pod.value("inbound_http_errors_total", error="gateway domain invalid")
    with connect_direct(authority, CART, header) as stream:
        assert http1(stream, get()).status == 404
    assert pod.value("inbound_http_errors_total", error="gateway domain invalid") == before + 1
    with connect_direct(authority, CART, Header(port=PORT, name=name, session_protocol=HTTP2)) as stream:
        assert Http2(stream).grpc().first("grpc-status") == "5"


def test_a_gateway_finds_a_name_as_soon_as_the_control_plane_knows_it(pod: Pod, authority: Authority) -> None:
    name = "late.shop.svc.cluster.local"
    header = Header(port=PORT, name=name, session_protocol=HTTP1)
    with http_app(PORT), connect_direct(authority, CART, header) as stream:
        assert http1(stream, get()).status == 404
        pod.change_name(f"{name}:{PORT}", targets.detect(POD, PORT))
        assert http1(stream, get()).status == 200


def test_a_gateway_loop_is_cut(pod: Pod, authority: Authority) -> None:
    header = Header(port=PORT, name=NAME, session_protocol=HTTP1)
    with http_app(PORT) as app, connect_direct(authority, CART, header) as stream:
        reply = http1(stream, get(headers=f"forwarded: by={IDENTITY};for=x\r\n"))
        assert (reply.status, reply.first("l5d-proxy-connection")) == (508, "close")
        assert is_closed(stream)
    assert app.seen == []
    with connect_direct(authority, CART, Header(port=PORT, name=NAME, session_protocol=HTTP2)) as stream:
        assert Http2(stream).grpc(headers=[("forwarded", f"by={IDENTITY}")]).first("grpc-status") == "10"


def test_a_gateway_does_not_serve_itself(pod: Pod, authority: Authority) -> None:
    pod.set_policy(INBOUND_PORT, policies.detect(authorizations=[policies.meshed(CART, IDENTITY)]))
    with connect_direct(authority, IDENTITY, Header(port=PORT, name=NAME, session_protocol=HTTP1)) as stream:
        assert http1(stream, get()).status == 508


def swallow(connection: socket.socket) -> None:
    Reader(connection).rest()


def test_bytes_through_a_gateway_end_when_policy_no_longer_admits(pod: Pod, authority: Authority) -> None:
    with (
        listening(PORT, swallow),
        connect_direct(authority, CART, Header(port=PORT, name=NAME)) as stream,
    ):
        stream.sendall(b"hello")
        eventually(lambda: pod.value("tcp_open_connections", direction="outbound", peer="dst") > 0)
        pod.set_policy(INBOUND_PORT, policies.detect(authorizations=[]))
        assert is_closed(stream)
    pod.set_policy(INBOUND_PORT, policies.detect(authorizations=[policies.meshed(CART)]))
