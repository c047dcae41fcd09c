"""Raw routes, grants and egress networks to values; raises as `kube.parse` does for what it cannot read.

What a schema or webhook should have refused, and what we do not support, becomes a problem of the route: it is then
refused as a whole, in its status, and never served in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from weft_common.kube.resource import Resource

from weft_policy.core.durations import go_duration_ms
from weft_policy.core.objects import Name
from weft_policy.core.policy_objects import ObjectRef
from weft_policy.core.resilience import HttpRetry, resilience_from_annotations
from weft_policy.core.routes import (
    GATEWAY_GROUP,
    BackendRef,
    EgressNetwork,
    Filter,
    GrantedFrom,
    GrantedTo,
    GrpcMatch,
    HeaderChange,
    HttpMatch,
    Parent,
    ParentKind,
    ParentRef,
    PathChange,
    PathKind,
    PathMatch,
    Redirect,
    ReferenceGrant,
    Route,
    RouteId,
    RouteKind,
    RouteRule,
    TextMatch,
    UrlRewrite,
)
from weft_policy.core.words import header_name_problem, path_problem, pattern_problem
from weft_policy.kube.parse import policy_annotations
from weft_policy.kube.parse_policy import client_networks, object_name

Raw = dict[str, Any]

POLICY_GROUP: Final = "policy.linkerd.io"
HTTP_ROUTES: Final = Resource(GATEWAY_GROUP, "v1", "httproutes", "HTTPRoute")
GRPC_ROUTES: Final = Resource(GATEWAY_GROUP, "v1", "grpcroutes", "GRPCRoute")
TLS_ROUTES: Final = Resource(GATEWAY_GROUP, "v1alpha2", "tlsroutes", "TLSRoute")
TCP_ROUTES: Final = Resource(GATEWAY_GROUP, "v1alpha2", "tcproutes", "TCPRoute")
REFERENCE_GRANTS: Final = Resource(GATEWAY_GROUP, "v1beta1", "referencegrants", "ReferenceGrant")
POLICY_HTTP_ROUTES: Final = Resource(POLICY_GROUP, "v1beta3", "httproutes", "HTTPRoute")
EGRESS_NETWORKS: Final = Resource(POLICY_GROUP, "v1alpha1", "egressnetworks", "EgressNetwork")

_PARENTS: Final = {
    ("core", "service"): ParentKind.SERVICE,
    (POLICY_GROUP, "egressnetwork"): ParentKind.EGRESS_NETWORK,
    (POLICY_GROUP, "server"): ParentKind.SERVER,
}


@dataclass(slots=True)
class _Reader:
    """Reads parts of one route and notes what cannot be used."""

    namespace: str
    problems: list[str] = field(default_factory=list)

    def text_match(self, raw: Raw) -> TextMatch:
        is_regex = raw.get("type") == "RegularExpression"
        return TextMatch(self.pattern(raw["value"]) if is_regex else raw["value"], is_regex)

    def pattern(self, text: str) -> str:
        self.note(pattern_problem(text))
        return text

    def header_name(self, name: str) -> str:
        self.note(header_name_problem(name))
        return name.lower()

    def path(self, text: str) -> str:
        self.note(path_problem(text))
        return text

    def note(self, problem: str) -> None:
        if problem:
            self.problems.append(problem)

    def headers(self, raw: Raw) -> tuple[tuple[str, TextMatch], ...]:
        # The first of several conditions on one header counts. Source: Gateway API, HTTPHeaderMatch.
        found: dict[str, TextMatch] = {}
        for header in raw.get("headers") or ():
            found.setdefault(self.header_name(header["name"]), self.text_match(header))
        return tuple(found.items())

    def http_match(self, raw: Raw) -> HttpMatch:
        path = raw.get("path") or {}
        kind = PathKind(path.get("type") or "PathPrefix")
        value = path.get("value") or "/"
        params: dict[str, TextMatch] = {}
        for param in raw.get("queryParams") or ():
            params.setdefault(param["name"], self.text_match(param))
        return HttpMatch(
            path=PathMatch(kind, self.pattern(value) if kind is PathKind.REGEX else self.path(value)),
            headers=self.headers(raw),
            query_params=tuple(params.items()),
            method=raw.get("method") or "",
        )

    def grpc_match(self, raw: Raw) -> GrpcMatch:
        method = raw.get("method") or {}
        if (method.get("type") or "Exact") != "Exact":
            self.problems.append("regular expressions for gRPC methods are not supported")
        return GrpcMatch(method.get("service") or "", method.get("method") or "", self.headers(raw))

    def filters(self, raw: Raw, kind: RouteKind) -> tuple[Filter, ...]:
        return tuple(found for each in raw.get("filters") or () if (found := self.filter(each, kind)) is not None)

    def filter(self, raw: Raw, kind: RouteKind) -> Filter | None:
        match raw["type"]:
            case "RequestHeaderModifier":
                return self.header_change(raw["requestHeaderModifier"], on_response=False)
            case "ResponseHeaderModifier":
                return self.header_change(raw["responseHeaderModifier"], on_response=True)
            case "RequestRedirect" if kind is RouteKind.HTTP:
                redirect = raw["requestRedirect"]
                return Redirect(
                    scheme=redirect.get("scheme") or "",
                    host=redirect.get("hostname") or "",
                    path=self.path_change(redirect.get("path")),
                    port=redirect.get("port"),
                    status=redirect.get("statusCode") or 302,
                )
            case "URLRewrite" if kind is RouteKind.HTTP:
                rewrite = raw["urlRewrite"]
                return UrlRewrite(rewrite.get("hostname") or "", self.path_change(rewrite.get("path")))
            case other:
                self.problems.append(f"the filter {other} is not supported")
                return None

    def header_change(self, raw: Raw, *, on_response: bool) -> HeaderChange:
        def pairs(action: str) -> tuple[tuple[str, str], ...]:
            return tuple((self.header_name(each["name"]), each["value"]) for each in raw.get(action) or ())

        removed = tuple(self.header_name(name) for name in raw.get("remove") or ())
        return HeaderChange(on_response, pairs("add"), pairs("set"), removed)

    def path_change(self, raw: Raw | None) -> PathChange | None:
        if not raw:
            return None
        if raw["type"] == "ReplacePrefixMatch":
            return PathChange(raw["replacePrefixMatch"], is_prefix=True)
        return PathChange(self.path(raw["replaceFullPath"]))

    def backend(self, raw: Raw, kind: RouteKind) -> BackendRef:
        namespace = raw.get("namespace") or self.namespace
        ref = ObjectRef(raw.get("group") or "core", raw.get("kind") or "Service", raw["name"], namespace)
        # A filter that only this backend cannot have costs only this backend's share.
        own = _Reader(self.namespace)
        filters = own.filters(raw, kind)
        weight = raw.get("weight")
        return BackendRef(ref, raw.get("port"), 1 if weight is None else weight, filters, "; ".join(own.problems))


def parse_http_route(raw: Raw) -> Route:
    """A HTTPRoute of either group."""
    group = POLICY_GROUP if raw["apiVersion"].startswith(POLICY_GROUP) else GATEWAY_GROUP
    return _route(raw, group, RouteKind.HTTP, _http_rule)


def parse_grpc_route(raw: Raw) -> Route:
    """A GRPCRoute."""
    return _route(raw, GATEWAY_GROUP, RouteKind.GRPC, _grpc_rule)


def parse_tls_route(raw: Raw) -> Route:
    """A TLSRoute."""
    return _route(raw, GATEWAY_GROUP, RouteKind.TLS, lambda reader, rule: _bare_rule(reader, rule, RouteKind.TLS))


def parse_tcp_route(raw: Raw) -> Route:
    """A TCPRoute."""
    return _route(raw, GATEWAY_GROUP, RouteKind.TCP, lambda reader, rule: _bare_rule(reader, rule, RouteKind.TCP))


def parse_reference_grant(raw: Raw) -> ReferenceGrant:
    """A ReferenceGrant."""
    spec = raw["spec"]
    return ReferenceGrant(
        object_name(raw),
        tuple(GrantedFrom(each.get("group") or "", each["kind"], each["namespace"]) for each in spec["from"]),
        tuple(GrantedTo(each.get("group") or "", each["kind"], each.get("name") or "") for each in spec["to"]),
    )


def parse_egress_network(raw: Raw) -> EgressNetwork:
    """An EgressNetwork."""
    spec = raw["spec"]
    if spec["trafficPolicy"] not in ("Allow", "Deny"):
        raise ValueError("trafficPolicy: expected Allow or Deny")
    return EgressNetwork(
        name=object_name(raw),
        allows=spec["trafficPolicy"] == "Allow",
        networks=client_networks(spec.get("networks")),
        created=raw["metadata"].get("creationTimestamp") or "",
        annotations=policy_annotations(raw),
    )


def _route(raw: Raw, group: str, kind: RouteKind, read_rule: Callable[[_Reader, Raw], RouteRule]) -> Route:
    name, spec, metadata = object_name(raw), raw.get("spec") or {}, raw["metadata"]
    reader = _Reader(name.namespace)
    rules = tuple(read_rule(reader, rule) for rule in spec.get("rules") or ())
    if kind in (RouteKind.TLS, RouteKind.TCP) and len(rules) != 1:
        reader.problems.append(f"a {kind.value} needs exactly one rule")
    resilience = resilience_from_annotations(metadata.get("annotations") or {})
    return Route(
        id=RouteId(group, kind, name),
        parents=tuple(_parents(spec, group, name.namespace)),
        rules=rules,
        hostnames=tuple(hostname.lower() for hostname in spec.get("hostnames") or ()),
        created=metadata.get("creationTimestamp") or "",
        timeouts=resilience.timeouts,
        http_retry=resilience.http_retry,
        grpc_retry=resilience.grpc_retry,
        problems=tuple(dict.fromkeys(reader.problems)),
        mistakes=resilience.mistakes,
    )


def _parents(spec: Raw, group: str, namespace: str) -> Iterator[ParentRef]:
    for ref in spec.get("parentRefs") or ():
        # An empty group is core; a missing one is the default of the route's own group.
        parent_group = ref.get("group", group).lower() or "core"
        kind = _PARENTS.get((parent_group, (ref.get("kind") or "Gateway").lower()))
        if kind is not None:
            name = Name(ref.get("namespace") or namespace, ref["name"])
            yield ParentRef(Parent(kind, name), ref.get("port"), ref.get("sectionName") or "")


def _http_rule(reader: _Reader, raw: Raw) -> RouteRule:
    timeouts = raw.get("timeouts") or {}
    return RouteRule(
        matches=tuple(reader.http_match(each) for each in raw.get("matches") or ()),
        filters=reader.filters(raw, RouteKind.HTTP),
        backends=tuple(reader.backend(each, RouteKind.HTTP) for each in raw.get("backendRefs") or ()),
        name=raw.get("name") or "",
        request_timeout_ms=_limit_ms(timeouts.get("request")),
        backend_timeout_ms=_limit_ms(timeouts.get("backendRequest")),
        retry=_retry(raw.get("retry")),
    )


def _limit_ms(duration: str | None) -> int | None:
    """Zero is no limit, by Gateway API."""
    return (go_duration_ms(duration) or None) if duration else None


def _retry(raw: Raw | None) -> HttpRetry | None:
    """The experimental field of HTTPRoute rules."""
    if raw is None:
        return None
    codes = tuple((code, code) for code in raw.get("codes") or ())
    return HttpRetry(codes, raw.get("attempts") or 1, backoff_ms=_limit_ms(raw.get("backoff")))


def _grpc_rule(reader: _Reader, raw: Raw) -> RouteRule:
    return RouteRule(
        matches=tuple(reader.grpc_match(each) for each in raw.get("matches") or ()),
        filters=reader.filters(raw, RouteKind.GRPC),
        backends=tuple(reader.backend(each, RouteKind.GRPC) for each in raw.get("backendRefs") or ()),
        name=raw.get("name") or "",
    )


def _bare_rule(reader: _Reader, raw: Raw, kind: RouteKind) -> RouteRule:
    return RouteRule(
        backends=tuple(reader.backend(each, kind) for each in raw.get("backendRefs") or ()),
        name=raw.get("name") or "",
    )
