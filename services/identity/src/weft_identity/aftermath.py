"""What follows a certificate but must not delay it: the inventory record, the Kubernetes event.

Owns one bounded queue and its worker. When it is full the newest job is dropped and counted: Certify is worth
more than its paperwork.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from weft_common.kube.client import KubeClient
from weft_common.log import get_logger

from weft_identity.kube import KubeEvent, post_event
from weft_identity.ports import IssuedLeaf, Material
from weft_identity.store import CertificateInventory

_QUEUE_LIMIT: Final = 1024
_CATCH_UP_EVERY_S: Final = 10.0
# A broken issuer fails every call; one event a minute tells the story.
_SAME_EVENT_EVERY_S: Final = 60.0

_log = get_logger(__name__)


@dataclass(slots=True)
class Aftermath:
    """Implements ObserveCertify, and hears about issuer reloads. namespace: the control plane's."""

    kube: KubeClient
    inventory: CertificateInventory
    namespace: str
    now: Callable[[], datetime]
    registry: CollectorRegistry
    _queue: asyncio.Queue[Callable[[], Awaitable[object]]] = field(init=False)
    _dropped: Counter = field(init=False)
    _issuer_invalid_at: datetime | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._queue = asyncio.Queue(_QUEUE_LIMIT)
        self._dropped = Counter(
            "weft_identity_dropped_records", "Events and inventory records dropped under load", registry=self.registry
        )

    def leaf_issued(self, leaf: IssuedLeaf) -> None:
        """Record it and tell the workload's service account."""
        self.inventory.remember(leaf)
        self._later(lambda: self.inventory.write(leaf))
        subject = leaf.token.subject
        if subject.kind == "serviceaccount":
            message = f"issued certificate for {leaf.identity} until {leaf.not_after.isoformat()}: {leaf.serial:x}"
            self._post(
                KubeEvent(subject.namespace, "v1", "ServiceAccount", subject.name, "IssuedLeafCertificate", message)
            )

    def issuer_invalid(self, reason: str) -> None:
        """Warn on our Deployment, not more often than once a minute."""
        now, last = self.now(), self._issuer_invalid_at
        if last is not None and (now - last).total_seconds() < _SAME_EVENT_EVERY_S:
            return
        self._issuer_invalid_at = now
        self._own_event("IssuerValidationFailed", reason, is_warning=True)

    def issuer_updated(self, material: Material) -> None:
        """New material is in use."""
        self._own_event("IssuerUpdated", f"issuer reloaded, valid until {material.issuer.not_after.isoformat()}")

    def issuer_update_skipped(self, reason: str) -> None:
        """New material is unusable; the old stays."""
        self._own_event("IssuerUpdateSkipped", reason, is_warning=True)

    async def work(self) -> None:
        """Do the queued jobs one by one until cancelled."""
        while True:
            job = await self._queue.get()
            await job()

    async def catch_up(self) -> None:
        """Bring the inventory back after Redis was away, until cancelled."""
        while True:
            await asyncio.sleep(_CATCH_UP_EVERY_S)
            if written := await self.inventory.write_missed(self.now()):
                _log.info("certificate records written again", records=written)

    def _own_event(self, reason: str, message: str, *, is_warning: bool = False) -> None:
        self._post(KubeEvent(self.namespace, "apps/v1", "Deployment", "linkerd-identity", reason, message, is_warning))

    def _post(self, event: KubeEvent) -> None:
        at = self.now()
        self._later(lambda: post_event(self.kube, event, at))

    def _later(self, job: Callable[[], Awaitable[object]]) -> None:
        try:
            self._queue.put_nowait(job)
        except asyncio.QueueFull:
            self._dropped.inc()
