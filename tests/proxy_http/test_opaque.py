"""Bytes that stay bytes: who may send them, when they are cut, how they end (wire.md 3.3, 3.6, 5.1)."""

import socket
import ssl

import pytest
from weft_proto.linkerd import inbound_pb2

from . import policies
from .certificates import Authority, workload
from .clients import connect, connect_meshed, get, http1, http2, is_closed
from .namespace import POD6
from .pod import IDENTITY, Pod, eventually
from .servers import Reader, grpc_answer, http2_app, http_app, listening

PORT = 8084
CART = workload("cart")


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def test_a_server_that_speaks_first_is_heard_at_once_on_an_opaque_port(pod: Pod) -> None:
    pod.set_policy(PORT, policies.opaque())
    with listening(PORT, lambda connection: connection.sendall(b"220 ready\r\n")), connect(PORT) as stream:
        stream.settimeout(2)
        assert stream.recv(64) == b"220 ready\r\n"


def test_each_side_may_end_its_half_first(pod: Pod) -> None:
    pod.set_policy(PORT, policies.opaque())

    def sum_up(connection: socket.socket) -> None:
        data = Reader(connection).rest()
        connection.sendall(b"%d bytes" % len(data))

    with listening(PORT, sum_up), connect(PORT) as stream:
        stream.sendall(b"a" * 100_000)
        stream.shutdown(socket.SHUT_WR)
        assert Reader(stream).rest() == b"100000 bytes"


def test_a_client_still_sends_after_the_server_is_done_sending(pod: Pod) -> None:
    pod.set_policy(PORT, policies.opaque())
    heard: list[bytes] = []

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        heard.append(Reader(connection).rest())

    with listening(PORT, greet), connect(PORT) as stream:
        assert Reader(stream).rest() == b"hello"
        stream.sendall(b"and goodbye")
        stream.shutdown(socket.SHUT_WR)
        eventually(lambda: heard == [b"and goodbye"])


def test_large_transfers_arrive_whole(pod: Pod) -> None:
    pod.set_policy(PORT, policies.opaque())
    payload = bytes(range(256)) * 40_000

    def send(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(payload)

    with listening(PORT, send), connect(PORT) as stream:
        stream.sendall(b"?")
        assert Reader(stream).rest() == payload


def test_a_client_without_authorization_is_cut_and_counted(pod: Pod) -> None:
    pod.set_policy(PORT, policies.opaque(policies.meshed(CART)))
    before = pod.value("inbound_tcp_authz_deny_total", srv_name="web")
    with listening(PORT, echo), connect(PORT) as stream:
        stream.sendall(b"hello")
        assert is_closed(stream)
    eventually(lambda: pod.value("inbound_tcp_authz_deny_total", srv_name="web") == before + 1)


def test_an_open_connection_is_cut_when_policy_stops_admitting_it(pod: Pod) -> None:
    pod.set_policy(PORT, policies.opaque())
    before = pod.value("inbound_tcp_authz_terminate_total", srv_name="web")
    with listening(PORT, echo), connect(PORT) as stream:
        stream.sendall(b"hello")
        assert stream.recv(64) == b"hello"
        pod.set_policy(PORT, policies.opaque(policies.anyone()))
        stream.sendall(b"still")
        assert stream.recv(64) == b"still"
        pod.set_policy(PORT, policies.opaque(policies.meshed(CART)))
        assert is_closed(stream)
    eventually(lambda: pod.value("inbound_tcp_authz_terminate_total", srv_name="web") == before + 1)
    eventually(lambda: bool(pod.logged("connection ended: the policy no longer admits the client")))


def test_bytes_that_are_no_http_pass_a_detecting_port(pod: Pod) -> None:
    pod.set_policy(PORT, policies.detect())
    before = pod.value("inbound_tcp_detect_http_results_total", result="not_http")
    with listening(PORT, echo), connect(PORT) as stream:
        stream.sendall(b"\x00\x01 no http at all")
        assert stream.recv(64) == b"\x00\x01 no http at all"
    assert pod.value("inbound_tcp_detect_http_results_total", result="not_http") == before + 1


def test_a_silent_peer_is_taken_as_opaque_when_detection_times_out(pod: Pod, authority: Authority) -> None:
    pod.set_policy(PORT, policies.detect(timeout_ms=200))
    greet = b"220 ready\r\n"
    with (
        listening(PORT, lambda connection: connection.sendall(greet)),
        connect_meshed(authority, CART, PORT) as stream,
    ):
        assert stream.recv(64) == greet
    assert pod.value("inbound_tcp_detect_http_results_total", result="read_timeout") > 0


@pytest.mark.parametrize("policy", [policies.detect(), policies.tls()], ids=["detect", "tls"])
def test_tls_for_somebody_else_passes_through_untouched(
    pod: Pod, authority: Authority, policy: policies.Server
) -> None:
    pod.set_policy(PORT, policy)
    context = authority.server_context("db.example")
    trusting = ssl.create_default_context(cadata=authority.pem)
    with (
        listening(PORT, echo, tls=context),
        trusting.wrap_socket(connect(PORT), server_hostname="db.example") as stream,
    ):
        stream.sendall(b"hello")
        assert stream.recv(64) == b"hello"
    assert pod.value("tcp_open_total", direction="inbound", peer="src", tls="opaque", sni="db.example") > 0


def test_mesh_tls_is_terminated_ahead_of_bytes(pod: Pod, authority: Authority) -> None:
    pod.set_policy(PORT, policies.tls(policies.meshed(CART)))
    with listening(PORT, echo), connect_meshed(authority, CART, PORT) as stream:
        stream.sendall(b"hello")
        assert stream.recv(64) == b"hello"


def test_http1_by_policy_needs_no_detection(pod: Pod) -> None:
    pod.set_policy(PORT, policies.http1())
    before = pod.value("inbound_tcp_detect_http_results_total")
    with http_app(PORT), connect(PORT) as stream:
        assert http1(stream, get()).status == 200
    assert pod.value("inbound_tcp_detect_http_results_total") == before


def test_a_peer_may_carry_http2_to_a_port_that_is_http1_by_policy(pod: Pod, authority: Authority) -> None:
    pod.set_policy(PORT, policies.http1())
    with http_app(PORT) as app, http2(connect_meshed(authority, CART, PORT)) as client:
        assert client.request("/one", headers=[("l5d-orig-proto", "HTTP/1.1")]).status == 200
    assert app.last.line == "GET /one HTTP/1.1"


def test_a_peers_bytes_to_a_port_that_is_http1_by_policy_pass_as_bytes(pod: Pod, authority: Authority) -> None:
    pod.set_policy(PORT, policies.http1())
    with listening(PORT, echo), connect_meshed(authority, CART, PORT) as stream:
        stream.sendall(b"\x01\x02\x03")
        assert stream.recv(64) == b"\x01\x02\x03"


@pytest.mark.parametrize("policy", [policies.http2(), policies.grpc()], ids=["http2", "grpc"])
def test_http2_by_policy_needs_no_detection(pod: Pod, policy: inbound_pb2.Server) -> None:
    pod.set_policy(PORT, policy)
    before = pod.value("inbound_tcp_detect_http_results_total")
    with http2_app(PORT, lambda headers: grpc_answer(0)), http2(connect(PORT)) as client:
        assert client.grpc().first("grpc-status") == "0"
    assert pod.value("inbound_tcp_detect_http_results_total") == before


def test_mesh_tls_is_not_looked_for_on_an_opaque_port(pod: Pod, authority: Authority) -> None:
    """It belongs to the application, though it names this workload; peers come by the inbound port."""
    pod.set_policy(PORT, policies.opaque())
    context = authority.server_context(IDENTITY)

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"by the application")

    with listening(PORT, answer, tls=context), connect_meshed(authority, CART, PORT) as stream:
        assert stream.recv(64) == b"by the application"


def test_ipv6_bytes_pass(pod: Pod) -> None:
    pod.set_policy(PORT, policies.opaque())
    with listening(PORT, echo, ip=POD6), connect(PORT, ip=POD6) as stream:
        stream.sendall(b"hello")
        assert stream.recv(64) == b"hello"
