"""An HTTP/2 client that lives through a graceful GOAWAY: `h2` takes it for the end, and chokes on what follows.

`h2` still writes the requests; the answers are read frame by frame.
"""

import socket
from collections.abc import Iterable

import h2.config
import h2.connection
import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from .clients import Reply


class FrameClient:
    def __init__(self, stream: socket.socket) -> None:
        self.is_going_away = False
        self._stream = stream
        self._writer = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._writer.initiate_connection()
        self._decoder = hpack.Decoder()
        self._block = b""
        self._replies: dict[int, Reply] = {}
        self._open: set[int] = set()

    def send(
        self, path: str = "/", *, method: str = "GET", headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> int:
        number = self._writer.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "web.shop"), (":path", path)]
        self._writer.send_headers(number, [*pseudo, *headers], end_stream=not body)
        if body:
            self._writer.send_data(number, body, end_stream=True)
        self._stream.sendall(self._writer.data_to_send())
        self._replies[number] = Reply(0)
        self._open.add(number)
        return number

    def replies(self) -> dict[int, Reply]:
        """Of everything that was sent, once all of it has ended. Raises EOFError when the connection ends first."""
        while self._open:
            self._read()
        return self._replies

    def reply(self) -> Reply:
        """Of the one request that was sent."""
        (only,) = self.replies().values()
        return only

    def ends_gracefully(self) -> bool:
        """Whether the server closes the connection, having said so."""
        try:
            while True:
                self._read()
        except (EOFError, ConnectionError):
            return self.is_going_away

    def _read(self) -> None:
        frame, length = Frame.parse_frame_header(memoryview(self._exactly(9)))
        frame.parse_body(memoryview(self._exactly(length)))
        match frame:
            case PingFrame() if "ACK" not in frame.flags:
                self._stream.sendall(PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"]).serialize())
            case SettingsFrame() if "ACK" not in frame.flags:
                self._stream.sendall(SettingsFrame(0, flags=["ACK"]).serialize())
            case GoAwayFrame():
                self.is_going_away = True
            case HeadersFrame() | ContinuationFrame():
                self._headers(frame)
            case DataFrame():
                reply = self._replies[frame.stream_id]
                self._replies[frame.stream_id] = Reply(reply.status, reply.headers, reply.body + frame.data)
            case RstStreamFrame():
                self._open.discard(frame.stream_id)
        if "END_STREAM" in frame.flags:
            self._open.discard(frame.stream_id)

    def _headers(self, frame: HeadersFrame | ContinuationFrame) -> None:
        self._block += frame.data
        if "END_HEADERS" not in frame.flags:
            return
        fields = [(str(name), str(value)) for name, value in self._decoder.decode(self._block)]
        self._block = b""
        before = self._replies[frame.stream_id]
        if before.status:
            self._replies[frame.stream_id] = Reply(before.status, before.headers, before.body, fields)
        else:
            self._replies[frame.stream_id] = Reply(int(dict(fields)[":status"]), fields)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._stream.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data
