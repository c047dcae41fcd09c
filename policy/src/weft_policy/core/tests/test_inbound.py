"""What a port of a pod admits, with routes, rate limits and audited policies bound to its Server."""

from __future__ import annotations

import yaml
from weft_policy.core.authorization import Unidentified
from weft_policy.core.inbound import InboundServer, inbound_server_of
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import WorkloadRef
from weft_policy.core.objects import Name
from weft_policy.kube.kinds import apply_object, index_from_objects

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web, linkerd.io/control-plane-ns: linkerd}}
spec: {containers: [{name: app, image: app, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.1.0.1}
"""
SERVER = """
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: http}
"""
ROUTE = """
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: admin, namespace: shop}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]
  rules: [{matches: [{path: {value: /admin}}]}]
"""


def policy(name: str, target: str, refs: str = "", audit: bool = False) -> str:
    annotations = '{policy.weft.dev/audit: "true"}' if audit else "{}"
    return f"""
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: shop, annotations: {annotations}}}
spec: {{targetRef: {target}, requiredAuthenticationRefs: [{refs}]}}
"""


ON_SERVER = "{group: policy.linkerd.io, kind: Server, name: web}"
ON_ROUTE = "{group: policy.linkerd.io, kind: HTTPRoute, name: admin}"
FRONT = "{kind: ServiceAccount, name: front}"


def index_of(*texts: str) -> ClusterIndex:
    return index_from_objects(yaml.safe_load(text) for text in (POD, SERVER, *texts))


def server_of(index: ClusterIndex) -> InboundServer:
    found = inbound_server_of(index, Mesh(), WorkloadRef(Name("shop", "web-0")), 8080)
    assert isinstance(found, InboundServer)
    return found


def names(authorizations: object) -> list[tuple[str, str]]:
    return [(each.source.kind, each.source.name) for each in authorizations]  # type: ignore[attr-defined]


def test_a_route_has_authorizations_of_its_own() -> None:
    index = index_of(ROUTE, policy("front", ON_ROUTE, FRONT), policy("all", ON_SERVER))
    found = server_of(index)
    (route,) = found.routes
    assert names(route.authorizations) == [("authorizationpolicy", "front")]
    assert names(found.authorizations) == [("authorizationpolicy", "all")]


def test_a_route_of_another_namespace_or_port_is_not_bound() -> None:
    elsewhere = ROUTE.replace("namespace: shop", "namespace: other").replace(
        "name: web}", "name: web, namespace: shop}"
    )
    with_port = ROUTE.replace("name: web}", "name: web, port: 8080}")
    assert server_of(index_of(elsewhere)).routes == ()
    assert server_of(index_of(with_port)).routes == ()


def test_a_grpc_server_takes_grpc_routes_alone() -> None:
    grpc = SERVER.replace("port: http", "port: http, proxyProtocol: gRPC")
    rpc = ROUTE.replace("policy.linkerd.io/v1beta3", "gateway.networking.k8s.io/v1").replace("HTTPRoute", "GRPCRoute")
    rpc = rpc.replace("{path: {value: /admin}}", "{method: {service: shop.Catalog}}")
    assert [route.id.kind for route in server_of(index_of(grpc, ROUTE, rpc)).routes] == ["GRPCRoute"]
    assert server_of(index_of(ROUTE)).routes[0].id.kind == "HTTPRoute"


def test_an_audited_policy_lets_in_whom_it_would_refuse_and_is_told_last() -> None:
    found = server_of(index_of(policy("front", ON_SERVER, FRONT, audit=True), policy("cluster", ON_SERVER)))
    assert names(found.authorizations) == [
        ("authorizationpolicy", "cluster"),
        ("authorizationpolicy", "front"),
        ("audit", "front"),
    ]
    assert found.authorizations[-1].authentication is Unidentified.ANYBODY


def test_an_audited_policy_of_a_route_yields_to_the_servers_own() -> None:
    index = index_of(ROUTE, policy("front", ON_ROUTE, FRONT, audit=True), policy("all", ON_SERVER))
    (route,) = server_of(index).routes
    assert [kind for kind, _ in names(route.authorizations)] == ["authorizationpolicy", "authorizationpolicy", "audit"]


def test_the_oldest_rate_limit_counts_and_names_identities() -> None:
    limit = """
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: NAME, namespace: shop, creationTimestamp: "WHEN"}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  total: {requestsPerSecond: 100}
  overrides: [{requestsPerSecond: 50, clientRefs: [{kind: ServiceAccount, name: front}]}]
"""
    young = limit.replace("NAME", "a").replace("WHEN", "2025-01-01T00:00:00Z")
    old = limit.replace("NAME", "b").replace("WHEN", "2024-01-01T00:00:00Z")
    found = server_of(index_of(young, old)).rate_limit
    assert found is not None
    assert (found.name.name, found.total, found.identity) == ("b", 100, None)
    (override,) = found.overrides
    assert override.identities == ("front.shop.serviceaccount.identity.linkerd.cluster.local",)


def test_changes_of_bound_objects_are_reported_to_the_namespace() -> None:
    index = index_of()
    index.take_changes()
    apply_object(index, yaml.safe_load(ROUTE))
    assert ("shop", "") in {topic.key for topic in index.take_changes()}
