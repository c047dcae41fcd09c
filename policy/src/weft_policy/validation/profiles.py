"""ServiceProfiles, read strictly: unknown fields are refused too. Source: the Kubernetes contract, 3.3."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from weft_policy.core.durations import go_duration_ms
from weft_policy.core.words import pattern_problem
from weft_policy.validation.findings import Field, Finding

# Source: RFC 1123, 2.1, as Kubernetes has it for names of objects.
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_MAX_NAME: Final = 253
_STATUSES: Final = (100, 599)

_SPEC: Final = frozenset({"routes", "retryBudget", "dstOverrides", "opaquePorts"})
_ROUTE: Final = frozenset({"name", "condition", "isRetryable", "timeout", "responseClasses"})
_BUDGET: Final = frozenset({"retryRatio", "minRetriesPerSecond", "ttl"})
_REQUEST: Final = frozenset({"all", "any", "not", "pathRegex", "method"})
_RESPONSE: Final = frozenset({"all", "any", "not", "status"})


def service_profile(obj: Field) -> Iterator[Finding]:
    """A ServiceProfile."""
    name = obj["metadata"]["name"]
    if not _SUBDOMAIN.fullmatch(name.text()) or len(name.text()) > _MAX_NAME:
        yield name.finding(
            f"{name.text()!r} is no name: expected that of a Service, such as web.shop.svc.cluster.local"
        )
    spec = obj["spec"]
    yield from _unknown(spec, _SPEC)
    for route in spec["routes"].items():
        yield from _route(route)
    yield from _budget(spec["retryBudget"])
    for override in spec["dstOverrides"].items():
        yield from _unknown(override, frozenset({"authority", "weight"}))
        override["authority"].text()


def _route(route: Field) -> Iterator[Finding]:
    if not route:
        yield route.finding("is empty; remove it")
        return
    yield from _unknown(route, _ROUTE)
    if not route["name"].text(""):
        yield route["name"].finding("missing; give the route a name")
    route["isRetryable"].flag()
    if timeout := route["timeout"].text(""):
        yield from _duration(route["timeout"], timeout)
    if not route["condition"]:
        yield route["condition"].finding("missing; say which requests take the route")
    else:
        yield from _condition(route["condition"], _REQUEST)
    for response_class in route["responseClasses"].items():
        yield from _unknown(response_class, frozenset({"condition", "isFailure"}))
        response_class["isFailure"].flag()
        if not response_class["condition"]:
            yield response_class["condition"].finding("missing; say which responses are meant")
        else:
            yield from _condition(response_class["condition"], _RESPONSE)


def _condition(match: Field, allowed: frozenset[str]) -> Iterator[Finding]:
    yield from _unknown(match, allowed)
    if not any(match[name].value not in (None, "") for name in allowed):
        yield match.finding(f"is empty; set one of {', '.join(sorted(allowed))}")
    for name in ("all", "any"):
        for child in match[name].items():
            if child:
                yield from _condition(child, allowed)
            else:
                yield child.finding("is empty; remove it")
    # The definition of the kind calls it a list for requests; proxies are told of one condition.
    negated = list(match["not"].items()) if isinstance(match["not"].value, list) else [match["not"]]
    for child in negated:
        if child:
            yield from _condition(child, allowed)
    if "pathRegex" in allowed:
        match["method"].text("")
        if problem := pattern_problem(match["pathRegex"].text("")):
            yield match["pathRegex"].finding(problem)
    elif match["status"]:
        yield from _statuses(match["status"])


def _statuses(status: Field) -> Iterator[Finding]:
    yield from _unknown(status, frozenset({"min", "max"}))
    low, high = _STATUSES
    bounds = {name: status[name].whole(0, 2**32 - 1) for name in ("min", "max") if status[name]}
    for name, bound in bounds.items():
        # 0 is how an unset bound is written.
        if bound and not low <= bound <= high:
            yield status[name].finding(f"expected a status from {low} to {high}")
    if bounds.get("max") and bounds.get("min") and bounds["max"] < bounds["min"]:
        yield status["max"].finding(f"must not be less than min ({bounds['min']})")


def _budget(budget: Field) -> Iterator[Finding]:
    if not budget:
        return
    yield from _unknown(budget, _BUDGET)
    if budget["retryRatio"] and budget["retryRatio"].number() < 0:
        yield budget["retryRatio"].finding("must not be negative")
    if budget["minRetriesPerSecond"]:
        budget["minRetriesPerSecond"].whole(0, 2**32 - 1)
    if ttl := budget["ttl"].text(""):
        yield from _duration(budget["ttl"], ttl)
    else:
        yield budget["ttl"].finding("missing; say over which time retries are counted, such as 10s")


def _duration(field: Field, text: str) -> Iterator[Finding]:
    try:
        go_duration_ms(text.removeprefix("-"))
    except ValueError as error:
        yield field.finding(str(error))


def _unknown(obj: Field, allowed: frozenset[str]) -> Iterator[Finding]:
    for name in obj.object():
        if name not in allowed:
            yield Field(f"{obj.path}.{name}", None).finding(
                f"unknown field; expected one of {', '.join(sorted(allowed))}"
            )
