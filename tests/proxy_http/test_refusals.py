"""What the inbound side's own answers look like, in full, in each protocol (wire.md 5.7)."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from weft_proto.linkerd import http_route_pb2, transport_pb2

from . import policies, targets
from .certificates import Authority, workload
from .clients import Reply, connect, connect_direct, connect_meshed, is_closed
from .failures import GRPC_KIND, PROTOCOLS, Ask, ask_grpc, ask_http1, ask_http2, assert_fatal, assert_not_fatal
from .namespace import INBOUND_PORT, POD
from .pod import IDENTITY, Pod, eventually
from .servers import listening

PORT = 8080
ABSENT = 8082
CART = workload("cart")
NAME = "web.shop.svc.cluster.local"
Header = transport_pb2.Header
SESSIONS: dict[Ask, transport_pb2.SessionProtocol] = {
    ask_http1: transport_pb2.SessionProtocol(http1=transport_pb2.SessionProtocol.Http1()),
    ask_http2: transport_pb2.SessionProtocol(http2=transport_pb2.SessionProtocol.Http2()),
    ask_grpc: transport_pb2.SessionProtocol(http2=transport_pb2.SessionProtocol.Http2()),
}


PROTOCOL_NAMES: dict[Ask, str] = {ask_http1: "http1", ask_http2: "http2", ask_grpc: "grpc"}


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    with closing(Pod(authority, inbound_gateway_suffixes=["svc.cluster.local."])) as pod:
        pod.set_policy(INBOUND_PORT, policies.detect(authorizations=[policies.meshed(CART, IDENTITY)]))
        pod.set_target(f"{NAME}:{PORT}", targets.detect(POD, PORT))
        yield pod


@PROTOCOLS
def test_a_request_that_no_route_takes_is_not_found(pod: Pod, authority: Authority, ask: Ask) -> None:
    pod.set_policy(PORT, policies.detect(policies.route(policies.path("/only/here"), name="here")))
    with connect_meshed(authority, CART, PORT) as stream:
        assert_not_fatal(ask(stream), ask, 404, 5, "no route found for request")


@PROTOCOLS
def test_a_client_without_authorization_is_denied(pod: Pod, authority: Authority, ask: Ask) -> None:
    pod.set_policy(PORT, policies.detect(authorizations=[policies.meshed(workload("other"))]))
    with connect_meshed(authority, CART, PORT) as stream:
        assert_not_fatal(ask(stream), ask, 403, 7, "client not authorized")


@PROTOCOLS
def test_a_client_beyond_its_rate_is_refused(pod: Pod, authority: Authority, ask: Ask) -> None:
    limit = policies.rate_limit(identity=1)
    # Another name is another limit, of which nothing is used yet.
    limit.metadata.resource.name = PROTOCOL_NAMES[ask]
    pod.set_policy(PORT, policies.detect(rate_limit=limit))

    def once() -> Reply:
        with connect_meshed(authority, CART, PORT) as stream:
            return ask(stream)

    # Those that are not refused go to an application that is not there.
    refused = next(reply for reply in (once() for _ in range(20)) if "rate" in reply.first("l5d-proxy-error"))
    assert_not_fatal(refused, ask, 429, 8, "rate limit exceeded")


@PROTOCOLS
def test_a_gateway_does_not_know_names_outside_its_domains(pod: Pod, authority: Authority, ask: Ask) -> None:
    header = Header(port=PORT, name="elsewhere.example", session_protocol=SESSIONS[ask])
    with connect_direct(authority, CART, header) as stream:
        assert_not_fatal(ask(stream), ask, 404, 5, "not found")


def test_bytes_to_names_outside_a_gateways_domains_are_cut(pod: Pod, authority: Authority) -> None:
    arrived: list[socket.socket] = []
    before = pod.value("inbound_tcp_errors_total", error="unexpected", target_port=str(INBOUND_PORT))
    header = Header(port=PORT, name="elsewhere.example")
    with listening(PORT, arrived.append), connect_direct(authority, CART, header) as stream:
        stream.sendall(b"hello")
        assert is_closed(stream)
    assert not arrived
    labels = {"error": "unexpected", "target_port": str(INBOUND_PORT)}
    eventually(lambda: pod.value("inbound_tcp_errors_total", **labels) == before + 1)


@PROTOCOLS
def test_a_gateway_ends_a_loop(pod: Pod, authority: Authority, ask: Ask) -> None:
    header = Header(port=PORT, name=NAME, session_protocol=SESSIONS[ask])
    with connect_direct(authority, CART, header) as stream:
        reply = ask(stream, [("forwarded", f"for=x;by={IDENTITY}")])
        assert_fatal(reply, ask, 508, 10, "gateway loop detected")


@PROTOCOLS
def test_an_application_that_is_not_there_is_a_bad_gateway(pod: Pod, authority: Authority, ask: Ask) -> None:
    pod.set_policy(ABSENT, policies.detect())
    with connect_meshed(authority, CART, ABSENT) as stream:
        why = f"endpoint connection failed: {POD}:{ABSENT}: Connection refused (os error 111)"
        assert_fatal(ask(stream), ask, 502, 14, why)


@PROTOCOLS
def test_strangers_hear_no_reason(pod: Pod, ask: Ask) -> None:
    pod.set_policy(ABSENT, policies.detect())
    with connect(ABSENT) as stream:
        why = f"endpoint connection failed: {POD}:{ABSENT}: Connection refused (os error 111)"
        assert_fatal(ask(stream), ask, 502, 14, why, shows=False)


@PROTOCOLS
def test_an_application_that_hangs_up_is_a_bad_gateway(pod: Pod, authority: Authority, ask: Ask) -> None:
    pod.set_policy(PORT, policies.detect())

    def hang_up(connection: socket.socket) -> None:
        connection.recv(65536)

    with listening(PORT, hang_up), connect_meshed(authority, CART, PORT) as stream:
        reply = ask(stream)
        why = dict(reply.headers)["l5d-proxy-error"]
        assert why.startswith("endpoint connection failed: ")
        assert_fatal(reply, ask, 502, 14, why)


@PROTOCOLS
def test_a_filter_sends_the_client_elsewhere(pod: Pod, authority: Authority, ask: Ask) -> None:
    redirect = http_route_pb2.RequestRedirect(host="other.shop", status=307)
    filters = [policies.HttpRoute.Filter(redirect=redirect)]
    pod.set_policy(PORT, policies.detect(policies.route(filters=filters)))
    with connect_meshed(authority, CART, PORT) as stream:
        reply = ask(stream)
    if ask is ask_grpc:
        assert (reply.status, reply.first("grpc-status"), reply.first("content-type")) == (200, "5", GRPC_KIND)
    else:
        assert (reply.status, reply.first("location")) == (307, "http://other.shop/")


@PROTOCOLS
def test_a_filter_fails_requests_with_its_status(pod: Pod, authority: Authority, ask: Ask) -> None:
    injector = http_route_pb2.HttpFailureInjector(status=418, message="teapot")
    filters = [policies.HttpRoute.Filter(failure_injector=injector)]
    pod.set_policy(PORT, policies.detect(policies.route(filters=filters)))
    with connect_meshed(authority, CART, PORT) as stream:
        assert_not_fatal(ask(stream), ask, 418, 9, "teapot")
