"""What decision records say of requests through a gateway and of connections whose bytes nobody reads."""

import socket
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest
from weft_proto.linkerd import transport_pb2
from weft_proto.weft import decision_pb2, engine_pb2

from . import policies, targets
from .certificates import Authority, workload
from .clients import Http2, connect, connect_as_app, connect_direct, get, http1, is_closed
from .namespace import INBOUND_PORT, POD
from .pod import Pod, eventually
from .servers import listening

PORT = 8085
NOBODY = 8086
TAP_PORT = 4190
CART = workload("cart")
NAME = "web.shop.svc.cluster.local"
HTTP2 = transport_pb2.SessionProtocol(http2=transport_pb2.SessionProtocol.Http2())
HTTP1 = transport_pb2.SessionProtocol(http1=transport_pb2.SessionProtocol.Http1())
Decision = decision_pb2.Decision


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    tap = policies.socket_message("::", TAP_PORT)
    # What nobody takes is given up soon.
    queue = engine_pb2.Queue(capacity=10, failfast_ms=300)
    settings = {
        "inbound_gateway_suffixes": ["svc.cluster.local."],
        "tap_listen": tap,
        "tap_client": workload("tap"),
        "outbound_queue": queue,
        "outbound_tcp_queue": queue,
    }
    with closing(Pod(authority, **settings)) as pod:
        pod.set_policy(INBOUND_PORT, policies.detect(authorizations=[policies.meshed(CART)]))
        for port in (PORT, NOBODY):
            pod.set_target(f"{NAME}:{port}", targets.detect(POD, port))
        pod.set_policy(PORT, policies.opaque(policies.meshed(CART)))
        yield pod


def newest(pod: Pod, before: list[Decision]) -> Decision:
    """The one record that was not there before; its connection may still be ending."""
    known = {one.id for one in before}
    eventually(lambda: any(one.id not in known for one in pod.decisions()))
    (found,) = (one for one in pod.decisions() if one.id not in known)
    return found


def test_a_request_through_a_gateway_names_who_admitted_it_and_where_it_was_to_go(
    pod: Pod, authority: Authority
) -> None:
    before = pod.decisions()
    header = transport_pb2.Header(port=NOBODY, name=NAME, session_protocol=HTTP1)
    with connect_direct(authority, CART, header) as stream:
        assert http1(stream, get("/page", host="web.shop")).status >= 500
    found = newest(pod, before)
    assert (found.direction, found.path, found.client_tls["client_id"]) == (Decision.INBOUND, "/page", CART)
    assert found.authorization.resource.name == "meshed-only"
    assert (found.parent.default, found.route.default) == ("target", "http")
    assert [attempt.endpoint.port for attempt in found.tries][:1] == [NOBODY]
    assert "refused" in found.tries[0].failure


def test_a_request_that_a_gateway_does_not_admit_goes_nowhere(pod: Pod, authority: Authority) -> None:
    before = pod.decisions()
    header = transport_pb2.Header(port=PORT, name=NAME, session_protocol=HTTP1)
    with connect_direct(authority, workload("other"), header) as stream:
        assert http1(stream, get("/denied")).status == 403
    found = newest(pod, before)
    assert (found.reason, found.closed_by) == ("client not authorized", Decision.PROXY)
    assert not found.HasField("authorization")
    assert not found.tries


def test_bytes_through_a_gateway_to_a_server_that_nobody_runs(pod: Pod, authority: Authority) -> None:
    before = pod.decisions()
    with connect_direct(authority, CART, transport_pb2.Header(port=NOBODY, name=NAME)) as stream:
        stream.sendall(b"\0\1\2\3 no http")
        assert is_closed(stream)
    found = newest(pod, before)
    assert (found.protocol, found.method, found.closed_by) == ("tcp", "", Decision.PROXY)
    assert found.authorization.resource.name == "meshed-only"
    assert (found.parent.default, found.route.default) == ("target", "opaq")
    assert found.tries[0].endpoint.port == NOBODY


def test_a_connection_that_policy_denies(pod: Pod) -> None:
    before = pod.decisions()
    with connect(PORT) as stream:
        stream.sendall(b"hello")
        assert is_closed(stream)
    found = newest(pod, before)
    assert (found.direction, found.protocol, found.is_failure) == (Decision.INBOUND, "tcp", True)
    assert (found.reason, found.parent.resource.name) == ("client not authorized", "web")
    assert found.client_tls["tls"] == "no_identity"


def test_a_connection_that_the_server_breaks_counts_what_passed(pod: Pod) -> None:
    pod.set_policy(PORT, policies.opaque())

    def break_off(connection: socket.socket) -> None:
        assert connection.recv(64) == b"hello"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    before = pod.decisions()
    with listening(PORT, break_off), connect(PORT) as stream:
        stream.sendall(b"hello")
        assert is_closed(stream)
    found = newest(pod, before)
    assert (found.closed_by, found.request_bytes, found.is_failure) == (Decision.SERVER, 5, True)
    assert found.reason.startswith("the server's side broke: ")


def test_a_connection_that_policy_ends_later(pod: Pod) -> None:
    pod.set_policy(PORT, policies.opaque())
    before = pod.decisions()
    with listening(PORT, lambda connection: connection.sendall(connection.recv(64))), connect(PORT) as stream:
        stream.sendall(b"hello")
        assert stream.recv(64) == b"hello"
        pod.set_policy(PORT, policies.opaque(policies.meshed(CART)))
        assert is_closed(stream)
        found = newest(pod, before)
    assert (found.reason, found.closed_by) == ("the policy no longer admits the client", Decision.PROXY)
    assert (found.request_bytes, found.response_bytes) == (5, 5)


def test_an_outbound_connection_that_nobody_takes(pod: Pod) -> None:
    pod.set_target(f"{POD}:{NOBODY}", targets.opaque(POD, NOBODY))
    before = pod.decisions()
    with connect_as_app(NOBODY) as stream:
        assert is_closed(stream)
    found = newest(pod, before)
    assert (found.direction, found.protocol, found.parent.default) == (Decision.OUTBOUND, "tcp", "target")
    assert [attempt.endpoint.port for attempt in found.tries][:1] == [NOBODY]
    assert "refused" in found.tries[0].failure


def test_of_many_good_connections_some_are_kept(pod: Pod) -> None:
    pod.set_policy(PORT, policies.opaque())
    with listening(PORT, lambda connection: connection.sendall(connection.recv(64))):
        for _ in range(100):
            with connect(PORT) as stream:
                stream.sendall(b"hi")
                assert stream.recv(64) == b"hi"
    eventually(lambda: any(one.protocol == "tcp" and not one.is_failure for one in pod.decisions()))
    kept = [one for one in pod.decisions() if not one.is_failure and one.protocol == "tcp"]
    assert len(kept) == 1
    assert (kept[0].request_bytes, kept[0].response_bytes, kept[0].is_sample) == (2, 2, True)


def test_nobody_taps_through_the_proxy_as_if_from_this_host(pod: Pod, authority: Authority) -> None:
    """CVE-2024-40632 told us to look: loopback may tap without an identity."""
    header = transport_pb2.Header(port=TAP_PORT, session_protocol=HTTP2)
    with connect_direct(authority, CART, header) as stream:
        assert Http2(stream).grpc("/io.linkerd.proxy.tap.Tap/Observe").first("grpc-status") == "16"
