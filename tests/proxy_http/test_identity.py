"""Who the proxy says it is, and where it says its clients are."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from . import policies, targets
from .certificates import Authority, workload
from .clients import connect, connect_as_app, get, http1
from .namespace import CLIENT, POD
from .pod import IDENTITY, Pod, eventually
from .servers import http_app, listening

PORT = 8087
CART = workload("cart")


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    with closing(Pod(authority, inbound_remote_ip_header=True)) as pod:
        yield pod


def test_an_application_that_asks_is_told_where_its_clients_are(pod: Pod) -> None:
    pod.set_policy(PORT, policies.http1())
    with http_app(PORT) as app, connect(PORT) as stream:
        assert http1(stream, get(headers="l5d-remote-ip: 10.0.0.9\r\n")).status == 200
    assert app.last.all("l5d-remote-ip") == [CLIENT], "what a client says of itself counts for nothing"


def test_an_expired_certificate_is_not_brought_to_a_server(pod: Pod, authority: Authority) -> None:
    """A server that takes clients without a certificate still refuses an expired one, and identity is such a server."""
    leaf = authority.issue(IDENTITY, timedelta(seconds=4))
    pod.set_identity(leaf)
    pod.set_target(f"{POD}:{PORT}", targets.opaque(CLIENT, PORT, CART))
    context = authority.server_context(CART)
    brought: list[Any] = []

    def answer(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        brought.append(connection.getpeercert())
        connection.sendall(connection.recv(64))

    def echoes() -> None:
        with connect_as_app(PORT) as stream:
            stream.sendall(b"hello")
            assert stream.recv(64) == b"hello"

    with listening(PORT, answer, ip=CLIENT, tls=context):
        echoes()
        assert ("DNS", IDENTITY) in brought[0]["subjectAltName"]
        end = leaf.certificate.not_valid_after_utc.timestamp()
        eventually(lambda: time.time() >= end + 1, within_s=10)
        echoes()
    assert not brought[1]
