"""How a failure reads in each protocol (wire.md 5.7), for tests to compare with."""

import socket
from collections.abc import Sequence
from typing import Protocol

import pytest

from .clients import Reply, get, http1, is_closed
from .frames import FrameClient

GRPC_KIND = "application/grpc+proto"
Headers = Sequence[tuple[str, str]]


class Ask(Protocol):
    """Sends one request. Asserts that a connection which the answer ends does end, as its protocol does that."""

    def __call__(self, stream: socket.socket, headers: Headers = ()) -> Reply: ...


def ask_http1(stream: socket.socket, headers: Headers = ()) -> Reply:
    reply = http1(stream, get(headers="".join(f"{name}: {value}\r\n" for name, value in headers)))
    if reply.first("connection") == "close":
        assert is_closed(stream)
    return reply


def ask_http2(stream: socket.socket, headers: Headers = ()) -> Reply:
    client = FrameClient(stream)
    client.send(headers=headers)
    return _ended(client)


def ask_grpc(stream: socket.socket, headers: Headers = ()) -> Reply:
    client = FrameClient(stream)
    own = [("content-type", GRPC_KIND), ("te", "trailers")]
    client.send("/a.Service/Call", method="POST", headers=[*own, *headers], body=b"\0\0\0\0\0")
    return _ended(client)


def _ended(client: FrameClient) -> Reply:
    reply = client.reply()
    if dict(reply.headers).get("l5d-proxy-connection") == "close":
        assert client.ends_gracefully()
    return reply


PROTOCOLS = pytest.mark.parametrize("ask", [ask_http1, ask_http2, ask_grpc])


def assert_fatal(found: Reply, ask: Ask, status: int, code: int, why: str, *, shows: bool = True) -> None:
    """shows: to a client that may see what the mesh does."""
    _assert_failed(found, ask, status, code, why, shows=shows, ends=True)


def assert_not_fatal(found: Reply, ask: Ask, status: int, code: int, why: str) -> None:
    """The connection goes on."""
    _assert_failed(found, ask, status, code, why, shows=True, ends=False)


def _assert_failed(found: Reply, ask: Ask, status: int, code: int, why: str, *, shows: bool, ends: bool) -> None:
    wanted = [("l5d-proxy-error", why)] if shows else []
    if shows and ends:
        wanted.append(("l5d-proxy-connection", "close"))
    if ask is ask_grpc:
        status = 200
        wanted += [("content-type", GRPC_KIND), ("grpc-message", why), ("grpc-status", str(code))]
    else:
        wanted.append(("content-length", "0"))
    if ask is ask_http1 and ends:
        wanted.append(("connection", "close"))
    headers = [(name, value) for name, value in found.headers if name not in ("date", ":status")]
    assert (found.status, sorted(headers)) == (status, sorted(wanted))
    assert (found.body, found.trailers) == (b"", [])
