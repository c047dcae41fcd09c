"""Clients in and outside the mesh, over bare sockets, so that a test chooses every byte."""

import contextlib
import http.client
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
from weft_proto.linkerd import transport_pb2

from .certificates import Authority
from .namespace import APP, CLIENT, CLIENT6, INBOUND_PORT, POD, POD6
from .pod import IDENTITY

WAIT_S = 10.0


def connect(port: int, *, ip: str = POD) -> socket.socket:
    """As a stranger: intercepted, in clear."""
    source = CLIENT6 if ip == POD6 else CLIENT
    return socket.create_connection((ip, port), timeout=WAIT_S, source_address=(source, 0))


def connect_as_app(port: int, *, ip: str = POD) -> socket.socket:
    """From the pod's own application, through the outbound listener."""
    return socket.create_connection((ip, port), timeout=WAIT_S, source_address=(APP, 0))


def connect_meshed(authority: Authority, identity: str, port: int) -> ssl.SSLSocket:
    """As a proxy that knows no transport header: mesh TLS to the port itself."""
    return authority.client_context(identity).wrap_socket(connect(port), server_hostname=IDENTITY)


def connect_direct(authority: Authority, identity: str, header: transport_pb2.Header | None) -> ssl.SSLSocket:
    """As a proxy dials our own port. header: None sends none."""
    context = authority.client_context(identity, direct=header is not None)
    stream = context.wrap_socket(connect(INBOUND_PORT), server_hostname=IDENTITY)
    if header is not None:
        body = header.SerializeToString()
        try:
            stream.sendall(b"transport.l5d.io/v1\r\n\r\n" + struct.pack(">I", len(body)) + body)
        except OSError:
            stream.close()
            raise
    return stream


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    reset: int | None = None
    """HTTP/2 error code of a stream that broke."""

    def first(self, name: str) -> str:
        return next((value for key, value in self.headers + self.trailers if key == name), "")


def http1(stream: socket.socket, raw: bytes, *, method: str = "GET") -> Reply:
    """Sends raw bytes and reads one response. A connection closed without one raises."""
    stream.sendall(raw)
    return read_http1(stream, method=method)


def read_http1(stream: socket.socket, *, method: str = "GET") -> Reply:
    response = http.client.HTTPResponse(stream, method=method)
    try:
        response.begin()
        headers = [(key.lower(), value) for key, value in response.getheaders()]
        return Reply(response.status, headers, response.read())
    finally:
        response.close()


def get(path: str = "/", *, host: str = "web.shop", headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n".encode()


def is_closed(stream: socket.socket) -> bool:
    """Whether the peer ends the connection, cleanly or not, before it says anything more."""
    try:
        return stream.recv(1) == b""
    except ConnectionError:
        return True


class Http2:
    """One HTTP/2 connection; `h2` keeps it legal unless told otherwise."""

    def __init__(self, stream: socket.socket, *, lax: bool = False) -> None:
        self.stream = stream
        config = h2.config.H2Configuration(
            validate_outbound_headers=not lax, normalize_outbound_headers=not lax, header_encoding="utf-8"
        )
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.goaway: int | None = None
        self._flush()

    def request(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        host: str = "web.shop",
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
        trailers: list[tuple[str, str]] | None = None,
    ) -> Reply:
        stream = self.send(path, method=method, host=host, headers=headers, body=body, trailers=trailers)
        return self.reply(stream)

    def send(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        host: str = "web.shop",
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
        trailers: list[tuple[str, str]] | None = None,
    ) -> int:
        pseudo = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)]
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, pseudo + (headers or []), end_stream=not body and not trailers)
        if body:
            self.connection.send_data(stream, body, end_stream=not trailers)
        if trailers:
            self.connection.send_headers(stream, trailers, end_stream=True)
        self._flush()
        return stream

    def grpc(self, path: str = "/a.Service/Call", *, headers: list[tuple[str, str]] | None = None) -> Reply:
        own = [("content-type", "application/grpc"), ("te", "trailers")]
        return self.request(path, method="POST", headers=own + (headers or []), body=b"\0\0\0\0\0")

    def reply(self, stream: int) -> Reply:
        """Raises EOFError when the connection ends first."""
        status, headers, body, trailers = 0, [], b"", []
        while True:
            for event in self._events():
                if isinstance(event, h2.events.ConnectionTerminated):
                    self.goaway = int(event.error_code or 0)
                if getattr(event, "stream_id", None) != stream:
                    continue
                match event:
                    case h2.events.ResponseReceived():
                        headers = [(str(key), str(value)) for key, value in event.headers or []]
                        status = int(dict(headers)[":status"])
                    case h2.events.DataReceived():
                        body += event.data or b""
                        self.connection.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                        self._flush()
                    case h2.events.TrailersReceived():
                        trailers = [(str(key), str(value)) for key, value in event.headers or []]
                    case h2.events.StreamEnded():
                        return Reply(status, headers, body, trailers)
                    case h2.events.StreamReset():
                        return Reply(status, headers, body, trailers, reset=int(event.error_code or 0))

    def statuses(self, streams: list[int]) -> dict[int, int]:
        """Status of each stream once all of them have ended."""
        found: dict[int, int] = {}
        open_streams = set(streams)
        while open_streams:
            for event in self._events():
                if isinstance(event, h2.events.ResponseReceived):
                    fields = {str(key): str(value) for key, value in event.headers or []}
                    found[event.stream_id or 0] = int(fields[":status"])
                if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                    open_streams.discard(event.stream_id or 0)
        return found

    def _events(self) -> list[h2.events.Event]:
        data = self.stream.recv(65536)
        if not data:
            raise EOFError
        events = self.connection.receive_data(data)
        self._flush()
        return list(events)

    def _flush(self) -> None:
        if data := self.connection.data_to_send():
            self.stream.sendall(data)


@contextlib.contextmanager
def http2(stream: socket.socket, *, lax: bool = False) -> Iterator[Http2]:
    with stream:
        yield Http2(stream, lax=lax)
