"""Who may call, by HTTP/1, HTTP/2 and gRPC, and what the refused hear (wire.md 3, 5.7; observability.md 1.8)."""

import socket
from collections.abc import Callable, Iterator

import pytest
from weft_proto.linkerd import http_route_pb2, http_types_pb2, inbound_pb2

from . import policies
from .certificates import Authority, workload
from .clients import Http2, Reply, connect, connect_meshed, get, http1
from .namespace import CLIENT, CLIENT6, POD6
from .pod import Pod, eventually
from .servers import HttpApp, http_app

PORT = 8080
CART = workload("cart")

Ask = Callable[..., Reply]


def ask_http1(stream: socket.socket, path: str = "/", host: str = "web.shop") -> Reply:
    with stream:
        return http1(stream, get(path, host=host))


def ask_http2(stream: socket.socket, path: str = "/", host: str = "web.shop") -> Reply:
    with stream:
        # Carried as a peer carries HTTP/1: the application of these tests speaks nothing else.
        return Http2(stream).request(path, host=host, headers=[("l5d-orig-proto", "HTTP/1.1")])


def ask_grpc(stream: socket.socket, path: str = "/", host: str = "web.shop") -> Reply:
    with stream:
        return Http2(stream).grpc(path)


HTTP = pytest.mark.parametrize("ask", [ask_http1, ask_http2], ids=["http1", "http2"])


@pytest.fixture(scope="module")
def app(pod: Pod) -> Iterator[HttpApp]:
    with http_app(PORT) as app, http_app(PORT, ip=POD6):
        yield app


@HTTP
def test_a_stranger_is_denied_where_an_identity_is_asked_for(pod: Pod, app: HttpApp, ask: Ask) -> None:
    pod.set_policy(PORT, policies.detect(authorizations=[policies.meshed(CART)]))
    before = pod.value("inbound_http_authz_deny_total", srv_name="web", tls="no_identity")
    reply = ask(connect(PORT))
    assert (reply.status, reply.body) == (403, b"")
    assert reply.first("content-length") == "0"
    assert not reply.first("l5d-proxy-error"), "a stranger learns nothing of the mesh"
    assert not reply.first("connection"), "a refusal leaves the connection open"
    assert pod.value("inbound_http_authz_deny_total", srv_name="web", tls="no_identity") == before + 1
    eventually(lambda: bool(pod.logged("request denied")))


@HTTP
def test_a_meshed_client_without_the_right_identity_is_denied_and_told_why(
    pod: Pod, app: HttpApp, authority: Authority, ask: Ask
) -> None:
    pod.set_policy(PORT, policies.detect(authorizations=[policies.meshed(CART)]))
    reply = ask(connect_meshed(authority, workload("other"), PORT))
    assert reply.status == 403
    assert reply.first("l5d-proxy-error") == "client not authorized"


def test_a_denied_grpc_call_ends_with_permission_denied(pod: Pod, app: HttpApp, authority: Authority) -> None:
    pod.set_policy(PORT, policies.detect(authorizations=[policies.meshed(CART)]))
    reply = ask_grpc(connect_meshed(authority, workload("other"), PORT))
    assert (reply.status, reply.first("grpc-status")) == (200, "7")
    assert reply.first("content-type") == "application/grpc"
    assert reply.first("grpc-message") == "client not authorized"


@HTTP
def test_an_admitted_client_is_named_to_the_application(pod: Pod, app: HttpApp, authority: Authority, ask: Ask) -> None:
    pod.set_policy(PORT, policies.detect(authorizations=[policies.meshed(CART)]))
    before = pod.value("inbound_http_authz_allow_total", authz_name="meshed-only", client_id=CART)
    assert ask(connect_meshed(authority, CART, PORT)).status == 200
    assert app.last.all("l5d-client-id") == [CART]
    assert pod.value("inbound_http_authz_allow_total", authz_name="meshed-only", client_id=CART) == before + 1


def test_a_stranger_cannot_name_itself(pod: Pod, app: HttpApp) -> None:
    pod.set_policy(PORT, policies.detect())
    with connect(PORT) as stream:
        assert http1(stream, get(headers=f"l5d-client-id: {CART}\r\n")).status == 200
    assert app.last.all("l5d-client-id") == []


def test_the_canonical_destination_that_a_peer_names_reaches_the_application(
    pod: Pod, app: HttpApp, authority: Authority
) -> None:
    pod.set_policy(PORT, policies.detect())
    with connect_meshed(authority, CART, PORT) as stream:
        named = "l5d-dst-canonical: web.shop.svc.cluster.local:80"
        assert http1(stream, get(headers=f"{named}\r\n")).status == 200
    assert app.last.all("l5d-dst-canonical") == ["web.shop.svc.cluster.local:80"]


@HTTP
def test_a_suffix_admits_the_identities_below_it(pod: Pod, app: HttpApp, authority: Authority, ask: Ask) -> None:
    suffix = "shop.serviceaccount.identity.linkerd.cluster.local"
    pod.set_policy(PORT, policies.detect(authorizations=[policies.meshed(suffixes=[suffix])]))
    assert ask(connect_meshed(authority, workload("anyone"), PORT)).status == 200
    pod.set_policy(PORT, policies.detect(authorizations=[policies.meshed(suffixes=["other.cluster"])]))
    assert ask(connect_meshed(authority, workload("anyone"), PORT)).status == 403


@HTTP
def test_any_identity_is_not_the_same_as_none(pod: Pod, app: HttpApp, authority: Authority, ask: Ask) -> None:
    pod.set_policy(PORT, policies.detect(authorizations=[policies.meshed(suffixes=[""])]))
    assert ask(connect_meshed(authority, CART, PORT)).status == 200
    assert ask(connect_meshed(authority, "", PORT)).status == 403
    pod.set_policy(PORT, policies.detect(authorizations=[policies.meshed()]))
    assert ask(connect_meshed(authority, "", PORT)).status == 200


@HTTP
def test_networks_admit_by_address_and_spare_their_exceptions(pod: Pod, app: HttpApp, ask: Ask) -> None:
    pod.set_policy(PORT, policies.detect(authorizations=[policies.anyone(["10.99.0.0/24"])]))
    assert ask(connect(PORT)).status == 200
    pod.set_policy(PORT, policies.detect(authorizations=[policies.anyone(["10.99.0.0/24"], but=[f"{CLIENT}/32"])]))
    assert ask(connect(PORT)).status == 403


@HTTP
def test_ipv6_clients_are_matched_by_ipv6_networks(pod: Pod, app: HttpApp, ask: Ask) -> None:
    pod.set_policy(PORT, policies.detect(authorizations=[policies.anyone([f"{CLIENT6}/128"])]))
    assert ask(connect(PORT, ip=POD6)).status == 200
    assert ask(connect(PORT)).status == 403


@HTTP
def test_a_request_that_no_route_takes_is_not_found(pod: Pod, app: HttpApp, authority: Authority, ask: Ask) -> None:
    pod.set_policy(PORT, policies.detect(policies.route(policies.path("/here"), name="here")))
    before = pod.value("inbound_http_route_not_found_total", srv_name="web")
    reply = ask(connect_meshed(authority, CART, PORT), "/elsewhere")
    assert (reply.status, reply.first("l5d-proxy-error")) == (404, "no route found for request")
    assert ask(connect(PORT), "/here/too").status == 200
    assert pod.value("inbound_http_route_not_found_total", srv_name="web") == before + 1


def test_a_grpc_call_that_no_route_takes_is_not_found(pod: Pod, app: HttpApp) -> None:
    pod.set_policy(PORT, policies.grpc("a.Known"))
    reply = ask_grpc(connect(PORT), "/an.Unknown/Call")
    assert (reply.status, reply.first("grpc-status")) == (200, "5")


@HTTP
def test_a_route_admits_whom_its_server_does_not(pod: Pod, app: HttpApp, ask: Ask) -> None:
    public = policies.route(policies.path("/public"), name="public", authorizations=[policies.anyone()])
    pod.set_policy(PORT, policies.detect(public, policies.route(), authorizations=[policies.meshed(CART)]))
    assert ask(connect(PORT), "/public").status == 200
    assert ask(connect(PORT), "/private").status == 403
    assert pod.value("inbound_http_authz_allow_total", route_name="public", authz_name="anyone") > 0


def test_probes_pass_where_everybody_else_is_denied(pod: Pod, app: HttpApp) -> None:
    probe = policies.route(
        policies.path("/healthy", method="GET"), name="default", authorizations=[policies.anyone(["10.99.0.2/32"])]
    )
    pod.set_policy(PORT, policies.detect(probe, policies.route(), authorizations=[]))
    assert ask_http1(connect(PORT), "/healthy").status == 200
    assert ask_http1(connect(PORT), "/").status == 403


@HTTP
def test_deny_admits_nobody(pod: Pod, app: HttpApp, authority: Authority, ask: Ask) -> None:
    pod.set_policy(PORT, policies.default("deny"))
    assert ask(connect_meshed(authority, CART, PORT)).status == 403


@HTTP
def test_audit_admits_everybody_and_logs_it(pod: Pod, app: HttpApp, ask: Ask) -> None:
    pod.set_policy(PORT, policies.default("audit", policies.anyone(meta=policies.built_in("audit"))))
    pod.logs.clear()
    assert ask(connect(PORT)).status == 200
    eventually(lambda: bool(pod.logged("request allowed by the audit policy")))
    assert pod.value("inbound_http_authz_allow_total", authz_kind="default", authz_name="audit") > 0


def test_a_policy_that_makes_no_sense_admits_nobody(pod: Pod, app: HttpApp) -> None:
    pod.set_policy(PORT, inbound_pb2.Server(labels={"name": "broken"}))
    assert ask_http1(connect(PORT)).status == 403


def test_a_changed_policy_holds_from_the_next_request_on_an_open_connection(pod: Pod, app: HttpApp) -> None:
    pod.set_policy(PORT, policies.detect())
    with connect(PORT) as stream:
        assert http1(stream, get()).status == 200
        pod.set_policy(PORT, policies.detect(authorizations=[]))
        assert http1(stream, get()).status == 403
        pod.set_policy(PORT, policies.detect())
        assert http1(stream, get()).status == 200


def header_filter() -> policies.HttpRoute.Filter:
    def headers(**pairs: str) -> http_types_pb2.Headers:
        return http_types_pb2.Headers(
            headers=[
                http_types_pb2.Headers.Header(name=k.replace("_", "-"), value=v.encode()) for k, v in pairs.items()
            ]
        )

    modifier = http_route_pb2.RequestHeaderModifier(
        add=headers(x_added="1"), set=headers(x_set="2", l5d_client_id="forged"), remove=["x-removed"]
    )
    return policies.HttpRoute.Filter(request_header_modifier=modifier)


@HTTP
def test_a_filter_changes_request_headers_but_not_the_client_id(
    pod: Pod, app: HttpApp, authority: Authority, ask: Ask
) -> None:
    pod.set_policy(PORT, policies.detect(policies.route(filters=[header_filter()])))
    assert ask(connect_meshed(authority, CART, PORT)).status == 200
    assert (app.last.all("x-added"), app.last.all("x-set")) == (["1"], ["2"])
    assert app.last.all("l5d-client-id") == [CART]


@HTTP
def test_a_filter_sends_the_client_elsewhere(pod: Pod, app: HttpApp, ask: Ask) -> None:
    moved = http_route_pb2.RequestRedirect(host="new.shop", path=http_route_pb2.PathModifier(prefix="/new"), status=308)
    pod.set_policy(
        PORT,
        policies.detect(policies.route(policies.path("/old"), filters=[policies.HttpRoute.Filter(redirect=moved)])),
    )
    reply = ask(connect(PORT), "/old/page?a=b")
    assert (reply.status, reply.first("location")) == (308, "http://new.shop/new/page?a=b")


@HTTP
def test_a_filter_fails_requests_with_its_own_status(pod: Pod, app: HttpApp, ask: Ask) -> None:
    fail = http_route_pb2.HttpFailureInjector(
        status=418, message="teapot", ratio=http_route_pb2.Ratio(numerator=1, denominator=1)
    )
    pod.set_policy(PORT, policies.detect(policies.route(filters=[policies.HttpRoute.Filter(failure_injector=fail)])))
    assert ask(connect(PORT)).status == 418


@HTTP
def test_permitted_requests_are_counted_by_server_and_route(pod: Pod, app: HttpApp, ask: Ask) -> None:
    pod.set_policy(PORT, policies.detect(policies.route(name="counted")))
    labels = {"parent_name": "web", "parent_port": str(PORT), "parent_kind": "server", "route_name": "counted"}
    before = pod.value("inbound_http_requests_total", **labels)
    assert ask(connect(PORT)).status == 200
    assert pod.value("inbound_http_requests_total", **labels) == before + 1
    eventually(lambda: pod.value("inbound_http_statuses_total", status="200", **labels) == before + 1)
    eventually(lambda: pod.value("inbound_http_request_duration_seconds_count", **labels) == before + 1)
    assert pod.value("inbound_http_response_frame_size_bytes_count", **labels) == before + 1
