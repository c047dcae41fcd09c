"""Targets that are gRPC by policy: which route takes a call, what its filters and retries do, how it is counted
(wire.md 2.6, 2.7, 5.7, 7.4; observability.md 1.6)."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import grpc_route_pb2, http_route_pb2, http_types_pb2
from weft_proto.linkerd import outbound_pb2 as out

from . import targets
from .clients import connect_as_app, http2
from .failures import ask_grpc, ask_http2, assert_not_fatal
from .namespace import CLIENT, POD
from .pod import Pod, eventually
from .servers import Answer, grpc_answer, http2_app

UNAVAILABLE = 14
NAMES = {0: "OK", 1: "CANCELLED", 14: "UNAVAILABLE"}
_ports = itertools.count(8400)


@pytest.fixture
def port() -> int:
    """A target is discovered once, so each test has its own."""
    return next(_ports)


def only_in_headers(code: int) -> Answer:
    return Answer([(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", str(code))], b"")


def test_a_call_goes_by_its_service_and_method(pod: Pod, port: int) -> None:
    other = port + 500
    routes = [
        targets.grpc_route(targets.endpoint(CLIENT, port), service="shop.Books"),
        targets.grpc_route(targets.endpoint(CLIENT, other), service="shop.Books", method="Delete"),
    ]
    pod.set_target(f"{POD}:{port}", targets.grpc(*routes))
    with (
        http2_app(port, lambda _: grpc_answer(0), ip=CLIENT) as whole,
        http2_app(other, lambda _: grpc_answer(0), ip=CLIENT) as one,
        http2(connect_as_app(port)) as client,
    ):
        for path in ("/shop.Books/List", "/shop.Books/Delete", "/shop.Books/DeleteAll"):
            assert client.grpc(path).first("grpc-status") == "0"
    assert [dict(seen)[":path"] for seen in whole.seen] == ["/shop.Books/List", "/shop.Books/DeleteAll"]
    assert [dict(seen)[":path"] for seen in one.seen] == ["/shop.Books/Delete"]


def test_a_call_to_another_service_is_not_found(pod: Pod, port: int) -> None:
    pod.set_target(
        f"{POD}:{port}", targets.grpc(targets.grpc_route(targets.endpoint(CLIENT, port), service="shop.Books"))
    )
    with connect_as_app(port) as stream:
        assert_not_fatal(ask_grpc(stream), ask_grpc, 404, 5, "no route found for request")


def test_what_is_no_post_is_no_call(pod: Pod, port: int) -> None:
    pod.set_target(f"{POD}:{port}", targets.grpc(targets.grpc_route(targets.endpoint(CLIENT, port))))
    with connect_as_app(port) as stream:
        assert_not_fatal(ask_http2(stream), ask_http2, 404, 5, "no route found for request")


def test_a_filter_fails_calls_with_its_code(pod: Pod, port: int) -> None:
    injector = grpc_route_pb2.GrpcFailureInjector(code=10, message="not today")
    filters = [out.GrpcRoute.Filter(failure_injector=injector)]
    pod.set_target(f"{POD}:{port}", targets.grpc(targets.grpc_route(targets.endpoint(CLIENT, port), filters=filters)))
    with connect_as_app(port) as stream:
        assert_not_fatal(ask_grpc(stream), ask_grpc, 200, 10, "not today")


def test_a_filter_changes_a_calls_headers(pod: Pod, port: int) -> None:
    headers = http_types_pb2.Headers(headers=[http_types_pb2.Headers.Header(name="x-asked", value=b"set")])
    filters = [out.GrpcRoute.Filter(request_header_modifier=http_route_pb2.RequestHeaderModifier(set=headers))]
    pod.set_target(f"{POD}:{port}", targets.grpc(targets.grpc_route(targets.endpoint(CLIENT, port), filters=filters)))
    with http2_app(port, lambda _: grpc_answer(0), ip=CLIENT) as app, connect_as_app(port) as stream:
        assert ask_grpc(stream).first("grpc-status") == "0"
    assert dict(app.seen[0])["x-asked"] == "set"


@pytest.mark.parametrize("is_listed", [True, False], ids=["listed", "another code"])
@pytest.mark.parametrize("answer", [only_in_headers, grpc_answer], ids=["in headers", "in trailers"])
def test_calls_are_tried_again_for_the_codes_that_the_rule_lists(
    pod: Pod, port: int, answer: Callable[[int], Answer], is_listed: bool
) -> None:
    answers = iter([answer(UNAVAILABLE if is_listed else 13), answer(0)])
    pod.set_target(
        f"{POD}:{port}", targets.grpc(targets.grpc_route(targets.endpoint(CLIENT, port), retry=_retry(limit=2)))
    )
    with http2_app(port, lambda _: next(answers), ip=CLIENT) as app, connect_as_app(port) as stream:
        assert ask_grpc(stream).first("grpc-status") == ("0" if is_listed else "13")
    assert app.bodies == [b"\0\0\0\0\0"] * (2 if is_listed else 1)


def test_retries_are_counted_by_what_they_brought(pod: Pod, port: int) -> None:
    route = targets.grpc_route(targets.endpoint(CLIENT, port), retry=_retry(limit=1))
    route.metadata.default = "retried"
    pod.set_target(f"{POD}:{port}", targets.grpc(route))
    codes = iter([UNAVAILABLE, 0, UNAVAILABLE, UNAVAILABLE])
    with (
        http2_app(port, lambda _: only_in_headers(next(codes)), ip=CLIENT),
        http2(connect_as_app(port)) as client,
    ):
        assert [client.grpc().first("grpc-status") for _ in range(2)] == ["0", "14"]
    count = partial(pod.value, route_name="retried")
    eventually(lambda: count("outbound_grpc_route_retry_requests_total") == 2)
    eventually(lambda: count("outbound_grpc_route_retry_successes_total") == 1)
    eventually(lambda: count("outbound_grpc_route_retry_limit_exceeded_total") == 1)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (grpc_answer(0), "OK"),
        (grpc_answer(14), "UNAVAILABLE"),
        (Answer([(":status", "200"), ("content-type", "application/grpc")], b"\0\0\0\0\0"), "UNKNOWN"),
    ],
    ids=["ok", "unavailable", "none"],
)
def test_calls_are_counted_by_the_name_of_their_status(pod: Pod, port: int, answer: Answer, name: str) -> None:
    route = targets.grpc_route(targets.endpoint(CLIENT, port))
    route.metadata.default = f"named-{name}"
    pod.set_target(f"{POD}:{port}", targets.grpc(route))
    with http2_app(port, lambda _: answer, ip=CLIENT), http2(connect_as_app(port)) as client:
        assert client.grpc().status == 200
    count = partial(pod.value, route_name=f"named-{name}", grpc_status=name)
    eventually(lambda: count("outbound_grpc_route_request_statuses_total") == 1)
    eventually(lambda: count("outbound_grpc_route_backend_response_statuses_total", backend_name="backend") == 1)


def _retry(*, limit: int) -> out.GrpcRoute.Retry:
    return out.GrpcRoute.Retry(
        conditions=out.GrpcRoute.Retry.Conditions(unavailable=True),
        max_retries=limit,
        max_request_bytes=1024,
        backoff=out.ExponentialBackoff(min_backoff=Duration(nanos=1_000_000), max_backoff=Duration(nanos=1_000_000)),
    )
