"""Outbound policies as messages of io.linkerd.proxy.outbound."""

from __future__ import annotations

from typing import Final, assert_never

from weft_proto.linkerd import http_route_pb2, opaque_route_pb2
from weft_proto.linkerd import outbound_pb2 as pb

from weft_policy.core.endpoints import Address
from weft_policy.core.outbound import ForbiddenPort, OutboundProtocol, OutsideCluster, ServicePolicy
from weft_policy.core.resilience import (
    ConsecutiveFailures,
    HttpRetry,
    Penalty,
    Resilience,
    Timeouts,
    UnifiedBreaker,
)
from weft_policy.wire.encode_common import default_metadata, milliseconds, service_metadata
from weft_policy.wire.encode_destination import weighted_addr

_DETECT_TIMEOUT: Final = milliseconds(10_000)
_QUEUE: Final = pb.Queue(capacity=100, failfast_timeout=milliseconds(3_000))
_DEFAULT_RTT: Final = milliseconds(30)
_DECAY: Final = milliseconds(10_000)
_MAX_REPLAY_BYTES: Final = 65_536
_RETRY_BACKOFF: Final = pb.ExponentialBackoff(
    min_backoff=milliseconds(25), max_backoff=milliseconds(250), jitter_ratio=1.0
)
_EVERY_PATH: Final = http_route_pb2.HttpRouteMatch(path=http_route_pb2.PathMatch(prefix="/"))


def outbound_message(answer: ServicePolicy | ForbiddenPort | OutsideCluster) -> pb.OutboundPolicy:
    """A policy as it is sent."""
    match answer:
        case ServicePolicy():
            return _service_policy(answer)
        case ForbiddenPort():
            return _forbidden_port(answer)
        case OutsideCluster():
            return _outside_cluster(answer)
        case _:
            assert_never(answer)


def _service_policy(policy: ServicePolicy) -> pb.OutboundPolicy:
    backend = _balancer(policy)
    http = pb.HttpRoute(metadata=default_metadata("http"), rules=[_http_rule(backend, policy.resilience)])
    opaque = _opaque("opaq", backend)
    accrual = _failure_accrual(policy.resilience)
    http1 = pb.ProxyProtocol.Http1(routes=[http], failure_accrual=accrual)
    http2 = pb.ProxyProtocol.Http2(routes=[http], failure_accrual=accrual)
    match policy.protocol:
        case OutboundProtocol.DETECT:
            detect = pb.ProxyProtocol.Detect(timeout=_DETECT_TIMEOUT, opaque=opaque, http1=http1, http2=http2)
            protocol = pb.ProxyProtocol(detect=detect)
        case OutboundProtocol.OPAQUE:
            protocol = pb.ProxyProtocol(opaque=opaque)
        case OutboundProtocol.HTTP1:
            protocol = pb.ProxyProtocol(http1=http1)
        case OutboundProtocol.HTTP2:
            protocol = pb.ProxyProtocol(http2=http2)
        case _:
            assert_never(policy.protocol)
    return pb.OutboundPolicy(protocol=protocol, metadata=service_metadata(policy.service, policy.port))


def _forbidden_port(answer: ForbiddenPort) -> pb.OutboundPolicy:
    rule = pb.OpaqueRoute.Rule(
        backends=pb.OpaqueRoute.Distribution(empty=pb.OpaqueRoute.Distribution.Empty()),
        filters=[pb.OpaqueRoute.Filter(forbidden=opaque_route_pb2.Forbidden())],
    )
    route = pb.OpaqueRoute(metadata=default_metadata("undefined-port"), rules=[rule])
    return pb.OutboundPolicy(
        protocol=pb.ProxyProtocol(opaque=pb.ProxyProtocol.Opaque(routes=[route])),
        metadata=service_metadata(answer.service, answer.port),
    )


def _outside_cluster(answer: OutsideCluster) -> pb.OutboundPolicy:
    name = "egress-fallback"
    backend = pb.Backend(
        metadata=default_metadata(name), queue=_QUEUE, forward=weighted_addr(Address(answer.ip, answer.port))
    )
    http = pb.HttpRoute(metadata=default_metadata(name), rules=[_http_rule(backend, Resilience())])
    detect = pb.ProxyProtocol.Detect(
        timeout=_DETECT_TIMEOUT,
        opaque=_opaque(name, backend),
        http1=pb.ProxyProtocol.Http1(routes=[http]),
        http2=pb.ProxyProtocol.Http2(routes=[http]),
    )
    return pb.OutboundPolicy(protocol=pb.ProxyProtocol(detect=detect), metadata=default_metadata(name))


def _balancer(policy: ServicePolicy) -> pb.Backend:
    discovery = pb.Backend.EndpointDiscovery(
        dst=pb.Backend.EndpointDiscovery.DestinationGet(path=f"{policy.authority}:{policy.port}")
    )
    penalty = policy.resilience.load_penalty
    if penalty is None:
        load = pb.Backend.BalanceP2c.PeakEwma(default_rtt=_DEFAULT_RTT, decay=_DECAY)
        balancer = pb.Backend.BalanceP2c(discovery=discovery, peak_ewma=load)
    else:
        penalised = pb.Backend.BalanceP2c.PenaltyPeakEwma(
            default_rtt=_DEFAULT_RTT,
            decay=_DECAY,
            penalty=milliseconds(penalty.penalty_ms),
            max_retry_after=milliseconds(penalty.max_retry_after_ms),
            penalty_decay=_DECAY,
        )
        balancer = pb.Backend.BalanceP2c(discovery=discovery, penalty_peak_ewma=penalised)
    return pb.Backend(metadata=service_metadata(policy.service, policy.port), queue=_QUEUE, balancer=balancer)


def _opaque(name: str, backend: pb.Backend) -> pb.ProxyProtocol.Opaque:
    first = pb.OpaqueRoute.Distribution.FirstAvailable(backends=[pb.OpaqueRoute.RouteBackend(backend=backend)])
    rule = pb.OpaqueRoute.Rule(backends=pb.OpaqueRoute.Distribution(first_available=first))
    return pb.ProxyProtocol.Opaque(routes=[pb.OpaqueRoute(metadata=default_metadata(name), rules=[rule])])


def _http_rule(backend: pb.Backend, resilience: Resilience) -> pb.HttpRoute.Rule:
    first = pb.HttpRoute.Distribution.FirstAvailable(backends=[pb.HttpRoute.RouteBackend(backend=backend)])
    return pb.HttpRoute.Rule(
        matches=[_EVERY_PATH],
        backends=pb.HttpRoute.Distribution(first_available=first),
        timeouts=_timeouts(resilience.timeouts),
        retry=_http_retry(resilience.http_retry),
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
