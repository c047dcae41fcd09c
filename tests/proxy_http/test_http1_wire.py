"""What HTTP/1 can carry through the inbound listener: versions, switches, trailers, sizes, half-closed ends."""

import socket

import pytest

from . import policies
from .certificates import Authority, workload
from .clients import connect, connect_meshed, get, http1, is_closed, read_http1
from .namespace import POD6
from .pod import Pod
from .servers import Reader, Seen, http_app, listening, ok, read_request

PORT = 8081


@pytest.fixture(scope="module", autouse=True)
def admitted(pod: Pod) -> None:
    pod.set_policy(PORT, policies.detect())


def test_a_request_by_http_1_0_is_answered_and_the_connection_ends(pod: Pod) -> None:
    with http_app(PORT) as app, connect(PORT) as stream:
        reply = http1(stream, b"GET /old HTTP/1.0\r\nhost: web.shop\r\n\r\n")
        assert (reply.status, reply.body) == (200, b"ok")
        assert is_closed(stream)
    assert app.last.line.startswith("GET /old HTTP/1.")


def test_requests_on_one_connection_are_answered_in_their_order(pod: Pod) -> None:
    with http_app(PORT, lambda seen: ok(seen.line.encode())) as _, connect(PORT) as stream:
        stream.sendall(get("/1") + get("/2") + get("/3"))
        reader = Reader(stream)
        bodies = []
        for _ in range(3):
            head = reader.until(b"\r\n\r\n").lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            bodies.append(reader.exactly(length))
    assert bodies == [b"GET /%d HTTP/1.1" % n for n in (1, 2, 3)]


def switching(connection: socket.socket) -> None:
    """Grants a switch and then turns every line it reads around."""
    reader = Reader(connection)
    seen = read_request(reader)
    assert seen.first("upgrade") == "websocket"
    assert seen.first("connection").lower() == "upgrade"
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    connection.sendall(b"welcome\n")
    while True:
        connection.sendall(reader.until(b"\n").strip()[::-1] + b"\n")


@pytest.mark.parametrize("meshed", [False, True], ids=["clear", "meshed"])
def test_a_granted_websocket_carries_bytes_both_ways(pod: Pod, authority: Authority, meshed: bool) -> None:
    ask = get("/chat", headers="connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhl\r\n")
    with listening(PORT, switching):
        stream = connect_meshed(authority, workload("cart"), PORT) if meshed else connect(PORT)
        with stream:
            stream.sendall(ask)
            reader = Reader(stream)
            head = reader.until(b"\r\n\r\n").lower()
            assert head.startswith(b"http/1.1 101")
            assert b"upgrade: websocket" in head
            assert reader.until(b"\n") == b"welcome\n"
            for word in (b"abc", b"x" * 100_000):
                stream.sendall(word + b"\n")
                assert reader.until(b"\n") == word[::-1] + b"\n"


def test_a_refused_websocket_leaves_an_ordinary_connection(pod: Pod) -> None:
    ask = get(headers="connection: upgrade\r\nupgrade: websocket\r\n")
    with (
        http_app(PORT, lambda seen: b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n"),
        connect(PORT) as stream,
    ):
        assert http1(stream, ask).status == 426
        assert http1(stream, get()).status == 426


def test_an_offer_of_cleartext_http2_is_taken_away(pod: Pod) -> None:
    ask = get(headers="connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n")
    with http_app(PORT) as app, connect(PORT) as stream:
        assert http1(stream, ask).status == 200
    assert [app.last.all(name) for name in ("upgrade", "http2-settings", "connection")] == [[], [], []]


def tunnel(connection: socket.socket) -> None:
    reader = Reader(connection)
    assert read_request(reader).line == "CONNECT db.shop:5432 HTTP/1.1"
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    connection.sendall(reader.exactly(5)[::-1])


def test_a_granted_connect_becomes_a_tunnel(pod: Pod) -> None:
    with listening(PORT, tunnel), connect(PORT) as stream:
        stream.sendall(b"CONNECT db.shop:5432 HTTP/1.1\r\nhost: db.shop:5432\r\n\r\n")
        reader = Reader(stream)
        assert reader.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        stream.sendall(b"hello")
        assert reader.exactly(5) == b"olleh"


def test_a_connect_without_an_authority_is_refused(pod: Pod) -> None:
    with http_app(PORT) as app, connect(PORT) as stream:
        assert http1(stream, b"CONNECT / HTTP/1.1\r\nhost: web.shop\r\n\r\n").status == 400
    assert app.seen == []


def test_trailers_pass_both_ways(pod: Pod) -> None:
    chunked = b"transfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n2\r\nhi\r\n0\r\nx-end: yes\r\n\r\n"

    def answer(seen: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\n" + chunked

    with http_app(PORT, answer) as app, connect(PORT) as stream:
        stream.sendall(b"POST / HTTP/1.1\r\nhost: web.shop\r\nte: trailers\r\n" + chunked)
        reader = Reader(stream)
        reader.until(b"\r\n\r\n")
        assert reader.until(b"\r\n\r\n").endswith(b"0\r\nx-end: yes\r\n\r\n")
    assert app.last.first("x-end") == "yes"


def test_an_application_that_waits_for_100_continue_gets_the_body(pod: Pod) -> None:
    with http_app(PORT) as app, connect(PORT) as stream:
        stream.sendall(b"POST / HTTP/1.1\r\nhost: web.shop\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert stream.recv(64).startswith(b"HTTP/1.1 100")
        assert http1(stream, b"hello").status == 200
    assert app.last.body == b"hello"


def test_a_body_without_length_ends_with_its_connection(pod: Pod) -> None:
    def talk(connection: socket.socket) -> None:
        read_request(Reader(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end")

    with listening(PORT, talk), connect(PORT) as stream:
        assert http1(stream, get()).body == b"to the end"


def test_a_client_that_has_said_everything_still_gets_its_answer(pod: Pod) -> None:
    with http_app(PORT) as _, connect(PORT) as stream:
        stream.sendall(get())
        stream.shutdown(socket.SHUT_WR)
        assert read_http1(stream).status == 200


def test_a_head_request_gets_the_length_and_no_body(pod: Pod) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
    with http_app(PORT, lambda seen: answer), connect(PORT) as stream:
        reply = http1(stream, b"HEAD / HTTP/1.1\r\nhost: web.shop\r\n\r\n", method="HEAD")
        assert (reply.status, reply.first("content-length"), reply.body) == (200, "1000", b"")


def test_large_headers_pass_up_to_the_limit(pod: Pod) -> None:
    with http_app(PORT) as app, connect(PORT) as stream:
        assert http1(stream, get(headers=f"x-large: {'a' * 60_000}\r\n")).status == 200
    assert len(app.last.first("x-large")) == 60_000


@pytest.mark.parametrize(
    "headers",
    [f"x-large: {'a' * 70_000}\r\n", "".join(f"x-{n}: {n}\r\n" for n in range(1000))],
    ids=["one header above the limit", "too many headers"],
)
def test_headers_above_the_limit_are_answered_431(pod: Pod, headers: str) -> None:
    with http_app(PORT) as app, connect(PORT) as stream:
        assert http1(stream, get(headers=headers)).status == 431
        assert is_closed(stream)
    assert app.seen == []


def test_ipv6_clients_reach_the_application(pod: Pod) -> None:
    with http_app(PORT, ip=POD6) as app, connect(PORT, ip=POD6) as stream:
        assert http1(stream, get(host="[fd99::1]:8081")).status == 200
    assert app.last.first("host") == "[fd99::1]:8081"
    assert pod.value("tcp_open_total", direction="inbound", peer="src", target_ip=POD6) > 0


def test_an_application_that_is_not_there_is_answered_502_and_the_connection_closed(
    pod: Pod, authority: Authority
) -> None:
    with connect_meshed(authority, workload("cart"), PORT) as stream:
        reply = http1(stream, get())
        assert reply.status == 502
        assert reply.first("l5d-proxy-connection") == "close"
        assert reply.first("connection") == "close"
        assert reply.first("l5d-proxy-error").startswith("endpoint connection failed")
        assert is_closed(stream)
    assert pod.value("inbound_http_errors_total", error="i/o", srv_name="web") > 0


def test_an_application_that_hangs_up_is_answered_502(pod: Pod) -> None:
    def talk(connection: socket.socket) -> None:
        read_request(Reader(connection))

    with listening(PORT, talk), connect(PORT) as stream:
        reply = http1(stream, get())
        assert (reply.status, reply.first("connection")) == (502, "close")
        assert not reply.first("l5d-proxy-error")
