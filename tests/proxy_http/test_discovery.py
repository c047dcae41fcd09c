"""What waits for the control plane and what does not, and for how long its answers are kept (wire.md 2.2, 2.6)."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from weft_proto.linkerd import destination_pb2
from weft_proto.weft import engine_pb2

from . import policies, targets
from .certificates import Authority
from .clients import connect, connect_as_app, get, http1, is_closed
from .failures import PROTOCOLS, Ask, ask_grpc, ask_http1, ask_http2, assert_fatal
from .namespace import CLIENT, POD
from .pod import PORTS, Pod, eventually
from .servers import Reader, http_app, listening

IDLE_S = 0.3
PORT_OF: dict[Ask, int] = {ask_http1: 8601, ask_http2: 8602, ask_grpc: 8603}
"""A target is discovered once, so each protocol of a test has its own."""


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    """Lets go of what is not used, and gives up everything but discovery, after a third of a second."""
    idle_ms = int(IDLE_S * 1000)
    settings = {
        "inbound_discovery_idle_ms": idle_ms,
        "outbound_discovery_idle_ms": idle_ms,
        "outbound_connect_timeout_ms": idle_ms,
        "outbound_detect_timeout_ms": idle_ms,
        "outbound_queue": engine_pb2.Queue(capacity=10, failfast_ms=idle_ms),
        "inbound_opaque_ports": [engine_pb2.PortRange(first=8640, last=8649)],
    }
    with closing(Pod(authority, **settings)) as pod:
        yield pod


def test_a_new_target_waits_for_the_control_plane_without_a_deadline(pod: Pod) -> None:
    target = f"{POD}:8600"
    pod.withheld.add(target)
    pod.set_target(target, targets.detect(CLIENT, 8600))
    with http_app(8600, ip=CLIENT) as app, connect_as_app(8600) as stream:
        stream.sendall(get())
        stream.settimeout(5 * IDLE_S)
        with pytest.raises(TimeoutError):
            stream.recv(1)
        stream.settimeout(10)
        pod.tell_target(target)
        assert http1(stream, b"").status == 200
    assert len(app.seen) == 1


def test_a_target_is_kept_while_it_is_used_and_asked_for_anew_when_it_was_let_go(pod: Pod) -> None:
    target, path = f"{POD}:8604", "cart.shop.svc.cluster.local:8604"
    pod.endpoints[path] = targets.found(targets.endpoint(CLIENT, 8604))
    pod.set_target(target, targets.detect_to(path))
    with http_app(8604, ip=CLIENT):
        with connect_as_app(8604) as stream:
            assert http1(stream, get()).status == 200
            stream.settimeout(3 * IDLE_S)
            with pytest.raises(TimeoutError):
                stream.recv(1)
            assert not {target, path} & set(pod.released)
            with connect_as_app(8604) as another:
                assert http1(another, get()).status == 200
            assert (pod.asked.count(target), pod.asked.count(path)) == (1, 1)
        eventually(lambda: {target, path} <= set(pod.released))
        with connect_as_app(8604) as stream:
            assert http1(stream, get()).status == 200
    assert (pod.asked.count(target), pod.asked.count(path)) == (2, 2)


def test_a_new_port_admits_by_the_default_policy_until_it_has_its_own(pod: Pod) -> None:
    assert 8610 not in PORTS
    with http_app(8610), connect(8610) as stream:
        assert http1(stream, get()).status == 200
        eventually(lambda: "8610" in pod.asked)
        labels = {"srv_kind": "default", "srv_name": "all-unauthenticated", "target_port": "8610"}
        assert pod.value("inbound_http_authz_allow_total", **labels) == 1
        pod.set_policy(8610, policies.detect(authorizations=[]))
        assert http1(stream, get()).status == 403


def test_a_new_port_among_the_opaque_ones_is_not_looked_into(pod: Pod) -> None:
    with listening(8640, lambda connection: connection.sendall(b"220 ready\r\n")), connect(8640) as stream:
        stream.settimeout(5)
        assert stream.recv(64) == b"220 ready\r\n"


def test_a_port_is_watched_while_it_is_used_and_for_a_while_after(pod: Pod) -> None:
    watched = str(PORTS[0])
    with http_app(8611), http_app(PORTS[0]):
        with connect(8611) as stream, connect(PORTS[0]) as pinned:
            assert [http1(each, get()).status for each in (stream, pinned)] == [200, 200]
            stream.settimeout(3 * IDLE_S)
            with pytest.raises(TimeoutError):
                stream.recv(1)
            assert "8611" not in pod.released
        eventually(lambda: "8611" in pod.released)
    assert watched not in pod.asked, "it is watched from the start"
    assert watched not in pod.released


@PROTOCOLS
def test_a_target_that_the_control_plane_refuses_is_a_bad_gateway(pod: Pod, ask: Ask) -> None:
    port = PORT_OF[ask]
    pod.targets[f"{POD}:{port}"] = engine_pb2.SetOutboundTarget(refusal="no such workload")
    with connect_as_app(port) as stream:
        assert_fatal(ask(stream), ask, 502, 14, "backend cannot be used: no such workload")


def test_bytes_for_a_target_that_the_control_plane_refuses_are_cut(pod: Pod) -> None:
    pod.targets[f"{POD}:8605"] = engine_pb2.SetOutboundTarget(refusal="no such workload")
    assert_cut(pod, 8605)


def test_bytes_for_a_policy_that_makes_no_sense_are_cut(pod: Pod) -> None:
    policy = targets.detect(CLIENT, 8606)
    policy.ClearField("metadata")
    pod.set_target(f"{POD}:8606", policy)
    assert_cut(pod, 8606)


def assert_cut(pod: Pod, port: int) -> None:
    arrived: list[socket.socket] = []
    with listening(port, arrived.append, ip=CLIENT), connect_as_app(port) as stream:
        stream.sendall(b"\x01\x02\x03 no http at all")
        assert is_closed(stream)
    assert not arrived
    eventually(lambda: pod.value("outbound_tcp_errors_total", error="unexpected", target_port=str(port)) == 1)


@pytest.mark.parametrize("is_opaque", [False, True], ids=["detected", "opaque"])
def test_an_unknown_target_is_named_for_what_it_is_reached_by(pod: Pod, is_opaque: bool) -> None:
    port = 8607 + is_opaque
    known = destination_pb2.DestinationProfile(endpoint=targets.endpoint(CLIENT, port), opaque_protocol=is_opaque)
    pod.set_target(f"{POD}:{port}", profile=known)
    with http_app(port, ip=CLIENT), connect_as_app(port) as stream:
        assert http1(stream, get()).status == 200
    protocol = "opaq" if is_opaque else "detect"
    labels = {"protocol": protocol, "parent_kind": "default", "parent_name": "endpoint"}
    assert pod.value("outbound_tcp_protocol_connections_total", **labels) == 1


def test_a_target_that_nobody_knows_is_named_a_fallback(pod: Pod) -> None:
    with (
        listening(8609, lambda connection: connection.sendall(Reader(connection).exactly(3))),
        connect_as_app(8609) as stream,
    ):
        stream.sendall(b"\x01\x02\x03")
        assert Reader(stream).exactly(3) == b"\x01\x02\x03"
    eventually(lambda: pod.value("outbound_tcp_route_open_total", parent_name="fallback", target_port="8609") == 1)
