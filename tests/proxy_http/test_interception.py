"""Whose connections the inbound listener serves (wire.md 5.1)."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from . import policies
from .certificates import Authority
from .clients import connect, get, is_closed
from .namespace import CLIENT, POD
from .pod import Pod, eventually
from .servers import http_app

PORT = 8080


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    """Its own address is another than the one that connections here are for."""
    with closing(Pod(authority, inbound_ips=[policies.ip_message(CLIENT)])) as pod:
        pod.set_policy(PORT, policies.detect())
        yield pod


def test_a_connection_for_another_address_is_dropped_and_logged(pod: Pod) -> None:
    with http_app(PORT) as app, connect(PORT) as stream:
        stream.sendall(get())
        assert is_closed(stream)
    assert app.seen == []
    eventually(lambda: bool(pod.logged("refused a connection that is not for this workload")))
    (fields,) = pod.logged("refused a connection that is not for this workload")
    assert fields["dst"] == f"{POD}:{PORT}"
