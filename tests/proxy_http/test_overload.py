"""What clients are told when a proxy has as many requests at once as it may (wire.md 5.7, 7.2)."""

import contextlib
import threading
from collections.abc import Iterator

import pytest

from . import policies, targets
from .certificates import Authority, workload
from .clients import connect, connect_as_app, connect_meshed, get, http1
from .failures import PROTOCOLS, Ask, assert_fatal
from .namespace import CLIENT, POD
from .pod import Pod
from .servers import http_app, ok

PORT, OUTSIDE = 8088, 8090
CART = workload("cart")


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    with contextlib.closing(Pod(authority, inbound_max_in_flight=1, outbound_max_in_flight=1)) as pod:
        pod.set_policy(PORT, policies.detect())
        pod.set_target(f"{POD}:{OUTSIDE}", targets.detect(CLIENT, OUTSIDE))
        yield pod


@PROTOCOLS
def test_inbound_sheds_what_is_too_much_at_once(pod: Pod, authority: Authority, ask: Ask) -> None:
    before = pod.value("inbound_http_errors_total", error="loadshed")
    with slow_app(POD, PORT) as started, connect(PORT) as busy:
        busy.sendall(get())
        assert started.wait(10)
        with connect_meshed(authority, CART, PORT) as stream:
            assert_fatal(ask(stream), ask, 503, 14, "load shed")
        # Strangers learn nothing of the mesh.
        with connect(PORT) as stream:
            assert_fatal(ask(stream), ask, 503, 14, "load shed", shows=False)
    assert pod.value("inbound_http_errors_total", error="loadshed") == before + 2


@PROTOCOLS
def test_outbound_sheds_what_is_too_much_at_once(pod: Pod, ask: Ask) -> None:
    before = pod.value("outbound_http_errors_total", error="loadshed")
    with slow_app(CLIENT, OUTSIDE) as started, connect_as_app(OUTSIDE) as busy:
        busy.sendall(get())
        assert started.wait(10)
        with connect_as_app(OUTSIDE) as stream:
            assert_fatal(ask(stream), ask, 503, 14, "load shed")
    assert pod.value("outbound_http_errors_total", error="loadshed") == before + 1


def test_each_side_has_a_limit_of_its_own(pod: Pod) -> None:
    with slow_app(CLIENT, OUTSIDE) as started, connect_as_app(OUTSIDE) as busy:
        busy.sendall(get())
        assert started.wait(10)
        with http_app(PORT), connect(PORT) as stream:
            assert http1(stream, get()).status == 200


@contextlib.contextmanager
def slow_app(ip: str, port: int) -> Iterator[threading.Event]:
    """Answers when the block is over. Yields what is set once a request is there."""
    started, over = threading.Event(), threading.Event()

    def answer(_: object) -> bytes:
        started.set()
        assert over.wait(20)
        return ok()

    with http_app(port, answer, ip=ip):
        try:
            yield started
        finally:
            over.set()
