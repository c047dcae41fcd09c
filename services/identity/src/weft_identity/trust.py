"""What to trust and who signs now, told to every proxy that follows, as it changes (weft.identity.v1.Trust).

A stream is opened with the proxy's token, checked as for Certify; its reports are worth as much as that. Knows nothing
of rotations: it tells what the mounted files say, and keeps what proxies report.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import grpc
from prometheus_client import CollectorRegistry, Gauge
from weft_common.log import get_logger
from weft_proto.weft import identity_pb2, identity_pb2_grpc

from weft_identity.authority import ProveWorkload
from weft_identity.core.inventory import ProxyRecord
from weft_identity.core.refusal import CertifyRefused, RefusalReason
from weft_identity.ports import Material, ReviewedToken
from weft_identity.rpc import caller_of
from weft_identity.store import CertificateInventory

FIRST_REPORT_S: Final = 10.0
# New issuer, every proxy at once: this many renewals a second leave the authority room for newcomers.
RENEWALS_PER_S: Final = 200

_log = get_logger(__name__)
_Context = grpc.aio.ServicerContext[identity_pb2.ProxyReport, identity_pb2.TrustUpdate]


@dataclass(slots=True)
class TrustNews:
    """The latest material, and a wakeup for everybody who waits for a newer one."""

    material: Material | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def publish(self, material: Material) -> None:
        """Wake all readers."""
        self.material = material
        self._changed.set()
        self._changed = asyncio.Event()

    async def updates(self) -> AsyncIterator[Material]:
        """The current material and every later one; a slow reader skips to the newest."""
        while True:
            changed = self._changed
            if self.material is not None:
                yield self.material
            await changed.wait()


class TrustService(identity_pb2_grpc.TrustServicer):
    """weft.identity.v1.Trust."""

    def __init__(
        self,
        news: TrustNews,
        proof: ProveWorkload,
        inventory: CertificateInventory,
        now: Callable[[], datetime],
        registry: CollectorRegistry,
    ) -> None:
        self._news = news
        self._proof = proof
        self._inventory = inventory
        self._now = now
        self._streams = 0
        gauge = Gauge("weft_identity_trust_streams", "Proxies that follow the trust bundle", registry=registry)
        gauge.set_function(lambda: self._streams)

    async def Follow(  # noqa: N802 - the name is the API's
        self, request_iterator: AsyncIterator[identity_pb2.ProxyReport], context: _Context
    ) -> AsyncIterator[identity_pb2.TrustUpdate]:
        """One proxy, from its first report to its end."""
        first, reviewed = await self._opened(request_iterator, context)
        self._reported(first, reviewed)
        self._streams += 1
        listening = asyncio.ensure_future(self._listen(request_iterator, first.identity, reviewed))
        try:
            async for material in self._news.updates():
                yield identity_pb2.TrustUpdate(
                    bundle_pem=material.bundle_pem,
                    issuer_id=material.issuer_id,
                    renew_within_s=1 + self._streams // RENEWALS_PER_S,
                )
        finally:
            self._streams -= 1
            listening.cancel()

    async def _opened(
        self, reports: AsyncIterator[identity_pb2.ProxyReport], context: _Context
    ) -> tuple[identity_pb2.ProxyReport, ReviewedToken]:
        try:
            async with asyncio.timeout(FIRST_REPORT_S):
                first = await anext(aiter(reports))
        except (TimeoutError, StopAsyncIteration):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the stream must begin with a report")
        if not first.identity or not first.token:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first report lacks identity or token")
        try:
            return first, await self._proof.workload(first.identity, first.token, caller_of(context))
        except CertifyRefused as refusal:
            if refusal.reason is RefusalReason.REVIEW_FAILED:
                await context.abort(grpc.StatusCode.UNAVAILABLE, refusal.message)
            _log.warning("report refused", identity=first.identity, reason=refusal.reason.value, why=refusal.message)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, refusal.message)

    async def _listen(
        self, reports: AsyncIterator[identity_pb2.ProxyReport], identity: str, reviewed: ReviewedToken
    ) -> None:
        async for report in reports:
            # A stream speaks for the workload that opened it, whatever a later report says.
            report.identity = identity
            self._reported(report, reviewed)

    def _reported(self, report: identity_pb2.ProxyReport, reviewed: ReviewedToken) -> None:
        expiry = report.leaf_not_after.ToDatetime(UTC) if report.HasField("leaf_not_after") else None
        self._inventory.reported(
            ProxyRecord(
                identity=report.identity,
                namespace=reviewed.subject.namespace,
                pod=reviewed.pod_name,
                pod_uid=reviewed.pod_uid,
                trusted_anchors=tuple(sorted(report.trusted_anchors)),
                leaf_serial=report.leaf_serial,
                leaf_issuer_id=report.leaf_issuer_id,
                leaf_not_after=expiry,
                proxy=report.proxy,
                reported_at=self._now(),
            )
        )
