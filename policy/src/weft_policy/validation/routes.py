"""Routes of every kind. Source: the Kubernetes contract, 3.3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from weft_policy.core.durations import go_duration_ms
from weft_policy.core.resilience import bad_route_annotations
from weft_policy.core.words import (
    header_name_problem,
    header_value_problem,
    method_problem,
    path_problem,
    pattern_problem,
)
from weft_policy.validation.findings import Field, Finding
from weft_policy.validation.references import EGRESS_NETWORK, GATEWAY_GROUP, POLICY_GROUP, SERVICE, target_of

_REGEX: Final = "RegularExpression"
_MODIFIERS: Final = ("requestHeaderModifier", "responseHeaderModifier")


def policy_http_route(obj: Field) -> Iterator[Finding]:
    """A HTTPRoute of policy.linkerd.io."""
    yield from _attached(obj, POLICY_GROUP, is_grpc=False)
    for rule in obj["spec"]["rules"].items():
        yield from _http_rule(rule)
        yield from _timeouts(rule["timeouts"])


def gateway_http_route(obj: Field) -> Iterator[Finding]:
    """A HTTPRoute of the Gateway API."""
    yield from _attached(obj, GATEWAY_GROUP, is_grpc=False)
    for rule in obj["spec"]["rules"].items():
        yield from _http_rule(rule)
        yield from _backends(rule)


def grpc_route(obj: Field) -> Iterator[Finding]:
    """A GRPCRoute."""
    yield from _attached(obj, GATEWAY_GROUP, is_grpc=True)
    for rule in obj["spec"]["rules"].items():
        for match in rule["matches"].items():
            method = match["method"]
            if method["type"].text("Exact") != "Exact":
                yield method["type"].finding("gRPC methods are matched exactly; patterns are not supported")
            elif method and not method["service"].text("") and not method["method"].text(""):
                yield method.finding("expected a service, a method, or both")
            yield from _header_matches(match["headers"])
        yield from _filters(rule)
        yield from _backends(rule)


def single_rule_route(obj: Field) -> Iterator[Finding]:
    """A TLSRoute or a TCPRoute."""
    yield from _egress_ports(obj, GATEWAY_GROUP)
    rules = obj["spec"]["rules"]
    count = len(list(rules.items()))
    if count != 1:
        yield rules.finding(f"expected exactly one rule, found {count}")


def _attached(obj: Field, group: str, *, is_grpc: bool) -> Iterator[Finding]:
    yield from _egress_ports(obj, group)
    parents = {target_of(parent, group=group, kind="Gateway") for parent in obj["spec"]["parentRefs"].items()}
    if parents & {SERVICE, EGRESS_NETWORK}:
        annotations = obj["metadata"]["annotations"]
        for bad in bad_route_annotations(annotations.object(), is_grpc=is_grpc):
            yield Finding(f"{annotations.path}[{bad.name}]", str(bad))


def _egress_ports(obj: Field, group: str) -> Iterator[Finding]:
    for parent in obj["spec"]["parentRefs"].items():
        if target_of(parent, group=group, kind="Gateway") == EGRESS_NETWORK and not parent["port"]:
            yield parent.finding("an EgressNetwork needs a port beside its name")


def _http_rule(rule: Field) -> Iterator[Finding]:
    for match in rule["matches"].items():
        yield from _http_match(match)
    yield from _filters(rule)


def _http_match(match: Field) -> Iterator[Finding]:
    path = match["path"]
    value = path["value"]
    is_pattern = path["type"].text("PathPrefix") == _REGEX
    yield from _word(value, pattern_problem if is_pattern else path_problem, "/")
    yield from _header_matches(match["headers"])
    for param in match["queryParams"].items():
        param["name"].text()
        if param["type"].text("Exact") == _REGEX:
            yield from _word(param["value"], pattern_problem)
    if match["method"]:
        yield from _word(match["method"], method_problem)


def _header_matches(headers: Field) -> Iterator[Finding]:
    for header in headers.items():
        yield from _word(header["name"], header_name_problem)
        is_pattern = header["type"].text("Exact") == _REGEX
        yield from _word(header["value"], pattern_problem if is_pattern else header_value_problem)


def _filters(rule: Field) -> Iterator[Finding]:
    for one in rule["filters"].items():
        for modifier in _MODIFIERS:
            for change in ("add", "set"):
                for header in one[modifier][change].items():
                    yield from _word(header["name"], header_name_problem)
                    yield from _word(header["value"], header_value_problem)
            for removed in one[modifier]["remove"].items():
                yield from _word(removed, header_name_problem)
        path = one["requestRedirect"]["path"]
        for replacement in ("replaceFullPath", "replacePrefixMatch"):
            if path[replacement]:
                yield from _word(path[replacement], path_problem)


def _backends(rule: Field) -> Iterator[Finding]:
    for backend in rule["backendRefs"].items():
        # What is no Service belongs to other controllers.
        if target_of(backend, kind="Service") == SERVICE and not backend["port"].value:
            yield backend.finding("a Service needs a port beside its name")


def _timeouts(timeouts: Field) -> Iterator[Finding]:
    given = {name: timeouts[name] for name in ("request", "backendRequest") if timeouts[name]}
    negative = [one for one in given.values() if one.text().startswith("-")]
    for one in negative:
        yield one.finding(f"{one.text()} is negative")
    if len(given) == 2 and not negative:
        request, backend = given["request"], given["backendRequest"]
        if _duration_ms(backend) > _duration_ms(request):
            yield backend.finding(f"{backend.text()} must not be greater than the request's {request.text()}")
    elif not negative:
        for one in given.values():
            _duration_ms(one)


def _duration_ms(field: Field) -> int:
    try:
        return go_duration_ms(field.text())
    except ValueError as error:
        raise field.malformed("a duration such as 500ms, 10s or 1m30s") from error


def _word(field: Field, problem_of: Callable[[str], str], otherwise: str | None = None) -> Iterator[Finding]:
    if problem := problem_of(field.text(otherwise)):
        yield field.finding(problem)
