"""What a request would meet: its route and rule, where it may go, and whether it would be admitted there and by what.

The answers are those that proxies get, and who matches is the data path's own matcher, passed in as a port.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Protocol

from weft_policy.core.endpoints import Address, Endpoint, EndpointSet, Locality, endpoints_of
from weft_policy.core.inbound import InboundServer, ServerRateLimit, inbound_server_of
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import Refusal, ServiceTarget, WorkloadRef, target_from_path
from weft_policy.core.objects import Name, Pod
from weft_policy.core.outbound import (
    BuiltIn,
    ForwardBackend,
    InvalidBackend,
    ObjectId,
    Origin,
    OutboundPolicy,
    OutboundProtocol,
    PolicyRule,
    ServiceBackend,
    Share,
    outbound_policy_of,
)
from weft_policy.core.profile import ServiceProfileAnswer, profile_of
from weft_policy.core.profile_match import profile_route_for
from weft_policy.core.resilience import NO_TIMEOUTS, GrpcRetry, HttpRetry, Timeouts
from weft_policy.core.routes import Fail, Filter, Redirect
from weft_policy.core.service_profiles import RetryBudget, ServiceProfile
from weft_policy.wire.encode_inbound import inbound_message
from weft_policy.wire.encode_outbound import outbound_message

Place = tuple[int, int]
Headers = tuple[tuple[str, str], ...]

# As the wire spells them, and as people do.
_AUTHORIZATIONS: Final = {
    "authorizationpolicy": "AuthorizationPolicy",
    "serverauthorization": "ServerAuthorization",
}
_ROUTED: Final = (OutboundProtocol.DETECT, OutboundProtocol.HTTP1, OutboundProtocol.HTTP2, OutboundProtocol.GRPC)


class Matcher(Protocol):
    """The data path's matching, over messages. Raises ValueError for what cannot be a request."""

    def outbound_rule(
        self, policy: bytes, is_http2: bool, method: str, authority: str, target: str, headers: list[tuple[str, str]]
    ) -> Place | None:
        """Places of route and rule in the policy."""

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
        """Whether a route takes it, which, and group, kind, name of what admits the client."""


@dataclass(frozen=True, slots=True)
class Request:
    """authority: as the client writes it. target: path and query. account: of a meshed client, None for others."""

    method: str
    authority: str
    service: Name
    port: int
    target: str
    headers: Headers = ()
    account: Name | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """One endpoint. verdict: allowed, denied, or no route. server, route: empty for none. by: what admits.

    rate_limit: of the server's HTTPLocalRateLimitPolicy, which may refuse it with 429 all the same; empty for none.
    """

    address: str
    pod: str
    verdict: str
    server: str = ""
    route: str = ""
    by: str = ""
    rate_limit: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """percent: of the rule's traffic. problem: why whatever goes there fails; empty for nothing."""

    name: str
    percent: float
    problem: str = ""
    arrivals: tuple[Arrival, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """verdict: `allowed`, `denied`, `in part`, or what answers instead. rule: from 1, 0 for none.

    budget: of a ServiceProfile whose route is retried; such routes have no other limit of retries.
    """

    verdict: str
    target: str
    protocol: str = ""
    route: str = ""
    rule: int = 0
    timeouts: Timeouts = NO_TIMEOUTS
    retry: HttpRetry | GrpcRetry | None = None
    backends: tuple[Backend, ...] = ()
    budget: RetryBudget | None = None


def explain(index: ClusterIndex, mesh: Mesh, request: Request, matcher: Matcher) -> Explanation:
    """Raises ValueError for a request that cannot be."""
    target = f"Service {'/'.join(request.service)} port {request.port}"
    namespace = request.account.namespace if request.account else ""
    policy = outbound_policy_of(index, mesh, ServiceTarget(request.service, request.port), namespace)
    if isinstance(policy, Refusal):
        return Explanation(policy.message, target)
    if policy.protocol in _ROUTED and (profile := _profile_that_replaces(index, mesh, request, namespace)):
        return _explain_profile(index, mesh, request, profile, policy.protocol, matcher)
    found = _rule_for(policy, request, matcher)
    protocol = policy.protocol.value
    if found is None:
        return Explanation("404, no route takes the request", target, protocol)
    origin, number, rule = found
    backends = tuple(_backend(index, mesh, request, rule, share, matcher) for share in rule.shares)
    return Explanation(
        verdict=_answered(rule.filters) or _verdict(backends),
        target=target,
        protocol=protocol,
        route=shown_origin(origin),
        rule=number,
        timeouts=rule.timeouts,
        retry=rule.grpc_retry if policy.protocol is OutboundProtocol.GRPC else rule.http_retry,
        backends=backends,
    )


def _profile_that_replaces(index: ClusterIndex, mesh: Mesh, request: Request, namespace: str) -> ServiceProfile | None:
    """The profile that is used in place of routes. Source: the wire contract, 2.5, "How the proxy uses the profile"."""
    answer = profile_of(index, mesh, ServiceTarget(request.service, request.port), "", namespace)
    profile = answer.profile if isinstance(answer, ServiceProfileAnswer) else None
    return profile if profile and (profile.routes or profile.overrides) else None


def _explain_profile(
    index: ClusterIndex,
    mesh: Mesh,
    request: Request,
    profile: ServiceProfile,
    protocol: OutboundProtocol,
    matcher: Matcher,
) -> Explanation:
    route = profile_route_for(profile, request.method, request.target.partition("?")[0])
    shares = tuple(
        Share(ServiceBackend(ObjectId("core", "Service", service, port), mesh.authority_of(service)), weight)
        for service, port, weight in _profile_targets(mesh, request, profile)
    )
    rule = PolicyRule(shares)
    backends = tuple(_backend(index, mesh, request, rule, share, matcher) for share in shares)
    return Explanation(
        verdict=_verdict(backends),
        target=f"Service {'/'.join(request.service)} port {request.port}",
        protocol=protocol.value,
        route=f"ServiceProfile {'/'.join(profile.name)}, {route.name if route else 'no route of it'}",
        timeouts=Timeouts(request_ms=route.timeout_ms) if route else NO_TIMEOUTS,
        backends=backends,
        budget=profile.budget if route and route.is_retryable else None,
    )


def _profile_targets(mesh: Mesh, request: Request, profile: ServiceProfile) -> Sequence[tuple[Name, int, int]]:
    """Service, port and weight of what a profile sends to: the Service itself unless it says otherwise."""
    found = []
    for override in profile.overrides:
        path = override.authority if ":" in override.authority else f"{override.authority}:{request.port}"
        target = target_from_path(path, mesh.cluster_domain)
        if isinstance(target, ServiceTarget) and override.weight:
            found.append((target.service, target.port, override.weight))
    return found or [(request.service, request.port, 1)]


def shown_origin(origin: Origin) -> str:
    """Such as `HTTPRoute shop/split`; `default http` for what no object stands behind."""
    if isinstance(origin, BuiltIn):
        return f"default {origin.name}"
    return f"{origin.kind} {'/'.join(origin.name)}"


def _rule_for(policy: OutboundPolicy, request: Request, matcher: Matcher) -> tuple[Origin, int, PolicyRule] | None:
    if policy.protocol not in _ROUTED:
        routes = policy.routes or ((policy.opaque,) if policy.opaque else ())
        return (routes[0].origin, 1, routes[0].rules[0]) if routes and routes[0].rules else None
    is_http2 = policy.protocol in (OutboundProtocol.HTTP2, OutboundProtocol.GRPC)
    message = outbound_message(policy).SerializeToString()
    place = matcher.outbound_rule(
        message, is_http2, request.method, request.authority, request.target, list(request.headers)
    )
    if place is None:
        return None
    route, rule = place
    return policy.routes[route].origin, rule + 1, policy.routes[route].rules[rule]


def _backend(
    index: ClusterIndex, mesh: Mesh, request: Request, rule: PolicyRule, share: Share, matcher: Matcher
) -> Backend:
    total = sum(each.weight for each in rule.shares)
    percent = 100 * share.weight / total if total else 0.0
    backend = share.backend
    problem = _answered(share.filters)
    if isinstance(backend, InvalidBackend):
        return Backend(shown_origin(backend.origin), percent, problem or f"500, {backend.message}")
    if isinstance(backend, ForwardBackend):
        address = f"{backend.ip}:{backend.port}"
        return Backend(address, percent, problem, (Arrival(address, "", "allowed", by="no proxy to ask"),))
    return Backend(
        _named(backend), percent, problem, tuple(_arrivals(index, mesh, request, backend, matcher)) if percent else ()
    )


def _named(backend: ServiceBackend) -> str:
    return f"{shown_origin(backend.origin)}:{backend.origin.port}"


def _arrivals(
    index: ClusterIndex, mesh: Mesh, request: Request, backend: ServiceBackend, matcher: Matcher
) -> Sequence[Arrival]:
    target = ServiceTarget(backend.origin.name, backend.origin.port)
    found = endpoints_of(index, mesh, target, Locality())
    if not isinstance(found, EndpointSet):
        return ()
    return [
        _arrival(index, mesh, request, address, endpoint, matcher)
        for address, endpoint in sorted(found.endpoints.items())
    ]


def _arrival(
    index: ClusterIndex, mesh: Mesh, request: Request, address: Address, endpoint: Endpoint, matcher: Matcher
) -> Arrival:
    shown = f"{address.ip}:{address.port}"
    pod = next(iter(index.running_pods_at(address.ip)), None)
    if pod is None or not pod.mesh:
        return Arrival(shown, "/".join(pod.name) if pod else "", "allowed", by="no proxy to ask")
    name = "/".join(pod.name)
    server = inbound_server_of(index, mesh, WorkloadRef(pod.name), address.port)
    assert isinstance(server, InboundServer), "a meshed pod has a server on every port"
    # Without mesh TLS to this endpoint the client stays nameless.
    client_id = mesh.identity_of(request.account) if request.account and endpoint.identity else None
    taken, place, admitted = matcher.reception(
        inbound_message(server, mesh.probe_networks).SerializeToString(),
        request.method,
        request.authority,
        request.target,
        list(request.headers),
        ip_address(_client_ip(index, mesh, request)),
        client_id,
    )
    kind = "Server" if server.source.group else "default"
    route = server.routes[place[0]].id if place and place[0] < len(server.routes) else None
    return Arrival(
        address=shown,
        pod=name,
        verdict="no route" if not taken else "allowed" if admitted else "denied",
        server=f"{kind} {server.source.name}",
        route=f"{route.kind.value} {'/'.join(route.name)}" if route else "",
        by=_shown_authorization(admitted, pod.name.namespace) if admitted else "",
        rate_limit=_shown_limit(server.rate_limit) if server.rate_limit else "",
    )


def _shown_authorization(found: tuple[str, str, str], namespace: str) -> str:
    """found: group, kind, name. Authorizations live where the server does."""
    _, kind, name = found
    return f"{_AUTHORIZATIONS[kind]} {namespace}/{name}" if kind in _AUTHORIZATIONS else f"{kind} {name}"


def _shown_limit(limit: ServerRateLimit) -> str:
    rates = [f"{limit.total}/s in all"] if limit.total is not None else []
    if limit.identity is not None:
        rates.append(f"{limit.identity}/s of each client")
    if limit.overrides:
        rates.append(f"{len(limit.overrides)} exceptions")
    return f"HTTPLocalRateLimitPolicy {'/'.join(limit.name)}: {', '.join(rates)}"


def _client_ip(index: ClusterIndex, mesh: Mesh, request: Request) -> str:
    """A pod of the client's account, else an address inside the cluster."""
    if request.account is not None:
        for name in sorted(index.pods.names()):
            pod: Pod | None = index.pods.get(*name)
            account = request.account
            if pod and pod.ips and (pod.name.namespace, pod.service_account) == (account.namespace, account.name):
                return pod.ips[0]
    return str(mesh.cluster_networks[0].network_address + 1)


def _answered(filters: Sequence[Filter]) -> str:
    """What a rule answers itself, without asking a backend; empty when it does not."""
    for found in filters:
        if isinstance(found, Redirect):
            return f"{found.status}, redirected"
        if isinstance(found, Fail):
            return f"{found.reason.value}, {found.message}"
    return ""


def _verdict(backends: Sequence[Backend]) -> str:
    reached = [backend for backend in backends if backend.percent]
    verdicts = {arrival.verdict for backend in reached for arrival in backend.arrivals}
    verdicts |= {"fails" for backend in reached if backend.problem}
    verdicts |= {"no endpoints" for backend in reached if not backend.problem and not backend.arrivals}
    if len(verdicts) == 1:
        return verdicts.pop()
    return f"in part: {', '.join(sorted(verdicts))}"
