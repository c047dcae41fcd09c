"""The Certify call on the wire: protobuf in, protobuf or a status out. Decides nothing.

Keeps the outcome metrics and says each refusal once per workload in the log; the token is never part of either.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry, Counter, Histogram
from weft_common.log import get_logger
from weft_proto.linkerd import identity_pb2, identity_pb2_grpc

from weft_identity.authority import Authority, CertifyOrder
from weft_identity.core.caller import Caller
from weft_identity.core.leaf import Leaf
from weft_identity.core.refusal import CertifyRefused, RefusalReason

_log = get_logger(__name__)

STATUS_OF: Final = {
    RefusalReason.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    RefusalReason.REQUEST_INCOMPLETE: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalReason.CSR_MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalReason.CSR_OVERSIZED: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalReason.ISSUER_INVALID: grpc.StatusCode.UNKNOWN,
    RefusalReason.CSR_UNACCEPTABLE: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalReason.TOKEN_REJECTED: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalReason.TOKEN_EXPIRED: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalReason.TOKEN_WRONG_AUDIENCE: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalReason.TOKEN_REPLAYED: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalReason.TOKEN_UNAUTHENTICATED: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalReason.IDENTITY_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalReason.KEY_UNSUPPORTED: grpc.StatusCode.INTERNAL,
    RefusalReason.KEY_WEAK: grpc.StatusCode.INTERNAL,
    RefusalReason.REVIEW_FAILED: grpc.StatusCode.INTERNAL,
}

# A proxy that is refused retries every 10 s; its second identical refusal tells an operator nothing new.
_REMEMBERED_REFUSALS: Final = 4096


class CertifyMetrics:
    """Counters of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.outcomes = Counter("weft_identity_certify", "Certify calls by outcome", ["outcome"], registry=registry)
        self.seconds = Histogram(
            "weft_identity_certify_duration_seconds",
            "Time to answer a Certify call, the token review included",
            registry=registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )


@dataclass(slots=True)
class _SaidOnce:
    """Remembers the last refusals, bounded; forgets the oldest."""

    seen: OrderedDict[tuple[str, RefusalReason], None] = field(default_factory=OrderedDict)

    def is_new(self, identity: str, reason: RefusalReason) -> bool:
        key = (identity, reason)
        fresh = key not in self.seen
        self.seen[key] = None
        self.seen.move_to_end(key)
        if len(self.seen) > _REMEMBERED_REFUSALS:
            self.seen.popitem(last=False)
        return fresh

    def forget(self, identity: str) -> None:
        if not self.seen:
            return
        for reason in RefusalReason:
            self.seen.pop((identity, reason), None)


class IdentityService(identity_pb2_grpc.IdentityServicer):
    """io.linkerd.proxy.identity.Identity."""

    def __init__(self, authority: Authority, metrics: CertifyMetrics) -> None:
        self._authority = authority
        self._metrics = metrics
        self._said = _SaidOnce()

    async def Certify(  # noqa: N802 - the name is the API's
        self,
        request: identity_pb2.CertifyRequest,
        context: grpc.aio.ServicerContext[identity_pb2.CertifyRequest, identity_pb2.CertifyResponse],
    ) -> identity_pb2.CertifyResponse:
        """Certify one workload."""
        started = time.perf_counter()
        order = CertifyOrder(request.identity, request.token, request.certificate_signing_request, caller_of(context))
        try:
            leaf = await self._authority.certify(order)
        except CertifyRefused as refusal:
            self._metrics.outcomes.labels(refusal.reason.value).inc()
            if self._said.is_new(order.identity, refusal.reason):
                _log.warning(
                    "certificate refused", identity=order.identity, reason=refusal.reason.value, why=refusal.message
                )
            await context.abort(STATUS_OF[refusal.reason], refusal.message)
        except Exception:
            self._metrics.outcomes.labels("error").inc()
            _log.exception("certify failed", identity=order.identity)
            await context.abort(grpc.StatusCode.INTERNAL, "the certificate authority failed; see its log")
        finally:
            self._metrics.seconds.observe(time.perf_counter() - started)
        self._said.forget(order.identity)
        self._metrics.outcomes.labels("issued").inc()
        _log.debug("certificate issued", identity=order.identity, not_after=leaf.not_after.isoformat())
        return response_from_leaf(leaf)


def caller_of(context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
    """What our own proxy says of the connection; it removes what the client itself may have written there."""
    said = dict(context.invocation_metadata() or ())
    return Caller(str(said.get("l5d-client-id", "")), str(said.get("l5d-remote-ip", "")))


def response_from_leaf(leaf: Leaf) -> identity_pb2.CertifyResponse:
    """All certificates as DER, whatever the schema's comments say: that is what proxies read."""
    valid_until = Timestamp()
    valid_until.FromDatetime(leaf.not_after)
    return identity_pb2.CertifyResponse(
        leaf_certificate=leaf.der, intermediate_certificates=leaf.intermediates, valid_until=valid_until
    )
