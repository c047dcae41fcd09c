"""No two readings of one request: the ambiguous is refused, and what is passed on was rebuilt from its parsed form."""

from collections.abc import Iterator

import pytest

from . import policies
from .clients import Http2, connect, get, http1, is_closed
from .pod import Pod
from .servers import HttpApp, http_app

PORT = 8080


@pytest.fixture(scope="module", autouse=True)
def admitted(pod: Pod) -> None:
    pod.set_policy(PORT, policies.detect())


@pytest.fixture
def app(pod: Pod) -> Iterator[HttpApp]:
    with http_app(PORT) as app:
        yield app


HOST = b"host: web.shop\r\n"
AMBIGUOUS = {
    "two different lengths": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "a list of different lengths": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 5, 6\r\n\r\nhello",
    "a signed length": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: +5\r\n\r\nhello",
    "a length that is no number": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 0x5\r\n\r\nhello",
    "a coding that does not end in chunked": (
        b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"
    ),
    "an unknown coding": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\n" + HOST + b"x-folded: a\r\n b\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"content-length : 5\r\n\r\nhello",
    "a bare carriage return in a value": b"GET / HTTP/1.1\r\n" + HOST + b"x-bare: a\rb: c\r\n\r\n",
    "a bare carriage return for a line's end": b"GET / HTTP/1.1\r" + HOST + b"\r\n",
    "a null byte": b"GET / HTTP/1.1\r\n" + HOST + b"x-null: a\0b\r\n\r\n",
    "a name with a bracket": b"GET / HTTP/1.1\r\n" + HOST + b"x[a]: b\r\n\r\n",
    "a control byte in the target": b"GET /a\x01b HTTP/1.1\r\n" + HOST + b"\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: a.shop\r\nhost: b.shop\r\n\r\n",
}


@pytest.mark.parametrize("raw", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_an_ambiguous_request_is_refused_and_its_connection_closed(app: HttpApp, raw: bytes) -> None:
    with connect(PORT) as stream:
        reply = http1(stream, raw)
        assert reply.status == 400
        assert is_closed(stream)
    assert app.seen == []


BAD_CHUNKS = {
    "a size that is no number": b"5x\r\nhello\r\n0\r\n\r\n",
    "a size that overflows": b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "data longer than its size": b"3\r\nhello\r\n0\r\n\r\n",
    "a bare carriage return behind the size": b"5\rhello\r\n0\r\n\r\n",
    "a line feed alone in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_a_broken_chunk_never_becomes_a_second_request(app: HttpApp, chunks: bytes) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"
    with connect(PORT) as stream:
        stream.sendall(b"POST /outer HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n" + chunks + hidden)
        received = stream.recv(65536)
        assert received == b"" or received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 502"))
    assert all("/hidden" not in seen.line for seen in app.seen)


def test_a_length_beside_chunked_is_dropped_and_the_rest_is_no_request(app: HttpApp) -> None:
    raw = (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"content-length: 40\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    with connect(PORT) as stream:
        reply = http1(stream, raw)
        # Refusing is as good as reading it by the coding alone; reading it by the length is not.
        assert reply.status in {200, 400}
    for seen in app.seen:
        assert (seen.body, seen.all("content-length")) == (b"hello", [])


def test_chunk_extensions_and_their_spelling_do_not_reach_the_application(app: HttpApp) -> None:
    raw = b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n5;secret=1\r\nhello\r\n00\r\n\r\n"
    with connect(PORT) as stream:
        assert http1(stream, raw).status == 200
    assert app.last.body == b"hello"


def test_equal_lengths_become_one(app: HttpApp) -> None:
    raw = b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello"
    with connect(PORT) as stream:
        assert http1(stream, raw).status in {200, 400}
    for seen in app.seen:
        assert (seen.body, seen.all("content-length")) == (b"hello", ["5"])


def test_headers_that_a_connection_names_end_with_it(app: HttpApp) -> None:
    with connect(PORT) as stream:
        http1(stream, get(headers="connection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: 5\r\nx-yours: 2\r\n"))
    assert (app.last.all("x-mine"), app.last.all("keep-alive"), app.last.all("x-yours")) == ([], [], ["2"])


@pytest.mark.parametrize(
    "headers",
    [
        [("x-split", "a\r\nx-injected: b")],
        [("x-split", "a\nb")],
        [("x-split\r\nx-injected", "b")],
        [("x-null", "a\0b")],
        [("X-Upper", "a")],
        [("connection", "close")],
        [("transfer-encoding", "chunked")],
        [("te", "gzip")],
    ],
    ids=lambda headers: repr(headers[0]),
)
def test_http2_headers_that_would_split_a_request_are_refused(app: HttpApp, headers: list[tuple[str, str]]) -> None:
    with connect(PORT) as stream:
        client = Http2(stream, lax=True)
        try:
            reply = client.request(headers=[("l5d-orig-proto", "HTTP/1.1"), *headers])
            assert reply.reset is not None or reply.status == 400
        except EOFError:
            assert client.goaway is not None
    assert all(seen.all("x-injected") == [] and seen.all("x-split") == [] for seen in app.seen)


@pytest.mark.parametrize(
    ("path", "method", "host"),
    [
        ("/a b", "GET", "web.shop"),
        ("/\r\nx: y", "GET", "web.shop"),
        ("/", "GET\r\nx: y", "web.shop"),
        ("/", "GET", "a\r\nb"),
    ],
)
def test_http2_pseudo_headers_that_would_split_a_request_are_refused(
    app: HttpApp, path: str, method: str, host: str
) -> None:
    with connect(PORT) as stream:
        client = Http2(stream, lax=True)
        try:
            reply = client.request(path, method=method, host=host, headers=[("l5d-orig-proto", "HTTP/1.1")])
            assert reply.reset is not None or reply.status == 400
        except EOFError:
            assert client.goaway is not None
    assert app.seen == []


def test_an_http2_body_longer_than_its_length_is_refused(app: HttpApp) -> None:
    with connect(PORT) as stream:
        client = Http2(stream, lax=True)
        hidden = b"helloGET /hidden HTTP/1.1\r\nhost: web.shop\r\n\r\n"
        headers = [("l5d-orig-proto", "HTTP/1.1"), ("content-length", "5")]
        try:
            client.request(method="POST", headers=headers, body=hidden)
        except EOFError:
            assert client.goaway is not None
    assert all("/hidden" not in seen.line for seen in app.seen)
