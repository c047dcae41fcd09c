"""Every family that needs more than plain traffic, held against the contract (observability.md 1.5 to 1.9).

The e2e tests do the same for what the bookshop's own traffic brings about.
"""

import contextlib
import math
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families
from weft_proto.linkerd import destination_pb2, opaque_route_pb2, transport_pb2
from weft_proto.linkerd import outbound_pb2 as out
from weft_proto.weft import engine_pb2

from tests.e2e.metrics_contract import BY_DIRECTION, FAMILIES, OWN_PREFIX, TRANSPORT, family_of

from . import policies, targets
from .certificates import Authority, workload
from .clients import connect, connect_as_app, connect_direct, connect_meshed, get, http1, http2, is_closed
from .namespace import CLIENT, INBOUND_PORT, POD
from .pod import Pod, eventually
from .servers import Answer, grpc_answer, http2_app, http_app, listening

HTTP, GRPC, BYTES = 8080, 8081, 8082
CART = workload("cart")
# Of what this pod does not have: connections to a control plane, and what the Python side tells of the process.
ELSEWHERE = ("control_", "opentelemetry_", "process_", "proxy_build_info", "rustls_info")
NAME = "cart.shop.svc.cluster.local"
UNAVAILABLE = Answer([(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "14")], b"")
ERROR = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    queue = engine_pb2.Queue(capacity=10, failfast_ms=200)
    with closing(Pod(authority, outbound_queue=queue, outbound_tcp_queue=queue)) as pod:
        inbound_http(pod, authority)
        inbound_bytes(pod, authority)
        outbound_http(pod)
        outbound_bytes(pod, authority)
        yield pod


def inbound_http(pod: Pod, authority: Authority) -> None:
    """A call and requests: one admitted, one denied, one without a route, one too many, one for nobody."""
    pod.set_policy(GRPC, policies.grpc())
    with http2_app(GRPC, lambda _: grpc_answer(0)), http2(connect_meshed(authority, CART, GRPC)) as client:
        assert client.grpc().first("grpc-status") == "0"
    with http_app(HTTP):
        refusals = [
            (policies.detect(), 200),
            (policies.detect(authorizations=[]), 403),
            (policies.detect(policies.route(policies.path("/elsewhere"))), 404),
            (policies.detect(rate_limit=policies.rate_limit(total=1)), 429),
        ]
        for policy, status in refusals:
            pod.set_policy(HTTP, policy)
            with connect(HTTP) as stream:
                assert status in (http1(stream, get()).status for _ in range(20))
    pod.set_policy(HTTP, policies.detect())
    with connect(HTTP) as stream:
        assert http1(stream, get()).status == 502


def inbound_bytes(pod: Pod, authority: Authority) -> None:
    """Connections: one admitted until policy changes, one denied, one by a transport header, and one without."""
    pod.set_policy(BYTES, policies.opaque())
    with listening(BYTES, echo), connect(BYTES) as stream:
        stream.sendall(b"hello")
        assert stream.recv(64) == b"hello"
        pod.set_policy(BYTES, policies.opaque(policies.meshed(CART)))
        assert is_closed(stream)
        with connect(BYTES) as denied:
            assert is_closed(denied)
    with connect_direct(authority, CART, transport_pb2.Header(port=BYTES)) as stream, listening(BYTES, echo):
        stream.sendall(b"hello")
        assert stream.recv(64) == b"hello"
    with connect(INBOUND_PORT) as stream:
        stream.sendall(get())
        assert is_closed(stream)


def outbound_http(pod: Pod) -> None:
    """Tries that succeed late and never, of both kinds of route; a ServiceProfile's; a backend that is none."""
    found = targets.found(targets.endpoint(CLIENT, 8801))
    pod.endpoints[f"{NAME}:8801"] = found
    backoff = out.ExponentialBackoff()
    backoff.min_backoff.FromMilliseconds(1)
    backoff.max_backoff.FromMilliseconds(1)
    of_grpc = out.GrpcRoute.Retry(
        conditions=out.GrpcRoute.Retry.Conditions(unavailable=True), max_retries=1, max_request_bytes=9, backoff=backoff
    )
    conditions = out.HttpRoute.Retry.Conditions
    of_http = out.HttpRoute.Retry(
        conditions=conditions(status_ranges=[conditions.StatusRange(start=500, end=500)]),
        max_retries=1,
        max_request_bytes=9,
        backoff=backoff,
    )
    pod.set_target(f"{POD}:8801", targets.grpc(targets.grpc_route(f"{NAME}:8801", retry=of_grpc)))
    calls = iter([UNAVAILABLE, grpc_answer(0), UNAVAILABLE, UNAVAILABLE])
    with http2_app(8801, lambda _: next(calls), ip=CLIENT), http2(connect_as_app(8801)) as client:
        assert [client.grpc().first("grpc-status") for _ in range(2)] == ["0", "14"]
    pod.set_target(f"{POD}:8802", targets.detect(CLIENT, 8802, retry=of_http))
    with http_app(8802, lambda _: ERROR, ip=CLIENT), connect_as_app(8802) as stream:
        body = b"POST / HTTP/1.1\r\nhost: web.shop\r\ncontent-length: 2\r\n\r\nhi"
        assert http1(stream, body).status == 500
    pod.set_target(f"{POD}:8803", targets.detect_to(None))
    with connect_as_app(8803) as stream:
        assert http1(stream, get()).status == 502
    pod.endpoints[f"{NAME}:8804"] = targets.found(targets.endpoint(CLIENT, 8804))
    pod.set_target(f"{POD}:8804", targets.detect(CLIENT, 8804), _profile())
    with http_app(8804, lambda _: ERROR, ip=CLIENT), connect_as_app(8804) as stream:
        assert http1(stream, get()).status == 500


def _profile() -> destination_pb2.DestinationProfile:
    """With a budget of one retry each second."""
    route = destination_pb2.Route(is_retryable=True, metrics_labels={"route": "all"})
    route.condition.path.regex = "/.*"
    profile = destination_pb2.DestinationProfile(fully_qualified_name=NAME, routes=[route])
    profile.retry_budget.min_retries_per_second = 1
    profile.retry_budget.ttl.FromSeconds(1)
    return profile


def outbound_bytes(pod: Pod, authority: Authority) -> None:
    """Connections over balancers, by TLS too; one forbidden, one to a policy that makes no sense."""
    pod.endpoints[f"{NAME}:8811"] = targets.found(targets.endpoint(CLIENT, 8811))
    pod.set_target(f"{POD}:8811", targets.opaque_to(f"{NAME}:8811"))
    with listening(8811, echo, ip=CLIENT), connect_as_app(8811) as stream:
        stream.sendall(b"hello")
        assert stream.recv(64) == b"hello"
    forbidden = [out.OpaqueRoute.Filter(forbidden=opaque_route_pb2.Forbidden())]
    pod.set_target(f"{POD}:8812", targets.opaque_to(targets.endpoint(CLIENT, 8812), filters=forbidden))
    pod.set_target(f"{POD}:8813", out.OutboundPolicy())
    for port in (8812, 8813):
        with connect_as_app(port) as stream:
            stream.sendall(b"\x01\x02\x03 no http at all")
            assert is_closed(stream)
    pod.endpoints[f"{NAME}:8814"] = targets.found(targets.endpoint(CLIENT, 8814))
    pod.set_target(f"{POD}:8814", targets.tls({"db.example": f"{NAME}:8814"}))
    context = authority.server_context("db.example")
    client = authority.client_context(CART)
    with (
        listening(8814, lambda connection: connection.sendall(b"hello"), ip=CLIENT, tls=context),
        client.wrap_socket(connect_as_app(8814), server_hostname="db.example") as stream,
    ):
        assert stream.recv(64) == b"hello"


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def names(pod: Pod) -> set[str]:
    return {family.name for family in text_string_to_metric_families(pod.exposition()) if family.samples}


def test_every_family_of_the_data_path_is_there(pod: Pod) -> None:
    wanted = {name for name in (*BY_DIRECTION, *TRANSPORT, *FAMILIES) if not name.startswith(ELSEWHERE)}
    # What is counted at the end of a connection or of a body may come a moment later.
    with contextlib.suppress(AssertionError):
        eventually(lambda: wanted <= names(pod))
    assert wanted - names(pod) == set()


def test_every_series_has_the_name_type_labels_and_buckets_of_the_contract(pod: Pod) -> None:
    wrong: set[str] = set()
    for family in text_string_to_metric_families(pod.exposition()):
        for sample in family.samples if not family.name.startswith((OWN_PREFIX, *ELSEWHERE)) else ():
            labels = {key: value for key, value in sample.labels.items() if key != "le"}
            expected = family_of(family.name, labels)
            if expected is None or expected.type != family.type or not expected.admits(frozenset(labels)):
                wrong.add(f"{sample.name} {family.type}: {sorted(labels)}")
            elif sample.name.endswith("_bucket") and float(sample.labels["le"]) not in (*expected.buckets, math.inf):
                wrong.add(f"{family.name}: bucket {sample.labels['le']}")
    assert not wrong, "\n".join(sorted(wrong))


def test_no_series_tells_a_name_that_clients_choose(pod: Pod) -> None:
    """Unless that is asked for."""
    families = list(text_string_to_metric_families(pod.exposition()))
    labels = [sample.labels for family in families for sample in family.samples]
    assert {one["hostname"] for one in labels if "hostname" in one} == {""}
    assert not [one for one in labels if one.get("direction") == "inbound" and "authority" in one]
