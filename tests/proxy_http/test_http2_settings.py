"""What the environment sets of HTTP/2 on the proxy's two listeners, as their clients see it (wire.md 6.2)."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from hyperframe.frame import Frame, PingFrame, SettingsFrame, WindowUpdateFrame
from weft_proto.weft import engine_pb2

from . import policies, targets
from .certificates import Authority
from .clients import connect, connect_as_app, is_closed
from .namespace import CLIENT, POD
from .pod import Pod
from .servers import Reader

PORT, OUTSIDE = 8080, 8950
SETTINGS = engine_pb2.Http2(
    keep_alive_interval_ms=100,
    keep_alive_timeout_ms=300,
    initial_stream_window=70_000,
    initial_connection_window=140_000,
    max_concurrent_streams=7,
    max_frame_size=20_000,
    max_header_list_size=30_000,
)
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    with closing(Pod(authority, inbound_server_http2=SETTINGS, outbound_server_http2=SETTINGS)) as pod:
        pod.set_policy(PORT, policies.detect())
        pod.set_target(f"{POD}:{OUTSIDE}", targets.detect(CLIENT, OUTSIDE))
        yield pod


@pytest.fixture(params=["inbound", "outbound"])
def stream(request: pytest.FixtureRequest, pod: Pod) -> Iterator[socket.socket]:
    with connect(PORT) if request.param == "inbound" else connect_as_app(OUTSIDE) as stream:
        stream.sendall(HELLO)
        yield stream


def frames(stream: socket.socket) -> Iterator[Frame]:
    """As they come, none of them answered."""
    reader = Reader(stream)
    while True:
        frame, length = Frame.parse_frame_header(memoryview(reader.exactly(9)))
        frame.parse_body(memoryview(reader.exactly(length)))
        yield frame


def test_clients_are_told_the_limits(stream: socket.socket) -> None:
    told = next(frame for frame in frames(stream) if isinstance(frame, SettingsFrame) and not frame.flags)
    assert {
        SettingsFrame.MAX_CONCURRENT_STREAMS: 7,
        SettingsFrame.INITIAL_WINDOW_SIZE: 70_000,
        SettingsFrame.MAX_FRAME_SIZE: 20_000,
        SettingsFrame.MAX_HEADER_LIST_SIZE: 30_000,
    }.items() <= told.settings.items()


def test_the_connections_window_is_opened_as_far_as_is_said(stream: socket.socket) -> None:
    opened = next(frame for frame in frames(stream) if isinstance(frame, WindowUpdateFrame) and frame.stream_id == 0)
    assert 65_535 + opened.window_increment == 140_000


def test_a_client_that_answers_no_ping_is_left(stream: socket.socket) -> None:
    received = frames(stream)
    assert next(frame for frame in received if isinstance(frame, PingFrame) and not frame.flags)
    with pytest.raises((EOFError, ConnectionError)):
        for _ in received:
            pass
    assert is_closed(stream)
