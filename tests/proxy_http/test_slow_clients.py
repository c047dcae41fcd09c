"""Clients that begin something and do not go on are cut; those that are merely idle are not."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from . import policies
from .certificates import Authority, workload
from .clients import Http2, connect, connect_meshed, get, http1, is_closed
from .namespace import INBOUND_PORT
from .pod import IDENTITY, Pod, eventually
from .servers import http2_app, http_app

PORT = 8080
LIMIT_S = 1.0


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    limit_ms = int(LIMIT_S * 1000)
    with closing(Pod(authority, inbound_detect_timeout_ms=limit_ms, outbound_detect_timeout_ms=limit_ms)) as pod:
        pod.set_policy(PORT, policies.detect())
        yield pod


def test_a_client_hello_that_does_not_go_on_is_cut(pod: Pod) -> None:
    with connect(PORT) as stream:
        stream.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert is_closed(stream)
    eventually(lambda: pod.value("inbound_tcp_errors_total", error="tls detection timeout") > 0)


def test_a_transport_header_that_does_not_go_on_is_cut(pod: Pod, authority: Authority) -> None:
    context = authority.client_context(workload("cart"), direct=True)
    with context.wrap_socket(connect(INBOUND_PORT), server_hostname=IDENTITY) as stream:
        stream.sendall(b"transport.l5d.io/v1\r\n\r\n\0\0\0\5\x08\x50")
        assert is_closed(stream)


def test_a_request_head_that_does_not_go_on_is_cut(pod: Pod) -> None:
    with http_app(PORT) as app, connect(PORT) as stream:
        stream.sendall(b"GET /slow HTTP/1.1\r\nhost: web.shop\r\nx-")
        while data := stream.recv(4096):
            assert data.startswith(b"HTTP/1.1 408")
    assert app.seen == []


def test_a_head_dripping_in_byte_by_byte_is_cut(pod: Pod) -> None:
    with http_app(PORT) as app, connect(PORT) as stream:
        stream.sendall(b"GET /slow HTTP/1.1\r\nhost: web.shop\r\n")
        begun = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012, which write hears of the end is the kernel's choice
            while time.monotonic() < begun + 10 * LIMIT_S:
                stream.sendall(b"x")
                time.sleep(LIMIT_S / 10)
    assert time.monotonic() - begun < 5 * LIMIT_S
    assert app.seen == []


def test_a_second_head_has_the_same_limit(pod: Pod) -> None:
    with http_app(PORT), connect(PORT) as stream:
        assert http1(stream, get()).status == 200
        time.sleep(2 * LIMIT_S)
        assert http1(stream, get()).status == 200, "idle between requests is not slow"
        stream.sendall(b"GET /slow")
        while stream.recv(4096):
            pass


def test_an_http2_preface_that_does_not_go_on_is_cut(pod: Pod) -> None:
    with connect(PORT) as stream:
        stream.sendall(b"PRI * HTTP/2.0\r\n")
        while stream.recv(4096):
            pass


def test_an_idle_http2_connection_is_kept(pod: Pod, authority: Authority) -> None:
    with http2_app(PORT), connect_meshed(authority, workload("cart"), PORT) as stream:
        client = Http2(stream)
        assert client.request().status == 200
        time.sleep(2 * LIMIT_S)
        assert client.request().status == 200


def test_a_slow_body_is_no_slow_head(pod: Pod) -> None:
    with http_app(PORT) as app, connect(PORT) as stream:
        stream.sendall(b"POST / HTTP/1.1\r\nhost: web.shop\r\ncontent-length: 2\r\n\r\n")
        for byte in (b"o", b"k"):
            time.sleep(1.5 * LIMIT_S)
            stream.sendall(byte)
        assert http1(stream, b"").status == 200
    assert app.last.body == b"ok"
