"""ServiceProfiles on the inbound side: what counts for their routes, and that no request suffers for want of one."""

from collections.abc import Iterator
from contextlib import closing
from time import monotonic

import pytest
from weft_proto.linkerd import destination_pb2, http_types_pb2, transport_pb2

from . import policies, targets
from .certificates import Authority, workload
from .clients import connect, connect_direct, get, http1, http2
from .namespace import INBOUND_PORT, POD
from .pod import Pod, eventually
from .servers import HttpApp, grpc_answer, http2_app, http_app

PORT = 8083
CART = workload("cart")
ZONE = "svc.cluster.local"
NAME = f"web.shop.{ZONE}"
CANONICAL = "l5d-dst-canonical"
WAIT_S = 0.5
IDLE_MS = 2000
MAX_NAMES = 64
MAX_PORTS = 32


def profile(name: str = NAME) -> destination_pb2.DestinationProfile:
    """Two routes: of books, where 404 is a failure and 500 is none; and of POST requests."""

    def route(label: str, condition: destination_pb2.RequestMatch) -> destination_pb2.Route:
        return destination_pb2.Route(condition=condition, metrics_labels={"route": label})

    def answers(status: int, *, fail: bool) -> destination_pb2.ResponseClass:
        range_ = destination_pb2.HttpStatusRange(min=status, max=status)
        return destination_pb2.ResponseClass(condition=destination_pb2.ResponseMatch(status=range_), is_failure=fail)

    books = route("books", destination_pb2.RequestMatch(path=destination_pb2.PathMatch(regex="/books/[^/]*")))
    books.response_classes.extend([answers(404, fail=True), answers(500, fail=False)])
    post = http_types_pb2.HttpMethod(registered=http_types_pb2.HttpMethod.POST)
    writes = route("writes", destination_pb2.RequestMatch(method=post))
    return destination_pb2.DestinationProfile(fully_qualified_name=name, routes=[books, writes])


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    settings = {
        "inbound_profile_suffixes": [f"{ZONE}."],
        "inbound_profile_wait_ms": int(WAIT_S * 1000),
        "inbound_discovery_idle_ms": IDLE_MS,
        "inbound_gateway_suffixes": ["gateway.example."],
    }
    with closing(Pod(authority, **settings)) as pod:
        pod.set_policy(INBOUND_PORT, policies.detect(authorizations=[policies.meshed(CART)]))
        yield pod


@pytest.fixture
def app(pod: Pod) -> Iterator[HttpApp]:
    def answer(seen: object) -> bytes:
        status = next((code for code in (404, 500) if f"/{code}" in str(seen)), 200)
        return f"HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n\r\n".encode()

    with http_app(PORT, answer) as app:
        yield app


def counted(pod: Pod, name: str, family: str = "route_response_total", **labels: str) -> int:
    return int(pod.value(family, direction="inbound", dst=name, **labels))


def canonical(name: str) -> str:
    return f"{CANONICAL}: {name}\r\n"


def test_requests_count_for_the_route_of_the_name_they_were_sent_to(pod: Pod, app: HttpApp) -> None:
    name = f"{NAME}:7001"
    pod.profiles[name] = profile()
    with connect(PORT) as stream:
        for path in ("/books/1", "/books/404", "/books/500", "/else"):
            http1(stream, get(path, headers=canonical(name)))
        eventually(lambda: counted(pod, name) == 3)
    assert counted(pod, name, rt_route="books", status_code="200", classification="success") == 1
    assert counted(pod, name, rt_route="books", status_code="404", classification="failure") == 1
    assert counted(pod, name, rt_route="books", status_code="500", classification="success") == 1
    assert counted(pod, name, "route_request_total", rt_route="books") == 3
    assert counted(pod, name, "route_response_latency_ms_count", rt_route="books") == 3
    assert pod.series("route_actual_request_total") == [], "tries are of the outbound side"
    assert app.last.all(CANONICAL) == [name], "the header is left in place"


def test_the_workloads_own_series_tell_failures_as_its_profile_does(pod: Pod, app: HttpApp) -> None:
    name = f"{NAME}:7002"
    pod.profiles[name] = profile()
    labels = {"direction": "inbound", "status_code": "404"}
    before = pod.value("response_total", classification="failure", **labels)
    with connect(PORT) as stream:
        http1(stream, get("/books/404", headers=canonical(name)))
    eventually(lambda: pod.value("response_total", classification="failure", **labels) == before + 1)


@pytest.mark.parametrize(
    ("host", "name"), [(NAME, f"{NAME}:80"), (f"{NAME.upper()}.:7003", f"{NAME}:7003")], ids=["port 80", "spelling"]
)
def test_without_the_canonical_name_the_host_is_the_name(pod: Pod, app: HttpApp, host: str, name: str) -> None:
    pod.profiles[name] = profile()
    with connect(PORT) as stream:
        http1(stream, get("/books/1", host=host))
    eventually(lambda: counted(pod, name, rt_route="books") == 1)


def test_http2_and_grpc_requests_count_alike(pod: Pod) -> None:
    name = f"{NAME}:7004"
    pod.profiles[name] = profile()
    with http2_app(PORT, lambda headers: grpc_answer(14)), http2(connect(PORT)) as client:
        assert client.grpc(headers=[(CANONICAL, name)]).first("grpc-status") == "14"
        assert client.request("/books/1", host=name).status == 200
    eventually(lambda: counted(pod, name) == 2)
    assert counted(pod, name, rt_route="writes", grpc_status="14", classification="failure") == 1
    assert counted(pod, name, rt_route="books") == 1


def test_an_application_that_is_away_fails_the_requests_of_the_route(pod: Pod) -> None:
    name = f"{NAME}:7005"
    pod.profiles[name] = profile()
    with connect(PORT) as stream:
        assert http1(stream, get("/books/1", headers=canonical(name))).status == 502
    assert counted(pod, name, rt_route="books", status_code="502", classification="failure") == 1


def test_a_name_is_asked_for_once_by_all_connections_and_let_go_when_idle(pod: Pod, app: HttpApp) -> None:
    name = f"{NAME}:7006"
    pod.profiles[name] = profile()
    for _ in range(3):
        with connect(PORT) as stream:
            for _ in range(2):
                http1(stream, get("/books/1", headers=canonical(name)))
    assert pod.asked.count(name) == 1
    eventually(lambda: pod.released.count(name) == 1)
    with connect(PORT) as stream:
        http1(stream, get("/books/1", headers=canonical(name)))
    eventually(lambda: counted(pod, name) == 7)
    assert pod.asked.count(name) == 2


def test_names_elsewhere_and_addresses_are_not_asked_for(pod: Pod, app: HttpApp) -> None:
    hosts = ["web.example", f"{POD}:{PORT}", f"not{ZONE}", f"x.not{ZONE}", "a" * 300 + f".{ZONE}", f"{NAME}:0"]
    before = list(pod.asked)
    with connect(PORT) as stream:
        for host in hosts:
            assert http1(stream, get("/books/1", host=host)).status == 200
    assert pod.asked == before


def test_a_changed_profile_holds_for_the_next_request_of_an_open_connection(pod: Pod, app: HttpApp) -> None:
    name = f"{NAME}:7007"
    pod.profiles[name] = None
    with connect(PORT) as stream:
        http1(stream, get("/books/1", headers=canonical(name)))
        pod.set_profile(name, profile())
        http1(stream, get("/books/1", headers=canonical(name)))
        pod.set_profile(name, destination_pb2.DestinationProfile(fully_qualified_name=NAME))
        http1(stream, get("/books/1", headers=canonical(name)))
    eventually(lambda: counted(pod, name) == 1)


def test_a_profile_that_does_not_come_is_waited_for_once(pod: Pod, app: HttpApp) -> None:
    name = f"{NAME}:7008"
    with connect(PORT) as first, connect(PORT) as second:
        began = monotonic()
        assert http1(first, get("/books/1", headers=canonical(name))).status == 200
        waited = monotonic() - began
        began = monotonic()
        assert http1(second, get("/books/1", headers=canonical(name))).status == 200
        assert (waited >= WAIT_S, monotonic() - began < WAIT_S) == (True, True)
        pod.set_profile(name, profile())
        assert http1(second, get("/books/1", headers=canonical(name))).status == 200
    eventually(lambda: counted(pod, name) == 1)


def test_a_profile_that_comes_late_wakes_the_request_that_waits(pod: Pod, app: HttpApp) -> None:
    name = f"{NAME}:7009"
    with connect(PORT) as stream:
        stream.sendall(get("/books/1", headers=canonical(name)))
        eventually(lambda: name in pod.asked)
        pod.set_profile(name, profile())
        eventually(lambda: counted(pod, name) == 1)


def test_a_name_is_let_go_while_its_idle_connection_stays(pod: Pod, app: HttpApp) -> None:
    name = f"{NAME}:7012"
    pod.profiles[name] = profile()
    with connect(PORT) as stream:
        for times in (1, 2):
            http1(stream, get("/books/1", headers=canonical(name)))
            eventually(lambda times=times: pod.released.count(name) == times)
    assert counted(pod, name) == 2


def test_ports_that_a_client_makes_up_are_counted_up_to_a_bound(pod: Pod, app: HttpApp) -> None:
    many = f"many.shop.{ZONE}"
    names = [f"{many}:{port}" for port in range(1, MAX_PORTS + 5)]
    pod.profiles.update({name: profile(name=many) for name in names})
    with connect(PORT) as stream:
        for name in names:
            assert http1(stream, get("/books/1", headers=canonical(name))).status == 200
    eventually(lambda: sum(counted(pod, name) for name in names) == MAX_PORTS)


def test_names_that_a_client_makes_up_are_bounded_and_push_out_none_in_use(pod: Pod, app: HttpApp) -> None:
    known = f"{NAME}:7010"
    made_up = [f"n{number}.shop.{ZONE}:80" for number in range(3 * MAX_NAMES)]
    pod.profiles.update({known: profile()} | dict.fromkeys(made_up))
    asked = 0
    with connect(PORT) as held:
        for number, name in enumerate(made_up):
            if number % 8 == 0:
                http1(held, get("/books/1", headers=canonical(known)))
                asked += 1
            with connect(PORT) as stream:
                assert http1(stream, get("/books/1", headers=canonical(name))).status == 200
        mine = {known, *made_up}
        assert sum(name in mine for name in pod.asked) - sum(n in mine for n in pod.released) <= MAX_NAMES
        assert known not in pod.released
    eventually(lambda: counted(pod, known) == asked)


def test_what_a_gateway_passes_on_is_not_asked_for(pod: Pod, authority: Authority) -> None:
    pod.set_target("web.gateway.example:80", targets.detect(POD, PORT))
    http = transport_pb2.SessionProtocol(http1=transport_pb2.SessionProtocol.Http1())
    header = transport_pb2.Header(port=80, name="web.gateway.example", session_protocol=http)
    name = f"{NAME}:7011"
    with http_app(PORT), connect_direct(authority, CART, header) as stream:
        assert http1(stream, get("/books/1", headers=canonical(name))).status == 200
    assert name not in pod.asked
