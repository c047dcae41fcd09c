"""An ingress' proxy: requests go to the name in `l5d-dst-override`, else where they were going (wire.md 5.5, 6.2).

The connection is always the same; only the header decides between the two applications.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest

from . import targets
from .certificates import Authority
from .clients import connect_as_app, get, http1, http2
from .failures import PROTOCOLS, Ask, assert_fatal
from .namespace import CLIENT, POD
from .pod import Pod, eventually
from .servers import HttpApp, Seen, grpc_answer, http2_app, http_app, listening, ok

PORT = 8093
"""Where every connection goes."""
NAMED_PORT, EIGHTY = 8094, 8095
NAME = "cart.shop.svc.cluster.local"
OVERRIDE = "l5d-dst-override"


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    # As the Python side sets them: in ingress mode there are no informational headers.
    with closing(
        Pod(authority, ingress_mode=True, informational_headers=False, outbound_detect_timeout_ms=1000)
    ) as pod:
        pod.set_target(f"{POD}:{PORT}", targets.detect(CLIENT, PORT))
        pod.set_target(f"{NAME}:7000", targets.detect(CLIENT, NAMED_PORT))
        pod.set_target(f"{NAME}:80", targets.detect(CLIENT, EIGHTY))
        pod.set_target(f"{NAME}:7001", targets.opaque(CLIENT, NAMED_PORT))
        yield pod


def named(name: str) -> str:
    return f"{OVERRIDE}: {name}\r\n"


@pytest.fixture
def original() -> Iterator[HttpApp]:
    with http_app(PORT, lambda seen: ok(b"original"), ip=CLIENT) as app:
        yield app


@pytest.fixture
def cart() -> Iterator[HttpApp]:
    with http_app(NAMED_PORT, lambda seen: ok(b"cart"), ip=CLIENT) as app:
        yield app


def test_each_http1_request_of_a_connection_goes_where_its_own_header_says(
    pod: Pod, original: HttpApp, cart: HttpApp
) -> None:
    with connect_as_app(PORT) as stream:
        bodies = [
            http1(stream, get(headers=header)).body for header in (named(f"{NAME}:7000"), "", named(f"{NAME}:7000"))
        ]
    assert bodies == [b"cart", b"original", b"cart"]


def test_the_header_is_gone_and_the_rest_of_the_request_as_it_was(pod: Pod, cart: HttpApp) -> None:
    with connect_as_app(PORT) as stream:
        assert (
            http1(stream, get("/page?a=b", host="cart.example", headers=named(f"{NAME}:7000") + "x-mine: 1\r\n")).status
            == 200
        )
    seen: Seen = cart.last
    assert seen.line == "GET /page?a=b HTTP/1.1"
    assert (seen.all("host"), seen.all("x-mine"), seen.all(OVERRIDE)) == (["cart.example"], ["1"], [])


def test_a_name_in_other_letters_and_with_a_dot_is_the_same_name(pod: Pod, cart: HttpApp) -> None:
    with connect_as_app(PORT) as stream:
        assert http1(stream, get(headers=named(f"{NAME.upper()}.:7000"))).body == b"cart"


def test_a_name_without_a_port_is_one_of_port_80(pod: Pod) -> None:
    with http_app(EIGHTY, ip=CLIENT) as app, connect_as_app(PORT) as stream:
        assert http1(stream, get(headers=named(NAME))).status == 200
    assert len(app.seen) == 1


def test_http2_and_grpc_requests_of_one_connection_go_where_each_says(pod: Pod) -> None:
    with (
        http2_app(PORT, lambda headers: grpc_answer(3), ip=CLIENT) as original,
        http2_app(NAMED_PORT, lambda headers: grpc_answer(9), ip=CLIENT) as cart,
        http2(connect_as_app(PORT)) as client,
    ):
        override = [(OVERRIDE, f"{NAME}:7000")]
        codes = [client.grpc(headers=headers).first("grpc-status") for headers in (override, [], override)]
        assert codes == ["9", "3", "9"]
        assert client.request("/page", headers=override).status == 200
    assert (len(original.seen), len(cart.seen)) == (1, 3)
    assert all(OVERRIDE not in dict(headers) for headers in cart.seen)
    assert dict(cart.seen[0])[":authority"] == "web.shop"


@PROTOCOLS
@pytest.mark.parametrize("value", ["10.0.0.1:80", f"{NAME}:99999", "a b"])
def test_a_header_that_names_nothing_is_a_bad_request(pod: Pod, original: HttpApp, ask: Ask, value: str) -> None:
    with connect_as_app(PORT) as stream:
        assert_fatal(ask(stream, [(OVERRIDE, value)]), ask, 400, 3, "l5d-dst-override is not name:port", shows=False)
    assert original.seen == []


@PROTOCOLS
def test_a_name_that_the_control_plane_does_not_know_is_not_guessed(pod: Pod, original: HttpApp, ask: Ask) -> None:
    with connect_as_app(PORT) as stream:
        reply = ask(stream, [(OVERRIDE, "nobody.shop.svc.cluster.local:80")])
    assert_fatal(reply, ask, 502, 14, "backend cannot be used: the control plane does not know the name", shows=False)
    assert original.seen == []


def test_a_name_is_served_as_soon_as_the_control_plane_knows_it(pod: Pod, cart: HttpApp) -> None:
    late = "late.shop.svc.cluster.local:7000"
    with connect_as_app(PORT) as stream:
        assert http1(stream, get(headers=named(late))).status == 502
    pod.change_name(late, targets.detect(CLIENT, NAMED_PORT))
    with connect_as_app(PORT) as stream:
        assert http1(stream, get(headers=named(late))).body == b"cart"
    assert pod.asked.count(late) == 1


def test_a_named_target_that_takes_no_http_is_an_error(pod: Pod) -> None:
    with connect_as_app(PORT) as stream:
        assert http1(stream, get(headers=named(f"{NAME}:7001"))).status == 500


def test_bytes_go_where_they_were_going_whatever_they_say(pod: Pod) -> None:
    with (
        listening(PORT, lambda connection: connection.sendall(connection.recv(64)[::-1]), ip=CLIENT),
        connect_as_app(PORT) as stream,
    ):
        stream.sendall(f"\x01\x02\x03{named(f'{NAME}:7000')}".encode())
        assert stream.recv(64).endswith(b"\x03\x02\x01")


def test_a_client_that_waits_for_the_server_gets_there_after_the_detect_timeout(pod: Pod) -> None:
    with (
        listening(PORT, lambda connection: connection.sendall(b"220 ready\r\n"), ip=CLIENT),
        connect_as_app(PORT) as stream,
    ):
        assert stream.recv(64) == b"220 ready\r\n"


def test_requests_count_for_the_name_they_went_to(pod: Pod, cart: HttpApp, original: HttpApp) -> None:
    asked = pod.value("outbound_http_route_request_statuses_total", parent_name="target")
    with connect_as_app(PORT) as stream:
        http1(stream, get(headers=named(f"{NAME}:7000")))
    eventually(lambda: pod.value("outbound_http_route_request_statuses_total", parent_name="target") > asked)
    assert pod.value("outbound_tcp_detect_http_results_total", parent_name="ingress") > 0
