"""Where a client's traffic goes, from objects as the API has them."""

from __future__ import annotations

from typing import Any

import yaml
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import AddressTarget, Refusal, ServiceTarget
from weft_policy.core.objects import Name, Service, ServicePort
from weft_policy.core.outbound import (
    BuiltIn,
    ForwardBackend,
    InvalidBackend,
    ObjectId,
    OutboundPolicy,
    OutboundProtocol,
    ServiceBackend,
    outbound_policy_of,
)
from weft_policy.core.resilience import HttpRetry, Timeouts
from weft_policy.core.routes import Fail, FailReason, HeaderChange, PathKind
from weft_policy.kube.kinds import apply_object
from weft_policy.wire.encode_outbound import outbound_message

GATEWAY = "gateway.networking.k8s.io"
MESH = Mesh()
WEB = ServiceTarget(Name("shop", "web"), 80)


def service(name: str, namespace: str = "shop", ip: str = "10.0.0.1", app_protocol: str | None = None) -> Service:
    port = ServicePort(80, "http", app_protocol)
    return Service(Name(namespace, name), (ip,), (port, ServicePort(81, "other")))


def index_with(*services: Service, yaml_text: str = "") -> ClusterIndex:
    index = ClusterIndex()
    for found in services:
        index.services.apply(found.name, found)
    for raw in yaml.safe_load_all(yaml_text):
        apply(index, raw)
    return index


def apply(index: ClusterIndex, raw: dict[str, Any]) -> None:
    raw["metadata"].setdefault("namespace", "shop")
    assert apply_object(index, raw)


def route(name: str = "r", kind: str = "HTTPRoute", namespace: str = "shop", parent: str = "", **more: Any) -> str:
    """YAML of a route of web, with a rule unless one is given."""
    spec: dict[str, Any] = {
        "parentRefs": [yaml.safe_load(parent or "{group: '', kind: Service, name: web, namespace: shop}")],
        "rules": more.pop("rules", [{"backendRefs": [{"name": "web", "namespace": "shop", "port": 80}]}]),
        **more.pop("spec", {}),
    }
    group = more.pop("group", GATEWAY)
    metadata = {"name": name, "namespace": namespace, **more}
    return yaml.safe_dump({"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "spec": spec})


def policy(index: ClusterIndex, target: ServiceTarget | AddressTarget = WEB, client: str = "shop") -> OutboundPolicy:
    found = outbound_policy_of(index, MESH, target, client)
    assert isinstance(found, OutboundPolicy), found
    return found


def origins(found: OutboundPolicy) -> list[str]:
    return [each.origin.name.name if isinstance(each.origin, ObjectId) else each.origin.name for each in found.routes]


def test_weights_split_between_backends_and_zero_is_kept_as_zero() -> None:
    refs = [{"name": "v1", "port": 80, "weight": 90}, {"name": "v2", "port": 80, "weight": 0}]
    index = index_with(service("web"), service("v1"), service("v2"), yaml_text=route(rules=[{"backendRefs": refs}]))
    (found,) = policy(index).routes
    (rule,) = found.rules
    assert [(share.weight, type(share.backend)) for share in rule.shares] == [(90, ServiceBackend), (0, ServiceBackend)]
    assert rule.shares[0].backend == ServiceBackend(
        ObjectId("core", "Service", Name("shop", "v1"), 80), "v1.shop.svc.cluster.local"
    )


def test_only_zero_weights_fail_every_request() -> None:
    refs = [{"name": "web", "port": 80, "weight": 0}]
    index = index_with(service("web"), yaml_text=route(rules=[{"backendRefs": refs}]))
    (share,) = policy(index).routes[0].rules[0].shares
    assert isinstance(share.backend, InvalidBackend)
    assert share.weight == 1


def test_a_rule_without_backends_goes_to_the_parent() -> None:
    index = index_with(service("web"), yaml_text=route(rules=[{"matches": [{"path": {"value": "/a"}}]}]))
    (rule,) = policy(index).routes[0].rules
    assert rule.is_default
    assert isinstance(rule.shares[0].backend, ServiceBackend)
    assert rule.shares[0].backend.authority == "web.shop.svc.cluster.local"


def test_backends_that_do_not_resolve_keep_their_share() -> None:
    refs = [
        {"name": "gone", "port": 80},
        {"name": "web"},
        {"name": "web", "port": 80, "kind": "Elsewhere", "group": "example.com"},
        {"name": "web", "port": 80, "filters": [{"type": "RequestMirror", "requestMirror": {}}]},
    ]
    index = index_with(service("web"), yaml_text=route(rules=[{"backendRefs": refs}]))
    shares = policy(index).routes[0].rules[0].shares
    assert all(isinstance(share.backend, InvalidBackend) for share in shares)
    index.services.apply(("shop", "gone"), service("gone"))
    assert isinstance(policy(index).routes[0].rules[0].shares[0].backend, ServiceBackend)


def test_producer_routes_are_for_all_and_consumer_routes_for_their_namespace_and_first() -> None:
    index = index_with(
        service("web"),
        yaml_text=route("producer", creationTimestamp="2020-01-01T00:00:00Z")
        + "---\n"
        + route("consumer", namespace="client", creationTimestamp="2024-01-01T00:00:00Z"),
    )
    assert origins(policy(index, client="client")) == ["consumer", "producer"]
    assert origins(policy(index, client="elsewhere")) == ["producer"]


def test_a_backend_elsewhere_needs_a_grant_unless_it_is_the_parent() -> None:
    refs = [{"name": "web", "namespace": "shop", "port": 80}, {"name": "api", "namespace": "other", "port": 80}]
    text = route("consumer", namespace="client", rules=[{"backendRefs": refs}])
    index = index_with(service("web"), service("api", "other"), yaml_text=text)

    def kinds() -> list[type]:
        return [type(share.backend) for share in policy(index, client="client").routes[0].rules[0].shares]

    assert kinds() == [ServiceBackend, InvalidBackend]
    sources = [{"group": GATEWAY, "kind": "HTTPRoute", "namespace": "client"}]
    spec = {"from": sources, "to": [{"group": "", "kind": "Service", "name": "api"}]}
    metadata = {"name": "g", "namespace": "other"}
    apply(index, {"apiVersion": f"{GATEWAY}/v1beta1", "kind": "ReferenceGrant", "metadata": metadata, "spec": spec})
    assert kinds() == [ServiceBackend, ServiceBackend]


def test_the_older_route_comes_first_then_the_name() -> None:
    index = index_with(
        service("web"),
        yaml_text="---\n".join(
            [
                route("b", creationTimestamp="2024-01-01T00:00:00Z"),
                route("a", creationTimestamp="2024-01-01T00:00:00Z"),
                route("z", creationTimestamp="2023-01-01T00:00:00Z"),
                route("ageless"),
            ]
        ),
    )
    assert origins(policy(index)) == ["z", "a", "b", "ageless"]


def test_a_route_of_a_port_leaves_other_ports_alone() -> None:
    parent = "{group: core, kind: Service, name: web, port: 81}"
    index = index_with(service("web"), yaml_text=route(parent=parent))
    assert policy(index).routes[0].origin == BuiltIn("http")
    assert origins(policy(index, ServiceTarget(WEB.service, 81))) == ["r"]


def test_stronger_kinds_silence_weaker_ones_on_the_same_parent() -> None:
    text = route("web", "HTTPRoute") + "---\n" + route("rpc", "GRPCRoute") + "---\n" + route("raw", "TCPRoute")
    index = index_with(service("web"), yaml_text=text)
    found = policy(index)
    assert found.protocol is OutboundProtocol.GRPC
    assert origins(found) == ["rpc"]


def test_app_protocol_decides_before_routes() -> None:
    index = index_with(service("web", app_protocol="linkerd.io/tcp"), yaml_text=route())
    assert policy(index).protocol is OutboundProtocol.OPAQUE
    index = index_with(service("web", app_protocol="kubernetes.io/h2c"), yaml_text=route(kind="GRPCRoute"))
    assert policy(index).protocol is OutboundProtocol.GRPC
    index = index_with(service("web", app_protocol="http"), yaml_text=route())
    assert (policy(index).protocol, origins(policy(index))) == (OutboundProtocol.HTTP1, ["r"])


def test_tls_and_tcp_routes_choose_their_protocols() -> None:
    text = route(kind="TLSRoute", spec={"hostnames": ["*.Example.com"]})
    found = policy(index_with(service("web"), yaml_text=text))
    assert (found.protocol, found.routes[0].hosts) == (OutboundProtocol.TLS, ("*.example.com",))
    found = policy(index_with(service("web"), yaml_text=route(kind="TCPRoute")))
    assert found.protocol is OutboundProtocol.OPAQUE
    assert found.opaque is not None
    assert found.opaque.origin == ObjectId(GATEWAY, "TCPRoute", Name("shop", "r"))


def test_a_timeout_for_each_try_bounds_tries_and_their_responses() -> None:
    timeouts = {"request": "3s", "backendRequest": "1s"}
    rules = [
        {"timeouts": timeouts, "retry": {"codes": [503], "attempts": 2, "backoff": "40ms"}},
        {"timeouts": timeouts},
    ]
    found = policy(index_with(service("web"), yaml_text=route(rules=rules)))
    tried, once = found.routes[0].rules
    assert tried.timeouts == once.timeouts == Timeouts(request_ms=3_000, response_ms=1_000)
    assert tried.http_retry == HttpRetry(((503, 503),), 2, timeout_ms=1_000, backoff_ms=40)
    assert once.http_retry is None
    retry = outbound_message(found).protocol.detect.http1.routes[0].rules[0].retry
    assert (retry.timeout.seconds, retry.backoff.min_backoff.nanos, retry.backoff.max_backoff.nanos) == (1, 40e6, 400e6)


def test_timeouts_and_retries_of_the_route_replace_those_of_the_service_as_a_block() -> None:
    parent = service("web")
    settings = (("retry.linkerd.io/http", "5xx"), ("timeout.linkerd.io/idle", "9s"))
    parent = Service(parent.name, parent.cluster_ips, parent.ports, annotations=settings)
    rules = [{"timeouts": {"request": "1m30s"}}, {}]
    index = index_with(parent, yaml_text=route(rules=rules))
    first, second = policy(index).routes[0].rules
    assert first.timeouts == Timeouts(request_ms=90_000)
    assert second.timeouts == Timeouts(idle_ms=9_000)
    assert second.http_retry == HttpRetry(((500, 599),))
    annotations = {"timeout.linkerd.io/request": "5s", "retry.linkerd.io/limit": "3"}
    apply(index, yaml.safe_load(route(rules=rules, annotations=annotations)))
    first, second = policy(index).routes[0].rules
    assert first.timeouts == second.timeouts == Timeouts(request_ms=5_000)
    assert first.http_retry == HttpRetry((), 3)


def test_matches_and_filters_are_read() -> None:
    rule = yaml.safe_load("""
      matches:
      - path: {type: Exact, value: /x}
        headers: [{name: X-A, value: one}, {name: x-a, value: ignored}]
        queryParams: [{name: q, type: RegularExpression, value: "v.*"}]
        method: POST
      filters:
      - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-B, value: two}], remove: [X-C]}}
    """)
    (found,) = policy(index_with(service("web"), yaml_text=route(rules=[rule]))).routes[0].rules
    (match,) = found.matches
    assert (match.path.kind, match.path.value, match.method) == (PathKind.EXACT, "/x", "POST")  # type: ignore[union-attr]
    assert [(name, text.value) for name, text in match.headers] == [("x-a", "one")]
    assert found.filters == (HeaderChange(True, set=(("x-b", "two"),), remove=("x-c",)),)


def test_a_route_that_cannot_be_used_is_left_out_whole() -> None:
    for rule in (
        {"filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "web"}}}]},
        {"matches": [{"path": {"type": "RegularExpression", "value": "("}}]},
        {"matches": [{"path": {"type": "RegularExpression", "value": "(?=a)"}}]},
        {"matches": [{"path": {"value": "relative"}}]},
    ):
        found = policy(index_with(service("web"), yaml_text=route(rules=[rule])))
        assert found.routes[0].origin == BuiltIn("http"), rule


def test_linkerds_own_route_works_alike() -> None:
    index = index_with(service("web"), yaml_text=route(group="policy.linkerd.io"))
    assert policy(index).routes[0].origin == ObjectId("policy.linkerd.io", "HTTPRoute", Name("shop", "r"))


OUTSIDE = AddressTarget("93.184.216.34", 443)


def egress(name: str, namespace: str = "shop", allows: bool = True, **spec: Any) -> str:
    traffic = "Allow" if allows else "Deny"
    raw = {"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "EgressNetwork"}
    return yaml.safe_dump(
        {**raw, "metadata": {"name": name, "namespace": namespace}, "spec": {"trafficPolicy": traffic, **spec}}
    )


def test_the_narrowest_network_of_the_clients_namespace_governs() -> None:
    text = "---\n".join(
        [
            egress("all"),
            egress("narrow", networks=[{"cidr": "93.184.0.0/16", "except": ["93.184.217.0/24"]}]),
            egress("global", "linkerd-egress", allows=False),
        ]
    )
    index = index_with(yaml_text=text)
    assert policy(index, OUTSIDE).origin == ObjectId("policy.linkerd.io", "EgressNetwork", Name("shop", "narrow"), 443)
    hole = policy(index, AddressTarget("93.184.217.1", 443))
    assert isinstance(hole.origin, ObjectId)
    assert hole.origin.name.name == "all"
    denied = policy(index, OUTSIDE, client="other")
    (last,) = denied.routes
    assert last.origin == BuiltIn("http-egress-deny")
    assert last.rules[0].filters == (Fail(FailReason.DENIED, "traffic not allowed"),)
    assert isinstance(outbound_policy_of(index, MESH, AddressTarget("10.1.2.3", 80), "shop"), Refusal)


def test_routes_of_a_network_come_before_its_catch_all() -> None:
    parent = "{group: policy.linkerd.io, kind: EgressNetwork, name: all, port: 443}"
    backend = {"group": "policy.linkerd.io", "kind": "EgressNetwork", "name": "all"}
    text = route("tls", "TLSRoute", parent=parent, rules=[{"backendRefs": [backend]}])
    index = index_with(yaml_text=egress("all", allows=False) + "---\n" + text)
    found = policy(index, OUTSIDE)
    assert origins(found) == ["tls", "tls-egress-deny"]
    (share,) = found.routes[0].rules[0].shares
    assert isinstance(share.backend, ForwardBackend)
    assert (share.backend.ip, share.backend.port) == ("93.184.216.34", 443)
    assert origins(policy(index, AddressTarget(OUTSIDE.ip, 80))) == ["http-egress-deny"]


def test_changes_are_reported_to_the_parents_they_may_move() -> None:
    index = index_with(service("web"), service("v2", ip="10.0.0.2"))
    index.take_changes()
    apply(index, yaml.safe_load(route(rules=[{"backendRefs": [{"name": "v2", "port": 80}]}])))
    keys = {topic.key for topic in index.take_changes()}
    assert keys >= {("shop", "web"), ("10.0.0.1", "")}
    index.services.delete(("shop", "v2"))
    assert ("10.0.0.1", "") in {topic.key for topic in index.take_changes()}
