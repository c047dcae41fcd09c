"""Floods that once cost servers dearly: the attacker's connection ends, and everybody else is served.

CVE-2023-44487 rapid reset, CVE-2024-30255 CONTINUATION, CVE-2019-9512 pings, CVE-2019-9514 resets, CVE-2019-9515
settings.
"""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import h2.errors
import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)

from . import policies
from .clients import Http2, connect
from .pod import Pod, eventually
from .servers import Http2App, http2_app

PORT = 8085
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


@pytest.fixture(scope="module")
def app(pod: Pod) -> Iterator[Http2App]:
    pod.set_policy(PORT, policies.http2())
    with http2_app(PORT) as app:
        yield app


@contextlib.contextmanager
def attacker() -> Iterator[socket.socket]:
    with connect(PORT) as stream:
        stream.sendall(PREFACE + SettingsFrame().serialize())
        yield stream


def send(stream: socket.socket, frames: Iterator[bytes]) -> bool:
    """False once the server takes no more."""
    try:
        for frame in frames:
            stream.sendall(frame)
    except OSError:
        return False
    return True


def goaway(stream: socket.socket) -> int | None:
    """Code of the GOAWAY with which the server ends the connection; None when it just ends it."""
    data = b""
    code = None
    try:
        while chunk := stream.recv(65536):
            data += chunk
            while len(data) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(data[:9]))
                if len(data) < 9 + length:
                    break
                frame.parse_body(memoryview(data[9 : 9 + length]))
                if isinstance(frame, GoAwayFrame):
                    code = frame.error_code
                data = data[9 + length :]
    except OSError:
        pass
    return code


def headers(stream: int, *, end_headers: bool = True, extra: list[tuple[str, str]] | None = None) -> bytes:
    block = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web.shop"), *(extra or [])]
    frame = HeadersFrame(stream, Encoder().encode(block))
    frame.flags.add("END_STREAM")
    if end_headers:
        frame.flags.add("END_HEADERS")
    return bytes(frame.serialize())


def memory_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def still_serves(app: Http2App) -> None:
    with connect(PORT) as stream:
        assert Http2(stream).request("/well-behaved").status == 200


def test_rapid_reset_ends_the_attackers_connection(pod: Pod, app: Http2App) -> None:
    """CVE-2023-44487."""
    before = len(app.seen)

    def storm() -> Iterator[bytes]:
        for number in range(100):
            ids = range(1 + 200 * number, 201 + 200 * number, 2)
            yield b"".join(headers(i) + bytes(RstStreamFrame(i, error_code=8).serialize()) for i in ids)

    with attacker() as stream:
        send(stream, storm())
        assert goaway(stream) == CALM
    assert len(app.seen) - before < 2000, "most of it never reached the application"
    still_serves(app)


def test_an_endless_header_block_ends_the_attackers_connection(pod: Pod, app: Http2App) -> None:
    """CVE-2024-30255."""
    before = memory_kib()

    def storm() -> Iterator[bytes]:
        yield headers(1, end_headers=False)
        for number in range(5_000):
            block = Encoder().encode([(f"x-flood-{number}", "a" * 200)])
            yield bytes(ContinuationFrame(1, block).serialize())

    with attacker() as stream:
        took_all = send(stream, storm())
        goaway(stream)
    assert not took_all
    assert memory_kib() - before < 20_000
    still_serves(app)


def test_empty_continuations_end_the_attackers_connection(pod: Pod, app: Http2App) -> None:
    def storm() -> Iterator[bytes]:
        yield headers(1, end_headers=False)
        for _ in range(1_000):
            yield bytes(ContinuationFrame(1, b"").serialize()) * 100

    with attacker() as stream:
        assert not send(stream, storm())
    still_serves(app)


def flood(kind: str) -> bytes:
    match kind:
        case "pings":
            return bytes(PingFrame(opaque_data=b"floodfld").serialize())
        case "settings":
            return bytes(SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535}).serialize())
        case _:
            return bytes(PriorityFrame(1, depends_on=0, stream_weight=1).serialize())


@pytest.mark.parametrize("kind", ["pings", "settings", "priorities"])
def test_a_flood_whose_answers_nobody_reads_is_bounded(pod: Pod, app: Http2App, kind: str) -> None:
    """CVE-2019-9512, CVE-2019-9515: what is owed in answer never piles up."""
    before = memory_kib()
    burst = flood(kind) * 1000
    with attacker() as stream:
        stream.settimeout(0.5)
        send(stream, (burst for _ in range(100)))
        still_serves(app)
        assert memory_kib() - before < 20_000
    still_serves(app)


def test_streams_that_make_us_reset_them_end_the_attackers_connection(pod: Pod, app: Http2App) -> None:
    """CVE-2019-9514."""

    def storm() -> Iterator[bytes]:
        for number in range(50):
            ids = range(1 + 200 * number, 201 + 200 * number, 2)
            yield b"".join(headers(i, extra=[("connection", "close")]) for i in ids)

    with attacker() as stream:
        took_all = send(stream, storm())
        code = goaway(stream)
    assert not took_all or code is not None
    still_serves(app)


def test_more_streams_than_allowed_are_refused_and_the_others_answered(pod: Pod, app: Http2App) -> None:
    with connect(PORT) as stream:
        client = Http2(stream)
        assert client.request().status == 200
        limit = client.connection.remote_settings.max_concurrent_streams
        assert 1 <= limit <= 1000
        streams = [client.send(f"/{number}") for number in range(min(limit, 50))]
        assert set(client.statuses(streams).values()) == {200}


def test_headers_above_the_limit_are_answered_431(pod: Pod, app: Http2App) -> None:
    before = len(app.seen)
    with connect(PORT) as stream:
        client = Http2(stream)
        reply = client.request(headers=[(f"x-large-{n}", "a" * 8000) for n in range(10)])
        assert reply.status == 431
        assert client.request("/after").status == 200
    assert len(app.seen) == before + 1


def test_client_chosen_names_do_not_become_series(pod: Pod, app: Http2App) -> None:
    """CVE-2025-43915: whatever a client asks for, the number of series stays."""
    families = ("request_total", "inbound_http_authz_allow_total", "inbound_http_requests_total", "tcp_open_total")

    def count() -> int:
        return sum(len(pod.series(family)) for family in families)

    with connect(PORT) as stream:
        client = Http2(stream)
        assert client.request().status == 200
        before = count()
        for number in range(300):
            client.request(f"/{number}", host=f"host-{number}.example", headers=[("x-any", str(number))])
    eventually(lambda: count() == before)
