"""Applications in the pod: a listening port, a thread per connection, and a record of what arrived."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from .namespace import POD, POD6

Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(port: int, talk: Talk, *, ip: str = POD, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """talk: what the application does with one connection, in a thread of its own; errors of the socket end it.

    tls: the server's end of it, in front of the application.
    """
    family = socket.AF_INET6 if ip == POD6 else socket.AF_INET
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []
    with socket.create_server((ip, port), family=family) as server:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError, EOFError, h2.exceptions.H2Error):
                connection.settimeout(20)
                if tls is None:
                    talk(connection)
                else:
                    with tls.wrap_socket(connection, server_side=True) as stream:
                        connections.append(stream)
                        talk(stream)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connections.append(connection)
                    thread = threading.Thread(target=serve, args=(connection,), name=f"application {port}")
                    threads.append(thread)
                    thread.start()

        accepting = threading.Thread(target=accept, name=f"application {port}")
        accepting.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection in connections:
                with contextlib.suppress(OSError):
                    # Of the socket, whatever is in front of it.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@dataclass(frozen=True)
class Seen:
    """A request as its bytes arrived."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def first(self, name: str) -> str:
        return next(iter(self.all(name)), "")


class Reader:
    """Bytes of a connection, by amounts that a protocol asks for."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._seen = bytearray()

    def until(self, mark: bytes) -> bytes:
        """Including the mark. Raises EOFError."""
        while (at := self._seen.find(mark)) < 0:
            self._more()
        return self._take(at + len(mark))

    def exactly(self, count: int) -> bytes:
        while len(self._seen) < count:
            self._more()
        return self._take(count)

    def rest(self) -> bytes:
        with contextlib.suppress(EOFError):
            while True:
                self._more()
        return bytes(self._seen)

    def _take(self, count: int) -> bytes:
        found = bytes(self._seen[:count])
        del self._seen[:count]
        return found

    def _more(self) -> None:
        data = self._connection.recv(65536)
        if not data:
            raise EOFError
        self._seen += data


def read_request(reader: Reader) -> Seen:
    head = reader.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
    headers = [(key, value.strip()) for key, _, value in (line.partition(":") for line in head[1:] if line)]
    seen = Seen(head[0], headers, b"")
    body = b""
    if "chunked" in seen.first("transfer-encoding"):
        while size := int(reader.until(b"\r\n").split(b";")[0], 16):
            body += reader.exactly(size)
            reader.exactly(2)
        while (line := reader.until(b"\r\n")) != b"\r\n":
            key, _, value = line.decode().partition(":")
            headers.append((key, value.strip()))
    elif length := seen.first("content-length"):
        body = reader.exactly(int(length))
    return Seen(head[0], headers, body)


def ok(body: bytes = b"ok", *, headers: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class HttpApp:
    """An HTTP/1 application that keeps its connections open."""

    answer: Callable[[Seen], bytes] = lambda seen: ok()
    seen: list[Seen] = field(default_factory=list)

    def talk(self, connection: socket.socket) -> None:
        reader = Reader(connection)
        while True:
            seen = read_request(reader)
            self.seen.append(seen)
            connection.sendall(self.answer(seen))

    @property
    def last(self) -> Seen:
        return self.seen[-1]


@contextlib.contextmanager
def http_app(
    port: int,
    answer: Callable[[Seen], bytes] | None = None,
    *,
    ip: str = POD,
    tls: ssl.SSLContext | None = None,
) -> Iterator[HttpApp]:
    app = HttpApp(answer) if answer else HttpApp()
    with listening(port, app.talk, ip=ip, tls=tls):
        yield app


Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    headers: Fields = field(default_factory=lambda: [(":status", "200"), ("content-length", "2")])
    body: bytes = b"ok"
    trailers: Fields = field(default_factory=list)


def grpc_answer(code: int) -> Answer:
    headers = [(":status", "200"), ("content-type", "application/grpc")]
    return Answer(headers, b"\0\0\0\0\0", [("grpc-status", str(code))])


@dataclass
class Http2App:
    """An HTTP/2 application, answering each request once it is whole. None resets its stream."""

    answer: Callable[[dict[str, str]], Answer | None] = lambda headers: Answer()
    seen: list[Fields] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    trailers: list[Fields] = field(default_factory=list)

    def talk(self, connection: socket.socket) -> None:
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        http2.initiate_connection()
        connection.sendall(http2.data_to_send())
        requests: dict[int, tuple[Fields, bytearray]] = {}
        while data := connection.recv(65536):
            events = http2.receive_data(data)
            # A reset that came along with a request has closed its stream already.
            gone = {event.stream_id for event in events if isinstance(event, h2.events.StreamReset)}
            for event in events:
                match event:
                    case h2.events.RequestReceived():
                        headers = [(str(key), str(value)) for key, value in event.headers or []]
                        requests[event.stream_id or 0] = (headers, bytearray())
                    case h2.events.DataReceived():
                        requests[event.stream_id or 0][1].extend(event.data or b"")
                        http2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                    case h2.events.TrailersReceived():
                        self.trailers.append([(str(key), str(value)) for key, value in event.headers or []])
                    case h2.events.StreamReset():
                        requests.pop(event.stream_id or 0, None)
                    case h2.events.StreamEnded():
                        headers, body = requests.pop(event.stream_id or 0)
                        if event.stream_id not in gone:
                            self._reply(http2, event.stream_id or 0, headers, bytes(body))
            connection.sendall(http2.data_to_send())

    def _reply(self, http2: h2.connection.H2Connection, stream: int, headers: Fields, received: bytes) -> None:
        self.seen.append(headers)
        self.bodies.append(received)
        answer = self.answer(dict(headers))
        if answer is None:
            http2.reset_stream(stream, error_code=h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
            return
        body = b"" if dict(headers)[":method"] == "HEAD" else answer.body
        http2.send_headers(stream, answer.headers, end_stream=not body and not answer.trailers)
        if body:
            http2.send_data(stream, body, end_stream=not answer.trailers)
        if answer.trailers:
            http2.send_headers(stream, answer.trailers, end_stream=True)


@contextlib.contextmanager
def http2_app(
    port: int, answer: Callable[[dict[str, str]], Answer | None] | None = None, *, ip: str = POD
) -> Iterator[Http2App]:
    app = Http2App(answer) if answer else Http2App()
    with listening(port, app.talk, ip=ip):
        yield app
