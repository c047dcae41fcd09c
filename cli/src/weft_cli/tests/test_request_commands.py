"""`weft tap` and `weft why` against a real gRPC server: what is asked, what is printed, which exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from weft_proto.linkerd import http_types_pb2, meta_pb2, net_pb2, tap_pb2
from weft_proto.weft import decision_pb2
from weft_proto.weft import metrics_pb2 as pb

from weft_cli.tests.metrics_server import Answers, Run, running

ID = tap_pb2.TapEvent.Http.StreamId(base=3, stream=7)
SOURCE = net_pb2.TcpAddress(ip=net_pb2.IPAddress(ipv4=0x0A010209), port=51822)
TARGET = net_pb2.TcpAddress(ip=net_pb2.IPAddress(ipv4=0x0A010407), port=8080)


def microseconds(count: int) -> Duration:
    return Duration(nanos=count * 1000)


def event(http: tap_pb2.TapEvent.Http) -> pb.TapEvent:
    found = tap_pb2.TapEvent(
        source=SOURCE,
        destination=TARGET,
        source_meta=tap_pb2.TapEvent.EndpointMeta(labels={"tls": "true", "client_id": "cart.shop"}),
        proxy_direction=tap_pb2.TapEvent.INBOUND,
        route_meta=tap_pb2.TapEvent.RouteMeta(labels={"route_name": "default"}),
        http=http,
    )
    cart = pb.Resource(namespace="shop", kind="pod", name="cart-0")
    workload = pb.Resource(namespace="shop", kind="deployment", name="cart")
    return pb.TapEvent(event=found, source=pb.End(pod=cart, workload=workload))


def a_request(path: str = "/quote") -> pb.TapEvent:
    headers = [
        http_types_pb2.Headers.Header(name="accept", value=b"*/*"),
        http_types_pb2.Headers.Header(name="odd", value=b"\xff"),
    ]
    init = tap_pb2.TapEvent.Http.RequestInit(
        id=ID,
        method=http_types_pb2.HttpMethod(registered=http_types_pb2.HttpMethod.GET),
        scheme=http_types_pb2.Scheme(registered=http_types_pb2.Scheme.HTTP),
        authority="price.shop:8080",
        path=path,
        headers=http_types_pb2.Headers(headers=headers),
    )
    return event(tap_pb2.TapEvent.Http(request_init=init))


def a_response() -> pb.TapEvent:
    answer = tap_pb2.TapEvent.Http.ResponseInit(id=ID, since_request_init=microseconds(1830), http_status=200)
    return event(tap_pb2.TapEvent.Http(response_init=answer))


def an_end() -> pb.TapEvent:
    end = tap_pb2.TapEvent.Http.ResponseEnd(
        id=ID,
        since_request_init=microseconds(1924),
        since_response_init=microseconds(94),
        response_bytes=512,
        eos=tap_pb2.Eos(grpc_status_code=0),
    )
    return event(tap_pb2.TapEvent.Http(response_end=end))


def a_failure() -> pb.PodDecision:
    service = meta_pb2.Resource(group="core", kind="Service", namespace="shop", name="price", port=8080)
    canary = meta_pb2.Resource(group="core", kind="Service", namespace="shop", name="price-next", port=8080)
    decision = decision_pb2.Decision(
        id="3:7",
        direction=decision_pb2.Decision.OUTBOUND,
        started_at=Timestamp(seconds=1_700_000_000),
        is_failure=True,
        client=SOURCE,
        target=TARGET,
        client_tls={"tls": "no_identity", "no_tls_reason": "loopback"},
        protocol="http/1",
        detected_in=microseconds(40),
        method="GET",
        authority="price.shop:8080",
        path="/quote",
        parent=meta_pb2.Metadata(resource=service),
        route=meta_pb2.Metadata(default="http"),
        tries=[
            decision_pb2.Try(
                endpoint=TARGET,
                endpoint_age=Duration(seconds=200),
                labels={"pod": "price-0"},
                chosen_after=microseconds(120),
                failure="connect timed out",
            ),
            decision_pb2.Try(
                backend=meta_pb2.Metadata(resource=canary),
                endpoint=TARGET,
                endpoint_age=Duration(seconds=9),
                why="retry",
            ),
        ],
        http_status=504,
        total=Duration(seconds=3),
        closed_by=decision_pb2.Decision.PROXY,
        reason="no endpoint is ready",
    )
    return pb.PodDecision(pod=pb.Resource(namespace="shop", kind="pod", name="cart-0"), decision=decision)


@pytest.fixture
def answers() -> Answers:
    found = Answers()
    found.events = [a_request(), a_response(), an_end()]
    found.decisions = pb.DecisionsResponse(decisions=[a_failure()])
    return found


@pytest.fixture
def weft(answers: Answers, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    with running(answers, capsys) as run:
        yield run


def test_tap_prints_one_line_per_event_as_linkerd_does(weft: Run, answers: Answers) -> None:
    code, out, _ = weft("tap", "deploy/price", "-n", "shop", "--to", "svc/cart", "--path", "/q", "--max-rps", "5")
    ends = "src=10.1.2.9:51822 dst=10.1.4.7:8080 tls=true"
    assert (code, out.splitlines()) == (
        0,
        [
            f"req id=3:7 proxy=in  {ends} :method=GET :authority=price.shop:8080 :path=/quote",
            f"rsp id=3:7 proxy=in  {ends} :status=200 latency=1830µs",
            f"end id=3:7 proxy=in  {ends} grpc-status=OK duration=94µs response-length=512B",
        ],
    )
    (asked,) = answers.asked
    assert asked == pb.TapRequest(
        target=pb.Resource(kind="deployment", namespace="shop", name="price"),
        to=pb.Resource(kind="service", namespace="shop", name="cart"),
        max_rps=5,
        path="/q",
    )


def test_tap_wide_adds_who_is_at_both_ends(weft: Run) -> None:
    _, out, _ = weft("tap", "deploy/price", "-o", "wide", "--limit", "1")
    (line,) = out.splitlines()
    assert line.endswith(
        " rt_route_name=default src_client_id=cart.shop src_deployment=cart src_namespace=shop src_pod=cart-0"
        " src_tls=true"
    )


def test_tap_json_has_headers_and_linkerds_keys(weft: Run, answers: Answers) -> None:
    _, out, _ = weft("tap", "deploy/price", "-o", "json")
    first, second, last = map(json.loads, out.splitlines())
    assert answers.asked[0].extract_headers
    assert first["requestInitEvent"]["headers"] == [
        {"name": "accept", "valueStr": "*/*"},
        {"name": "odd", "valueBin": "/w=="},
    ]
    assert first["source"] == {
        "ip": "10.1.2.9",
        "port": 51822,
        "metadata": {
            "namespace": "shop", "pod": "cart-0", "deployment": "cart", "tls": "true", "client_id": "cart.shop",
        },
    }  # fmt: skip
    assert second["responseInitEvent"]["httpStatus"] == 200
    assert (last["responseEndEvent"]["grpcStatusCode"], last["responseEndEvent"]["resetErrorCode"]) == (0, None)


def test_what_a_client_sent_cannot_draw_on_the_terminal(weft: Run, answers: Answers) -> None:
    answers.events = [a_request("/\x1b[2J\n")]
    _, out, _ = weft("tap", "deploy/price")
    assert out.splitlines()[0].endswith(r":path=/\x1b[2J\n")
    answers.decisions.decisions[0].decision.path = "/\x1b[2J"
    _, out, _ = weft("why", "deploy/cart")
    assert r"GET price.shop:8080/\x1b[2J →" in out


def test_a_workload_that_cannot_be_tapped_says_why_and_fails(weft: Run, answers: Answers) -> None:
    answers.closed = "deployment/price has no pod that can be asked; not in the mesh: price-0"
    code, _, err = weft("tap", "deploy/price")
    assert (code, err) == (1, f"error: {answers.closed}\n")


@pytest.mark.parametrize("words", [("tap", "deploy"), ("tap", "all"), ("why", "deploy"), ("tap", "po/a", "po/b")])
def test_one_resource_with_a_name_is_needed(weft: Run, words: tuple[str, ...]) -> None:
    code, _, err = weft(*words)
    assert code == 2
    assert "takes one resource" in err


def test_why_tells_the_story_of_a_failure(weft: Run, answers: Answers) -> None:
    code, out, _ = weft("why", "deploy/cart", "-n", "shop")
    assert code == 0
    assert out == (
        "× GET price.shop:8080/quote → 504 after 3.00 s   (id 3:7, proxy=out of cart-0, 2023-11-14T22:13:20Z)\n"
        "    client     10.1.2.9:51822, no TLS (loopback)\n"
        "    to         10.1.4.7:8080\n"
        "    speaks     http/1, recognised after 0.04 ms\n"
        "    policy     Service shop/price:8080\n"
        "    route      built in: http\n"
        "    tried      10.1.4.7:8080 (pod price-0), known for 3 min, after 0.12 ms: connect timed out\n"
        "               10.1.4.7:8080 of Service shop/price-next:8080, known for 9 s, after 0 ms, as a retry\n"
        "    ended by   the proxy: no endpoint is ready\n"
    )
    assert answers.asked[0].failures_only
    weft("why", "deploy/cart", "3:7")
    assert (answers.asked[1].id, answers.asked[1].failures_only) == ("3:7", False)


def test_why_tells_the_story_of_a_connection_that_was_denied(weft: Run, answers: Answers) -> None:
    server = meta_pb2.Resource(group="policy.linkerd.io", kind="Server", namespace="shop", name="redis")
    decision = decision_pb2.Decision(
        id="4:0",
        direction=decision_pb2.Decision.INBOUND,
        started_at=Timestamp(seconds=1_700_000_000),
        is_failure=True,
        client=SOURCE,
        target=TARGET,
        client_tls={"tls": "no_identity", "no_tls_reason": "port_skipped"},
        protocol="tcp",
        parent=meta_pb2.Metadata(resource=server),
        request_bytes=5,
        total=microseconds(90),
        closed_by=decision_pb2.Decision.PROXY,
        reason="client not authorized",
    )
    answers.decisions.decisions[0].decision.CopyFrom(decision)
    _, out, _ = weft("why", "deploy/cart", "-n", "shop")
    assert out == (
        "× connection to 10.1.4.7:8080 → 5 B sent, 0 B received after 0.09 ms"
        "   (id 4:0, proxy=in of cart-0, 2023-11-14T22:13:20Z)\n"
        "    client     10.1.2.9:51822, no TLS (port_skipped)\n"
        "    to         10.1.4.7:8080\n"
        "    speaks     tcp, as policy or the peer said\n"
        "    policy     Server shop/redis\n"
        "    admitted   no: nothing admits this client\n"
        "    ended by   the proxy: client not authorized\n"
    )


def test_why_json_carries_every_field_of_the_record(weft: Run) -> None:
    _, out, _ = weft("why", "deploy/cart", "-o", "json")
    (found,) = json.loads(out)
    assert found["decision"]["closed_by"] == "PROXY"
    assert found["decision"]["tries"][0]["failure"] == "connect timed out"


def test_why_without_failures_says_so_and_succeeds(weft: Run, answers: Answers) -> None:
    answers.decisions = pb.DecisionsResponse(unanswered=["cart-0: UNAVAILABLE: gone"])
    code, out, err = weft("why", "deploy/cart")
    assert (code, out) == (0, "")
    assert err == "no answer from cart-0: UNAVAILABLE: gone\nNo failed requests.\n"
