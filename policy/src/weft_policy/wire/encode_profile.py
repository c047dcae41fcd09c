"""Service profiles as messages of io.linkerd.proxy.destination."""

from __future__ import annotations

from typing import Any, assert_never

from weft_proto.linkerd import destination_pb2 as pb
from weft_proto.linkerd import meta_pb2

from weft_policy.core.service_profiles import (
    AllOf,
    AnyOf,
    Condition,
    Method,
    Not,
    PathRegex,
    ProfileRoute,
    RetryBudget,
    ServiceProfile,
    StatusRange,
)
from weft_policy.wire.encode_common import milliseconds
from weft_policy.wire.encode_routes import http_method


def service_profile(profile: ServiceProfile, port: int) -> pb.DestinationProfile:
    """Routes, budget and overrides. port: of overrides that name none."""
    resource = meta_pb2.Resource(
        group="linkerd.io", kind="ServiceProfile", name=profile.name.name, namespace=profile.name.namespace
    )
    return pb.DestinationProfile(
        routes=map(_route, profile.routes),
        retry_budget=retry_budget(profile.budget),
        dst_overrides=[
            pb.WeightedDst(authority=_with_port(override.authority, port), weight=override.weight)
            for override in profile.overrides
        ],
        profile_ref=meta_pb2.Metadata(resource=resource),
    )


def retry_budget(budget: RetryBudget) -> pb.RetryBudget:
    """A budget."""
    return pb.RetryBudget(
        retry_ratio=budget.ratio, min_retries_per_second=budget.min_per_second, ttl=milliseconds(budget.ttl_ms)
    )


def _route(route: ProfileRoute) -> pb.Route:
    return pb.Route(
        condition=_request_match(route.condition),
        response_classes=[
            pb.ResponseClass(condition=_response_match(found.condition), is_failure=found.is_failure)
            for found in route.response_classes
        ],
        metrics_labels={"route": route.name},
        is_retryable=route.is_retryable,
        timeout=None if route.timeout_ms is None else milliseconds(route.timeout_ms),
    )


def _request_match(condition: Condition) -> pb.RequestMatch:
    match condition:
        case AllOf(conditions):
            return pb.RequestMatch(all=pb.RequestMatch.Seq(matches=map(_request_match, conditions)))
        case AnyOf(conditions):
            return pb.RequestMatch(any=pb.RequestMatch.Seq(matches=map(_request_match, conditions)))
        case Not(inner):
            negated: dict[str, Any] = {"not": _request_match(inner)}
            return pb.RequestMatch(**negated)
        case PathRegex(pattern):
            return pb.RequestMatch(path=pb.PathMatch(regex=pattern))
        case Method(method):
            return pb.RequestMatch(method=http_method(method))
        case StatusRange():
            raise ValueError("a request has no status")
        case _:
            assert_never(condition)


def _response_match(condition: Condition) -> pb.ResponseMatch:
    match condition:
        case AllOf(conditions):
            return pb.ResponseMatch(all=pb.ResponseMatch.Seq(matches=map(_response_match, conditions)))
        case AnyOf(conditions):
            return pb.ResponseMatch(any=pb.ResponseMatch.Seq(matches=map(_response_match, conditions)))
        case Not(inner):
            negated: dict[str, Any] = {"not": _response_match(inner)}
            return pb.ResponseMatch(**negated)
        case StatusRange(first, last):
            return pb.ResponseMatch(status=pb.HttpStatusRange(min=first, max=last))
        case PathRegex() | Method():
            raise ValueError("a response has neither path nor method")
        case _:
            assert_never(condition)


def _with_port(authority: str, port: int) -> str:
    return authority if authority.rpartition(":")[2].isdigit() and ":" in authority else f"{authority}:{port}"
