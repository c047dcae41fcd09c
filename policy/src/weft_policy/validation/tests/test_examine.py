"""Every row of the Kubernetes contract's table of refusals (3.3), by literal objects."""

from __future__ import annotations

from typing import Any

import pytest
from weft_policy.validation import examine

Raw = dict[str, Any]
_POLICY, _GATEWAY = "policy.linkerd.io/v1beta3", "gateway.networking.k8s.io/v1"


def _obj(kind: str, spec: Any, api_version: str = _POLICY, **metadata: Any) -> Raw:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "one", "namespace": "shop", **metadata},
        "spec": spec,
    }


def _ref(kind: str, group: str = "policy.linkerd.io", name: str = "web", **more: Any) -> Raw:
    return {"group": group, "kind": kind, "name": name, **more}


def _policy(*refs: Raw, target: Raw | None = None) -> Raw:
    spec = {"targetRef": target or _ref("Server"), "requiredAuthenticationRefs": list(refs)}
    return _obj("AuthorizationPolicy", spec)


def _server(**spec: Any) -> Raw:
    return _obj("Server", {"podSelector": {}, "port": 80, **spec})


def _networks(*networks: Raw) -> Raw:
    return _obj("NetworkAuthentication", {"networks": list(networks)})


def _grant(**client: Any) -> Raw:
    return _obj("ServerAuthorization", {"server": {"name": "web"}, "client": client})


def _limit(**spec: Any) -> Raw:
    return _obj("HTTPLocalRateLimitPolicy", {"targetRef": _ref("Server"), **spec})


_SERVICE = {"group": "core", "kind": "Service", "name": "web", "port": 80}
_EGRESS = {"group": "policy.linkerd.io", "kind": "EgressNetwork", "name": "out"}


def _route(
    *rules: Raw, kind: str = "HTTPRoute", parent: Raw = _SERVICE, api: str = _GATEWAY, annotations: Raw | None = None
) -> Raw:
    return _obj(kind, {"parentRefs": [parent], "rules": list(rules)}, api, annotations=annotations or {})


def _match(**match: Any) -> Raw:
    return _route({"matches": [match]})


def _filter(**one: Any) -> Raw:
    return _route({"filters": [one]})


def _profile(*routes: Any, **spec: Any) -> Raw:
    return _obj("ServiceProfile", {"routes": list(routes), **spec}, "linkerd.io/v1alpha2", name="web.shop.svc.test")


def _profile_route(**route: Any) -> Raw:
    return _profile({"name": "any", "condition": {"method": "GET"}, **route})


def _responses(condition: Any) -> Raw:
    return _profile_route(responseClasses=[{"condition": condition, "isFailure": True}])


_MESH, _ACCOUNT, _NETS = _ref("MeshTLSAuthentication"), _ref("ServiceAccount", ""), _ref("NetworkAuthentication")

REFUSED = {
    "policy for another namespace": (
        _policy(target=_ref("Namespace", "", "other")),
        "spec.targetRef.name: cannot target another namespace (other)",
    ),
    "two mesh authentications": (_policy(_MESH, _MESH), "only one MeshTLSAuthentication"),
    "two accounts": (_policy(_ACCOUNT, _ACCOUNT), "only one ServiceAccount"),
    "mesh authentication and account": (_policy(_MESH, _ACCOUNT), "may not be required together"),
    "two network authentications": (_policy(_NETS, _NETS), "only one NetworkAuthentication"),
    "other authentication": (
        _policy(_ref("Secret", "")),
        "spec.requiredAuthenticationRefs[0].kind: Secret is no kind of authentication",
    ),
    "unsupported target": (_policy(target=_ref("Deployment", "apps")), "cannot target a Deployment.apps"),
    "no list of authentications": (_obj("AuthorizationPolicy", {"targetRef": _ref("Server")}), "missing; an empty"),
    "upper-case identity": (
        _obj("MeshTLSAuthentication", {"identities": ["*", "Web.shop"]}),
        "spec.identities[1]: 'Web.shop' is no identity",
    ),
    "wildcard inside": (_obj("MeshTLSAuthentication", {"identities": ["web.*.shop"]}), "is no identity"),
    "SPIFFE id with a dot segment": (
        _obj("MeshTLSAuthentication", {"identities": ["spiffe://td/ns/../sa"]}),
        "is no SPIFFE id",
    ),
    "SPIFFE id with a trailing slash": (
        _obj("MeshTLSAuthentication", {"identities": ["spiffe://td/ns/"]}),
        "is no SPIFFE id",
    ),
    "identity of a Deployment": (
        _obj("MeshTLSAuthentication", {"identityRefs": [_ref("Deployment", "apps")]}),
        "Deployment.apps has no identity",
    ),
    "namespace in a namespace": (
        _obj("MeshTLSAuthentication", {"identityRefs": [_ref("Namespace", "", namespace="shop")]}),
        "spec.identityRefs[0].namespace: a reference to a Namespace",
    ),
    "unknown accessPolicy": (_server(accessPolicy="allow"), "spec.accessPolicy: 'allow' is not one of"),
    "unknown proxyProtocol": (_server(proxyProtocol="HTTP/3"), "spec.proxyProtocol: 'HTTP/3' is not one of"),
    "no selector": (_obj("Server", {"port": 80}), "exactly one of podSelector and externalWorkloadSelector"),
    "port 0": (_server(port=0), "spec.port: expected a whole number from 1 to 65535, found 0"),
    "no port": (_obj("Server", {"podSelector": {}}), "spec.port: expected a whole number"),
    "no networks": (_networks(), "at least one network"),
    "exception covers all": (_networks({"cidr": "10.1.0.0/16", "except": ["10.0.0.0/8"]}), "leaves nothing of"),
    "exception equals all": (_networks({"cidr": "10.1.0.0/16", "except": ["10.1.0.0/16"]}), "leaves nothing of"),
    "exception outside": (
        _networks({"cidr": "10.1.0.0/16", "except": ["10.1.2.0/24", "10.2.0.0/24"]}),
        "spec.networks[0].except[1]: the exception 10.2.0.0/24 lies outside 10.1.0.0/16",
    ),
    "exception of the other family": (_networks({"cidr": "10.1.0.0/16", "except": ["fd00::/8"]}), "lies outside"),
    "no CIDR": (_networks({"cidr": "ten"}), "expected an address or CIDR such as 10.0.0.0/8, found 'ten'"),
    "empty egress networks": (
        _obj("EgressNetwork", {"trafficPolicy": "Allow", "networks": []}),
        "at least one network",
    ),
    "egress without word": (_obj("EgressNetwork", {"trafficPolicy": "Maybe"}), "expected Allow or Deny"),
    "egress exception outside": (
        _obj("EgressNetwork", {"trafficPolicy": "Deny", "networks": [{"cidr": "10.0.0.0/8", "except": ["11.0.0.1"]}]}),
        "lies outside",
    ),
    "unauthenticated and mesh TLS": (_grant(unauthenticated=True, meshTLS={"identities": ["*"]}), "beside meshTLS"),
    "any TLS and identities": (
        _grant(meshTLS={"unauthenticatedTLS": True, "identities": ["*"]}),
        "beside identities or serviceAccounts",
    ),
    "any TLS and accounts": (
        _grant(meshTLS={"unauthenticatedTLS": True, "serviceAccounts": [{"name": "web"}]}),
        "beside identities or serviceAccounts",
    ),
    "grant with exception outside": (
        _grant(unauthenticated=True, networks=[{"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}]),
        "spec.client.networks[0].except[0]: the exception 11.0.0.0/8 lies outside",
    ),
    "rate limit of a route": (_limit(targetRef=_ref("HTTPRoute")), "expected a Server"),
    "total rate of 0": (_limit(total={"requestsPerSecond": 0}), "spec.total.requestsPerSecond: must be greater"),
    "identity rate of 0": (_limit(identity={"requestsPerSecond": 0}), "spec.identity.requestsPerSecond: must be"),
    "override rate of 0": (_limit(overrides=[{"requestsPerSecond": 0, "clientRefs": []}]), "must be greater than 0"),
    "identity above total": (
        _limit(total={"requestsPerSecond": 5}, identity={"requestsPerSecond": 6}),
        "no more than total.requestsPerSecond (5)",
    ),
    "override above total": (
        _limit(total={"requestsPerSecond": 5}, overrides=[{"requestsPerSecond": 6, "clientRefs": []}]),
        "spec.overrides[0].requestsPerSecond: must be no more than",
    ),
    "override for a namespace": (
        _limit(overrides=[{"requestsPerSecond": 6, "clientRefs": [_ref("Namespace", "")]}]),
        "spec.overrides[0].clientRefs[0].kind: Namespace is no client",
    ),
    "egress parent without port": (_route(parent=_EGRESS), "spec.parentRefs[0]: an EgressNetwork needs a port"),
    "bad retry annotation": (
        _route(annotations={"retry.linkerd.io/http": "6xx"}),
        "metadata.annotations[retry.linkerd.io/http]: retry.linkerd.io/http='6xx'",
    ),
    "bad timeout annotation": (
        _route(annotations={"timeout.linkerd.io/request": "1.5s"}),
        "metadata.annotations[timeout.linkerd.io/request]",
    ),
    "bad gRPC retry annotation": (
        _route(kind="GRPCRoute", annotations={"retry.linkerd.io/grpc": "ok"}),
        "metadata.annotations[retry.linkerd.io/grpc]",
    ),
    "bad breaker annotation": (
        _route(annotations={"balancer.linkerd.io/failure-accrual": "sometimes"}),
        "expected consecutive or unified",
    ),
    "relative prefix": (_match(path={"value": "x"}), "spec.rules[0].matches[0].path.value: 'x' is not absolute"),
    "relative exact path": (_match(path={"type": "Exact", "value": "x"}), "is not absolute"),
    "bad path pattern": (_match(path={"type": "RegularExpression", "value": "("}), "is not a regular expression"),
    "bad header pattern": (
        _match(headers=[{"type": "RegularExpression", "name": "x", "value": "["}]),
        "spec.rules[0].matches[0].headers[0].value",
    ),
    "pattern that looks ahead": (_match(path={"type": "RegularExpression", "value": "/(?=a)"}), "looks around"),
    "bad query pattern": (
        _match(queryParams=[{"type": "RegularExpression", "name": "x", "value": "["}]),
        "spec.rules[0].matches[0].queryParams[0].value",
    ),
    "bad header name": (_match(headers=[{"name": "a b", "value": "x"}]), "cannot be the name of a header"),
    "bad header value": (_match(headers=[{"name": "a", "value": "x\n"}]), "cannot be the value of a header"),
    "bad method": (_match(method="GET IT"), "cannot be a method"),
    "bad header to add": (
        _filter(type="RequestHeaderModifier", requestHeaderModifier={"add": [{"name": "ä", "value": ""}]}),
        "spec.rules[0].filters[0].requestHeaderModifier.add[0].name",
    ),
    "bad header to remove": (
        _filter(type="ResponseHeaderModifier", responseHeaderModifier={"remove": ["x", ""]}),
        "spec.rules[0].filters[0].responseHeaderModifier.remove[1]",
    ),
    "relative redirect": (
        _filter(type="RequestRedirect", requestRedirect={"path": {"type": "ReplaceFullPath", "replaceFullPath": "x"}}),
        "spec.rules[0].filters[0].requestRedirect.path.replaceFullPath: 'x' is not absolute",
    ),
    "gRPC pattern": (
        _route({"matches": [{"method": {"type": "RegularExpression", "service": "a"}}]}, kind="GRPCRoute"),
        "gRPC methods are matched exactly",
    ),
    "empty gRPC method": (
        _route({"matches": [{"method": {"type": "Exact"}}]}, kind="GRPCRoute"),
        "expected a service, a method, or both",
    ),
    "negative timeout": (_route({"timeouts": {"request": "-1s"}}, api=_POLICY), "-1s is negative"),
    "backend timeout above request": (
        _route({"timeouts": {"request": "1s", "backendRequest": "1500ms"}}, api=_POLICY),
        "spec.rules[0].timeouts.backendRequest: 1500ms must not be greater than the request's 1s",
    ),
    "unreadable timeout": (_route({"timeouts": {"request": "soon"}}, api=_POLICY), "expected a duration such as"),
    "service backend without port": (
        _route({"backendRefs": [{"name": "web"}]}),
        "spec.rules[0].backendRefs[0]: a Service needs a port",
    ),
    "service backend with port 0": (
        _route({"backendRefs": [{"name": "web", "port": 0}]}, kind="GRPCRoute"),
        "a Service needs a port",
    ),
    "TLSRoute with two rules": (_route({}, {}, kind="TLSRoute"), "spec.rules: expected exactly one rule, found 2"),
    "TCPRoute without rules": (_route(kind="TCPRoute"), "expected exactly one rule, found 0"),
    "TCPRoute to egress without port": (_route({}, kind="TCPRoute", parent=_EGRESS), "needs a port"),
    "no spec": ({"apiVersion": _POLICY, "kind": "Server", "metadata": {"name": "x"}}, "spec: expected an object"),
    "unreadable HTTPRoute of ours": (_route("x", api=_POLICY), "spec.rules[0]: expected an object, found 'x'"),  # type: ignore[arg-type]
    "unknown field in a profile": (_profile(retries=1), "spec.retries: unknown field"),
    "unknown field in a route": (_profile_route(retry=True), "spec.routes[0].retry: unknown field"),
    "profile with a bad name": (
        _obj("ServiceProfile", {}, "linkerd.io/v1alpha2", name="Web"),
        "metadata.name: 'Web' is no name",
    ),
    "null route": (_profile(None), "spec.routes[0]: is empty"),
    "route without name": (_profile({"condition": {"method": "GET"}}), "spec.routes[0].name: missing"),
    "route without condition": (_profile({"name": "x"}), "spec.routes[0].condition: missing"),
    "bad route timeout": (_profile_route(timeout="fast"), "spec.routes[0].timeout: 'fast' is no duration"),
    "empty condition": (_profile_route(condition={}), "spec.routes[0].condition: is empty"),
    "null among all": (_profile_route(condition={"all": [None]}), "spec.routes[0].condition.all[0]: is empty"),
    "wrong type": (_profile_route(isRetryable="yes"), "spec.routes[0].isRetryable: expected true or false"),
    "class without condition": (_responses(None), "spec.routes[0].responseClasses[0].condition: missing"),
    "status out of bounds": (_responses({"status": {"min": 99}}), "expected a status from 100 to 599"),
    "status upside down": (_responses({"status": {"min": 500, "max": 400}}), "must not be less than min (500)"),
    "negative ratio": (_profile(retryBudget={"retryRatio": -0.1, "ttl": "1s"}), "must not be negative"),
    "budget without ttl": (_profile(retryBudget={"retryRatio": 0.1}), "spec.retryBudget.ttl: missing"),
    "bad ttl": (_profile(retryBudget={"ttl": "1 day"}), "'1 day' is no duration"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_by_field_with_a_reason(name: str) -> None:
    obj, expected = REFUSED[name]
    assert expected in str(examine(obj))


ADMITTED = {
    "a Server of a named port": _server(port="http", proxyProtocol="gRPC", accessPolicy="all-authenticated"),
    "a policy for its own namespace": _policy(target=_ref("Namespace", "", "shop")),
    "a policy for a route": _policy(_ACCOUNT, _NETS, target=_ref("HTTPRoute", "gateway.networking.k8s.io")),
    "kinds without regard to case": _policy(_ref("meshtlsauthentication", "Policy.Linkerd.IO")),
    "identities": _obj("MeshTLSAuthentication", {"identities": ["*", "*.shop", "a.b", "spiffe://td.x/ns/A.b-c"]}),
    "a namespace's identities": _obj("MeshTLSAuthentication", {"identityRefs": [_ref("Namespace", "")]}),
    "networks": _networks({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}, {"cidr": "192.168.0.1"}),
    "egress without networks": _obj("EgressNetwork", {"trafficPolicy": "Deny"}),
    "a grant to the network": _grant(unauthenticated=True, networks=[{"cidr": "0.0.0.0/0"}]),
    "rates": _limit(
        total={"requestsPerSecond": 5},
        identity={"requestsPerSecond": 5},
        overrides=[{"requestsPerSecond": 1, "clientRefs": [_ref("ServiceAccount", "")]}],
    ),
    "bad annotations on an inbound route": _route(
        parent=_ref("Server"), annotations={"retry.linkerd.io/http": "6xx"}, api=_POLICY
    ),
    "timeouts": _route({"timeouts": {"request": "1m30s", "backendRequest": "1.5s"}}, api=_POLICY),
    "backends of other controllers": _route({"backendRefs": [{"group": "x.io", "kind": "Bucket", "name": "b"}]}),
    "a policy route without backend port": _route({"backendRefs": [{"name": "web"}]}, api=_POLICY),
    "a gRPC service": _route({"matches": [{"method": {"service": "a.B"}}]}, kind="GRPCRoute"),
    "a match without path": _match(headers=[{"name": "x-a", "value": "ä"}]),
    "a profile": _profile_route(
        timeout="1.5s", condition={"all": [{"pathRegex": "/x"}, {"not": {"method": "POST"}}]}, isRetryable=True
    ),
    "an open status range": _responses({"status": {"min": 500}}),
    "a budget": _profile(retryBudget={"retryRatio": 0.2, "minRetriesPerSecond": 10, "ttl": "10s"}),
    "other kinds": {"apiVersion": "v1", "kind": "Service", "spec": 1},
}


@pytest.mark.parametrize("name", ADMITTED)
def test_is_admitted(name: str) -> None:
    assert str(examine(ADMITTED[name])) == ""


def test_unreadable_gateway_route_is_admitted_with_a_warning() -> None:
    verdict = examine(_route("x"))  # type: ignore[arg-type]
    assert verdict.problems == ()
    assert [str(warning) for warning in verdict.warnings] == ["spec.rules[0]: expected an object, found 'x'"]


def test_every_mistake_is_told_at_once() -> None:
    verdict = examine(_server(proxyProtocol="x", accessPolicy="y"))
    assert [finding.field for finding in verdict.problems] == ["spec.proxyProtocol", "spec.accessPolicy"]
