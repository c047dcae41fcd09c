"""Outbound policies as messages of io.linkerd.proxy.outbound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeVar, assert_never

from weft_proto.linkerd import grpc_route_pb2, http_route_pb2, meta_pb2, opaque_route_pb2
from weft_proto.linkerd import outbound_pb2 as pb

from weft_policy.core.endpoints import Address
from weft_policy.core.outbound import (
    Backend,
    BuiltIn,
    ForwardBackend,
    InvalidBackend,
    Origin,
    OutboundPolicy,
    OutboundProtocol,
    PolicyRoute,
    PolicyRule,
    ServiceBackend,
    Share,
)
from weft_policy.core.resilience import (
    ConsecutiveFailures,
    GrpcRetry,
    HttpRetry,
    LoadPenalty,
    Penalty,
    Resilience,
    Timeouts,
    UnifiedBreaker,
)
from weft_policy.core.routes import (
    Fail,
    FailReason,
    Filter,
    GrpcMatch,
    HeaderChange,
    HttpMatch,
    Redirect,
    UrlRewrite,
)
from weft_policy.wire.encode_common import default_metadata, milliseconds
from weft_policy.wire.encode_destination import weighted_addr
from weft_policy.wire.encode_routes import (
    grpc_match,
    host_match,
    http_match,
    redirect,
    request_headers,
    response_headers,
    sni_match,
    url_rewrite,
)

DistributionT = TypeVar(
    "DistributionT",
    pb.HttpRoute.Distribution,
    pb.GrpcRoute.Distribution,
    pb.OpaqueRoute.Distribution,
    pb.TlsRoute.Distribution,
)

_DETECT_TIMEOUT: Final = milliseconds(10_000)
_QUEUE: Final = pb.Queue(capacity=100, failfast_timeout=milliseconds(3_000))
_DEFAULT_RTT: Final = milliseconds(30)
_DECAY: Final = milliseconds(10_000)
_MAX_REPLAY_BYTES: Final = 65_536
_RETRY_BACKOFF: Final = pb.ExponentialBackoff(
    min_backoff=milliseconds(25), max_backoff=milliseconds(250), jitter_ratio=1.0
)
_HTTP_STATUS: Final = {FailReason.INVALID: 500, FailReason.DENIED: 403}
# UNAVAILABLE, as Gateway API asks for a backend that cannot be used, and PERMISSION_DENIED.
_GRPC_CODE: Final = {FailReason.INVALID: 14, FailReason.DENIED: 7}


def outbound_message(policy: OutboundPolicy, *, to_weft: bool = True) -> pb.OutboundPolicy:
    """A policy as it is sent. to_weft: to one of our proxies, which understand more filters than Linkerd's."""
    return pb.OutboundPolicy(protocol=_protocol(policy, to_weft), metadata=_metadata(policy.origin))


def _protocol(policy: OutboundPolicy, to_weft: bool) -> pb.ProxyProtocol:
    opaque = pb.ProxyProtocol.Opaque(routes=[_opaque_route(policy.opaque)] if policy.opaque else [])
    accrual = _failure_accrual(policy.resilience)

    def http() -> list[pb.HttpRoute]:
        return [_http_route(route, to_weft) for route in policy.routes]

    match policy.protocol:
        case OutboundProtocol.DETECT:
            routes = http()
            return pb.ProxyProtocol(
                detect=pb.ProxyProtocol.Detect(
                    timeout=_DETECT_TIMEOUT,
                    opaque=opaque,
                    http1=pb.ProxyProtocol.Http1(routes=routes, failure_accrual=accrual),
                    http2=pb.ProxyProtocol.Http2(routes=routes, failure_accrual=accrual),
                )
            )
        case OutboundProtocol.OPAQUE:
            return pb.ProxyProtocol(opaque=opaque)
        case OutboundProtocol.HTTP1:
            return pb.ProxyProtocol(http1=pb.ProxyProtocol.Http1(routes=http(), failure_accrual=accrual))
        case OutboundProtocol.HTTP2:
            return pb.ProxyProtocol(http2=pb.ProxyProtocol.Http2(routes=http(), failure_accrual=accrual))
        case OutboundProtocol.GRPC:
            grpc_routes = [_grpc_route(route, to_weft) for route in policy.routes]
            return pb.ProxyProtocol(grpc=pb.ProxyProtocol.Grpc(routes=grpc_routes, failure_accrual=accrual))
        case OutboundProtocol.TLS:
            return pb.ProxyProtocol(tls=pb.ProxyProtocol.Tls(routes=[_tls_route(route) for route in policy.routes]))
        case _:
            assert_never(policy.protocol)


def _http_route(route: PolicyRoute, to_weft: bool) -> pb.HttpRoute:
    return pb.HttpRoute(
        metadata=_metadata(route.origin),
        hosts=map(host_match, route.hosts),
        rules=[_http_rule(rule, to_weft) for rule in route.rules],
    )


def _http_rule(rule: PolicyRule, to_weft: bool) -> pb.HttpRoute.Rule:
    of = pb.HttpRoute
    backends = [
        of.WeightedRouteBackend(
            weight=share.weight,
            backend=of.RouteBackend(
                backend=_backend(share.backend), filters=_http_filters(_on_the_way(share), to_weft)
            ),
        )
        for share in rule.shares
    ]
    return of.Rule(
        matches=[http_match(match) for match in rule.matches or (HttpMatch(),) if isinstance(match, HttpMatch)],
        filters=_http_filters(rule.filters, to_weft),
        backends=_distribution(of.Distribution(), rule, backends),
        timeouts=_timeouts(rule.timeouts),
        retry=_http_retry(rule.http_retry),
    )


def _http_filters(filters: Iterable[Filter], to_weft: bool) -> Iterable[pb.HttpRoute.Filter]:
    for found in filters:
        match found:
            case HeaderChange(on_response=True):
                yield pb.HttpRoute.Filter(response_header_modifier=response_headers(found))
            case HeaderChange():
                yield pb.HttpRoute.Filter(request_header_modifier=request_headers(found))
            case Redirect():
                yield pb.HttpRoute.Filter(redirect=redirect(found))
            case UrlRewrite() if to_weft:
                yield pb.HttpRoute.Filter(url_rewrite=url_rewrite(found))
            case UrlRewrite():
                yield from _http_filters((_NOT_UNDERSTOOD,), to_weft)
            case Fail(reason, message):
                injector = http_route_pb2.HttpFailureInjector(status=_HTTP_STATUS[reason], message=message)
                yield pb.HttpRoute.Filter(failure_injector=injector)
            case _:
                assert_never(found)


def _grpc_route(route: PolicyRoute, to_weft: bool) -> pb.GrpcRoute:
    return pb.GrpcRoute(
        metadata=_metadata(route.origin),
        hosts=map(host_match, route.hosts),
        rules=[_grpc_rule(rule, to_weft) for rule in route.rules],
    )


def _grpc_rule(rule: PolicyRule, to_weft: bool) -> pb.GrpcRoute.Rule:
    of = pb.GrpcRoute
    backends = [
        of.WeightedRouteBackend(
            weight=share.weight,
            backend=of.RouteBackend(
                backend=_backend(share.backend), filters=_grpc_filters(_on_the_way(share), to_weft)
            ),
        )
        for share in rule.shares
    ]
    return of.Rule(
        matches=[grpc_match(match) for match in rule.matches or (GrpcMatch(),) if isinstance(match, GrpcMatch)],
        filters=_grpc_filters(rule.filters, to_weft),
        backends=_distribution(of.Distribution(), rule, backends),
        timeouts=_timeouts(rule.timeouts),
        retry=_grpc_retry(rule.grpc_retry),
    )


def _grpc_filters(filters: Iterable[Filter], to_weft: bool) -> Iterable[pb.GrpcRoute.Filter]:
    for found in filters:
        match found:
            case HeaderChange(on_response=False):
                yield pb.GrpcRoute.Filter(request_header_modifier=request_headers(found))
            case HeaderChange() if to_weft:
                yield pb.GrpcRoute.Filter(response_header_modifier=response_headers(found))
            case Fail(reason, message):
                injector = grpc_route_pb2.GrpcFailureInjector(code=_GRPC_CODE[reason], message=message)
                yield pb.GrpcRoute.Filter(failure_injector=injector)
            case HeaderChange() | Redirect() | UrlRewrite():
                yield from _grpc_filters((_NOT_UNDERSTOOD,), to_weft)
            case _:
                assert_never(found)


_NOT_UNDERSTOOD: Final = Fail(FailReason.INVALID, "this proxy does not support a filter of the route")


def _opaque_route(route: PolicyRoute) -> pb.OpaqueRoute:
    of = pb.OpaqueRoute
    (rule,) = route.rules

    def filters(found: Iterable[Filter]) -> list[pb.OpaqueRoute.Filter]:
        refusals = map(_refusal, (each for each in found if isinstance(each, Fail)))
        return [
            of.Filter(invalid=each) if isinstance(each, opaque_route_pb2.Invalid) else of.Filter(forbidden=each)
            for each in refusals
        ]

    backends = [
        of.WeightedRouteBackend(
            weight=share.weight,
            backend=of.RouteBackend(backend=_backend(share.backend), filters=filters(_on_the_way(share))),
        )
        for share in rule.shares
    ]
    distribution = _distribution(of.Distribution(), rule, backends)
    return of(metadata=_metadata(route.origin), rules=[of.Rule(backends=distribution, filters=filters(rule.filters))])


def _tls_route(route: PolicyRoute) -> pb.TlsRoute:
    of = pb.TlsRoute
    (rule,) = route.rules

    def filters(found: Iterable[Filter]) -> list[pb.TlsRoute.Filter]:
        refusals = map(_refusal, (each for each in found if isinstance(each, Fail)))
        return [
            of.Filter(invalid=each) if isinstance(each, opaque_route_pb2.Invalid) else of.Filter(forbidden=each)
            for each in refusals
        ]

    backends = [
        of.WeightedRouteBackend(
            weight=share.weight,
            backend=of.RouteBackend(backend=_backend(share.backend), filters=filters(_on_the_way(share))),
        )
        for share in rule.shares
    ]
    distribution = _distribution(of.Distribution(), rule, backends)
    return of(
        metadata=_metadata(route.origin),
        snis=map(sni_match, route.hosts),
        rules=[of.Rule(backends=distribution, filters=filters(rule.filters))],
    )


def _refusal(fail: Fail) -> opaque_route_pb2.Invalid | opaque_route_pb2.Forbidden:
    if fail.reason is FailReason.DENIED:
        return opaque_route_pb2.Forbidden()
    return opaque_route_pb2.Invalid(message=fail.message)


def _on_the_way(share: Share) -> tuple[Filter, ...]:
    if isinstance(share.backend, InvalidBackend):
        return (Fail(FailReason.INVALID, share.backend.message),)
    return share.filters


def _distribution(message: DistributionT, rule: PolicyRule, backends: list[Any]) -> DistributionT:
    """Fill in one of the four messages of this shape. The parent itself goes out as the one first choice."""
    if not backends:
        message.empty.SetInParent()
    elif rule.is_default:
        message.first_available.backends.extend(weighted.backend for weighted in backends)
    else:
        message.random_available.backends.extend(backends)
    return message


def _backend(backend: Backend) -> pb.Backend:
    metadata = _metadata(backend.origin)
    match backend:
        case ServiceBackend(origin, authority, load_penalty):
            balancer = _balancer(f"{authority}:{origin.port}", load_penalty)
            return pb.Backend(metadata=metadata, queue=_QUEUE, balancer=balancer)
        case ForwardBackend(_, ip, port):
            return pb.Backend(metadata=metadata, queue=_QUEUE, forward=weighted_addr(Address(ip, port)))
        case InvalidBackend():
            return pb.Backend(metadata=metadata, queue=_QUEUE)
        case _:
            assert_never(backend)


def _balancer(path: str, penalty: LoadPenalty | None) -> pb.Backend.BalanceP2c:
    discovery = pb.Backend.EndpointDiscovery(dst=pb.Backend.EndpointDiscovery.DestinationGet(path=path))
    if penalty is None:
        load = pb.Backend.BalanceP2c.PeakEwma(default_rtt=_DEFAULT_RTT, decay=_DECAY)
        return pb.Backend.BalanceP2c(discovery=discovery, peak_ewma=load)
    penalised = pb.Backend.BalanceP2c.PenaltyPeakEwma(
        default_rtt=_DEFAULT_RTT,
        decay=_DECAY,
        penalty=milliseconds(penalty.penalty_ms),
        max_retry_after=milliseconds(penalty.max_retry_after_ms),
        penalty_decay=_DECAY,
    )
    return pb.Backend.BalanceP2c(discovery=discovery, penalty_peak_ewma=penalised)


def _metadata(origin: Origin) -> meta_pb2.Metadata:
    if isinstance(origin, BuiltIn):
        return default_metadata(origin.name)
    return meta_pb2.Metadata(
        resource=meta_pb2.Resource(
            group=origin.group,
            kind=origin.kind,
            name=origin.name.name,
            namespace=origin.name.namespace,
            section=origin.section,
            port=origin.port,
        )
    )


def _timeouts(timeouts: Timeouts) -> http_route_pb2.Timeouts | None:
    if timeouts == Timeouts():
        return None
    message = http_route_pb2.Timeouts()
    if timeouts.request_ms is not None:
        message.request.CopyFrom(milliseconds(timeouts.request_ms))
    if timeouts.response_ms is not None:
        message.response.CopyFrom(milliseconds(timeouts.response_ms))
    if timeouts.idle_ms is not None:
        message.idle.CopyFrom(milliseconds(timeouts.idle_ms))
    return message


def _http_retry(retry: HttpRetry | None) -> pb.HttpRoute.Retry | None:
    if retry is None:
        return None
    ranges = [pb.HttpRoute.Retry.Conditions.StatusRange(start=start, end=end) for start, end in retry.status_ranges]
    return pb.HttpRoute.Retry(
        max_retries=retry.limit,
        max_request_bytes=_MAX_REPLAY_BYTES,
        conditions=pb.HttpRoute.Retry.Conditions(status_ranges=ranges),
        timeout=None if retry.timeout_ms is None else milliseconds(retry.timeout_ms),
        backoff=_RETRY_BACKOFF if retry.backoff_ms is None else _backoff_from(retry.backoff_ms),
    )


def _backoff_from(least_ms: int) -> pb.ExponentialBackoff:
    """Grows tenfold, as the proxies' own does."""
    return pb.ExponentialBackoff(
        min_backoff=milliseconds(least_ms), max_backoff=milliseconds(10 * least_ms), jitter_ratio=1.0
    )


def _grpc_retry(retry: GrpcRetry | None) -> pb.GrpcRoute.Retry | None:
    if retry is None:
        return None
    # The schema spells one of them "deadine".
    fields = {
        ("deadine_exceeded" if word == "deadline-exceeded" else word.replace("-", "_")): True for word in retry.statuses
    }
    return pb.GrpcRoute.Retry(
        max_retries=retry.limit,
        max_request_bytes=_MAX_REPLAY_BYTES,
        conditions=pb.GrpcRoute.Retry.Conditions(**fields),
        timeout=None if retry.timeout_ms is None else milliseconds(retry.timeout_ms),
        backoff=_RETRY_BACKOFF,
    )


def _failure_accrual(resilience: Resilience) -> pb.FailureAccrual | None:
    match resilience.breaker:
        case None:
            return None
        case ConsecutiveFailures() as breaker:
            consecutive = pb.FailureAccrual.ConsecutiveFailures(
                max_failures=breaker.max_failures, backoff=_backoff(breaker.penalty)
            )
            return pb.FailureAccrual(consecutive_failures=consecutive)
        case UnifiedBreaker() as breaker:
            unified = pb.FailureAccrual.Unified(
                success_rate_threshold=breaker.threshold,
                decay=milliseconds(breaker.window_ms),
                min_requests=breaker.min_requests,
                max_consecutive_failures=breaker.max_failures,
                backoff=_backoff(breaker.penalty),
            )
            return pb.FailureAccrual(unified=unified)
        case _:
            assert_never(resilience.breaker)


def _backoff(penalty: Penalty) -> pb.ExponentialBackoff:
    return pb.ExponentialBackoff(
        min_backoff=milliseconds(penalty.min_ms),
        max_backoff=milliseconds(penalty.max_ms),
        jitter_ratio=penalty.jitter_ratio,
        respect_retry_after_hint=penalty.honors_retry_after,
    )
