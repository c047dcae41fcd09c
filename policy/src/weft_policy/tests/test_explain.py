"""Explanations over manifests, with a matcher that takes the first rule and admits by the first authorization.

What matches is the engine's affair (weft-core, explain.rs); what it is asked, and what is made of its answer, is ours.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from weft_policy.core.mesh import Mesh
from weft_policy.core.objects import Name
from weft_policy.explain import Explanation, Place, Request, explain
from weft_policy.kube.imagine import imagined
from weft_policy.kube.load import index_of
from weft_proto.linkerd import inbound_pb2

Raw = dict[str, Any]


class FirstRule:
    """Remembers who was said to ask."""

    def __init__(self) -> None:
        self.clients: list[str | None] = []

    def outbound_rule(self, policy: bytes, is_http2: bool, *request: Any) -> Place | None:
        return (0, 0)

    def reception(
        self,
        server: bytes,
        method: str,
        authority: str,
        target: str,
        headers: list[tuple[str, str]],
        client: IPv4Address | IPv6Address,
        client_id: str | None,
    ) -> tuple[bool, Place | None, tuple[str, str, str] | None]:
        self.clients.append(client_id)
        message = inbound_pb2.Server.FromString(server)
        if not message.authorizations:
            return True, None, None
        labels = message.authorizations[0].labels
        return True, None, (labels["group"], labels["kind"], labels["name"])


def obj(api_version: str, kind: str, name: str, spec: Raw, namespace: str = "shop", **metadata: Any) -> Raw:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec,
    }


def workload(name: str, app: str, account: str) -> Raw:
    container = {"name": "app", "ports": [{"containerPort": 8080, "name": "http"}]}
    template = {
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [container], "serviceAccountName": account},
    }
    return obj("apps/v1", "Deployment", name, {"template": template})


def service(name: str, app: str) -> Raw:
    return obj("v1", "Service", name, {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": "http"}]})


NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "shop", "annotations": {"linkerd.io/inject": "enabled"}},
}
SHOP = [
    NAMESPACE,
    workload("web", "web", "web"),
    service("web", "web"),
    workload("canary", "canary", "web"),
    service("canary", "canary"),
]
CLIENT = Name("shop", "client")
GATEWAY = "gateway.networking.k8s.io/v1"


def split() -> Raw:
    backends = [{"name": "web", "port": 80, "weight": 3}, {"name": "canary", "port": 80, "weight": 1}]
    rule = {"backendRefs": backends, "timeouts": {"request": "100ms"}}
    spec = {"parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80}], "rules": [rule]}
    return obj(GATEWAY, "HTTPRoute", "split", spec, annotations={"retry.linkerd.io/http": "5xx"})


def ask(objects: list[Raw], account: Name | None = CLIENT, port: int = 80) -> Explanation:
    index, unread = index_of(imagined(objects))
    assert unread == []
    request = Request("GET", "web.shop", Name("shop", "web"), port, "/", (), account)
    return explain(index, Mesh(), request, FirstRule())


def test_service_without_routes_is_reached_by_default() -> None:
    found = ask(SHOP)
    assert (found.verdict, found.route, found.protocol) == ("allowed", "default http", "detect")
    (backend,) = found.backends
    assert (backend.name, backend.percent) == ("Service shop/web:80", 100)
    (arrival,) = backend.arrivals
    assert (arrival.pod, arrival.address, arrival.by) == ("shop/web", "192.0.2.1:8080", "default all-unauthenticated")


def test_route_tells_its_shares_its_timeout_and_its_retries() -> None:
    found = ask([*SHOP, split()])
    assert (found.route, found.rule, found.timeouts.request_ms) == ("HTTPRoute shop/split", 1, 100)
    assert [(backend.name, backend.percent) for backend in found.backends] == [
        ("Service shop/web:80", 75),
        ("Service shop/canary:80", 25),
    ]
    assert found.retry is not None
    assert found.retry.limit == 1


def test_server_that_admits_nobody_denies() -> None:
    server = obj(
        "policy.linkerd.io/v1beta3", "Server", "web", {"podSelector": {"matchLabels": {"app": "web"}}, "port": "http"}
    )
    found = ask([*SHOP, server])
    assert found.verdict == "denied"
    assert found.backends[0].arrivals[0].server == "Server web"


def test_policy_that_admits_is_named() -> None:
    server = obj(
        "policy.linkerd.io/v1beta3", "Server", "web", {"podSelector": {"matchLabels": {"app": "web"}}, "port": 8080}
    )
    target = {"group": "policy.linkerd.io", "kind": "Server", "name": "web"}
    policy = obj(
        "policy.linkerd.io/v1alpha1",
        "AuthorizationPolicy",
        "all",
        {"targetRef": target, "requiredAuthenticationRefs": []},
    )
    found = ask([*SHOP, server, policy])
    assert (found.verdict, found.backends[0].arrivals[0].by) == ("allowed", "AuthorizationPolicy shop/all")


def test_half_of_the_traffic_denied_is_told_as_such() -> None:
    server = obj(
        "policy.linkerd.io/v1beta3", "Server", "c", {"podSelector": {"matchLabels": {"app": "canary"}}, "port": 8080}
    )
    assert ask([*SHOP, split(), server]).verdict == "in part: allowed, denied"


def test_unknown_service_and_undefined_port_are_verdicts() -> None:
    assert ask([NAMESPACE]).verdict == "no service web.shop.svc.cluster.local"
    assert ask(SHOP, port=81).verdict.startswith("denied")


def test_pods_outside_the_mesh_admit_everybody() -> None:
    found = ask(SHOP[1:])
    assert (found.verdict, found.backends[0].arrivals[0].by) == ("allowed", "no proxy to ask")


def test_client_outside_the_mesh_has_no_identity() -> None:
    matcher = FirstRule()
    index, _ = index_of(imagined(SHOP))
    for account in (None, CLIENT):
        explain(index, Mesh(), Request("GET", "web.shop", Name("shop", "web"), 80, "/", (), account), matcher)
    assert matcher.clients == [None, "client.shop.serviceaccount.identity.linkerd.cluster.local"]
