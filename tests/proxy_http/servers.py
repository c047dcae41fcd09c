"""Applications in the pod: a listening port, a thread per connection, and a record of what arrived."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .namespace import POD, POD6

Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(port: int, talk: Talk, *, ip: str = POD) -> Iterator[None]:
    """talk: what the application does with one connection, in a thread of its own; errors of the socket end it."""
    family = socket.AF_INET6 if ip == POD6 else socket.AF_INET
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []
    with socket.create_server((ip, port), family=family) as server:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError, EOFError):
                connection.settimeout(20)
                talk(connection)

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
                    connection.shutdown(socket.SHUT_RDWR)
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
        self._seen = b""

    def until(self, mark: bytes) -> bytes:
        """Including the mark. Raises EOFError."""
        while mark not in self._seen:
            self._more()
        found, _, self._seen = self._seen.partition(mark)
        return found + mark

    def exactly(self, count: int) -> bytes:
        while len(self._seen) < count:
            self._more()
        found, self._seen = self._seen[:count], self._seen[count:]
        return found

    def rest(self) -> bytes:
        with contextlib.suppress(EOFError):
            while True:
                self._more()
        return self._seen

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
def http_app(port: int, answer: Callable[[Seen], bytes] | None = None, *, ip: str = POD) -> Iterator[HttpApp]:
    app = HttpApp(answer) if answer else HttpApp()
    with listening(port, app.talk, ip=ip):
        yield app
