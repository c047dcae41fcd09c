"""What follows a certificate but must not delay it: the inventory record, the Kubernetes event.

Owns one bounded queue of events and its worker, which spares the API server: when the queue is full the newest event is
dropped and counted, and no service account hears of more than a few certificates in a row. Certify is worth more than
its paperwork.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from weft_common.kube.client import KubeClient
from weft_common.log import get_logger

from weft_identity.core.inventory import LeafRecord
from weft_identity.kube import KubeEvent, post_event
from weft_identity.ports import Material
from weft_identity.store import CertificateInventory

_QUEUE_LIMIT: Final = 1024
# Under the 100 requests a second that the chart allows this service, and a hundredth of a core.
_EVENT_EVERY_S: Final = 0.05
# As Kubernetes' own event recorder does it: 25 at once for one object, then one in five minutes.
_BURST: Final = 25
_REFILL_S: Final = 300.0
_REMEMBERED_OBJECTS: Final = 4096
# A broken issuer fails every call; one event a minute tells the story.
_SAME_EVENT_EVERY_S: Final = 60.0

_log = get_logger(__name__)


@dataclass(slots=True)
class _Budget:
    """Events that an object may still cause. Forgets the objects that were quiet longest."""

    left: OrderedDict[tuple[str, str], tuple[float, datetime]] = field(default_factory=OrderedDict)

    def spend(self, key: tuple[str, str], now: datetime) -> bool:
        """Whether there was one left."""
        tokens, since = self.left.pop(key, (float(_BURST), now))
        tokens = min(float(_BURST), tokens + (now - since).total_seconds() / _REFILL_S)
        self.left[key] = (tokens - 1 if tokens >= 1 else tokens, now)
        if len(self.left) > _REMEMBERED_OBJECTS:
            self.left.popitem(last=False)
        return tokens >= 1


@dataclass(slots=True)
class Aftermath:
    """Implements ObserveCertify, and hears about issuer reloads and rotations. namespace: the control plane's."""

    kube: KubeClient
    inventory: CertificateInventory
    namespace: str
    now: Callable[[], datetime]
    registry: CollectorRegistry
    _queue: asyncio.Queue[tuple[KubeEvent, datetime]] = field(init=False)
    _dropped: Counter = field(init=False)
    _budget: _Budget = field(default_factory=_Budget, init=False)
    _issuer_invalid_at: datetime | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._queue = asyncio.Queue(_QUEUE_LIMIT)
        self._dropped = Counter(
            "weft_identity_dropped_events", "Kubernetes events dropped under load", registry=self.registry
        )

    def leaf_issued(self, leaf: LeafRecord, kind: str) -> None:
        """Record it and tell the workload's service account."""
        self.inventory.issued(leaf)
        if kind != "serviceaccount":
            return
        account = leaf.identity.partition(".")[0]
        if self._budget.spend((leaf.namespace, account), leaf.issued_at):
            message = f"issued certificate for {leaf.identity} until {leaf.not_after.isoformat()}: {leaf.serial}"
            self._post(KubeEvent(leaf.namespace, "v1", "ServiceAccount", account, "IssuedLeafCertificate", message))
        else:
            self._dropped.inc()

    def issuer_invalid(self, reason: str) -> None:
        """Warn on our Deployment, not more often than once a minute."""
        now, last = self.now(), self._issuer_invalid_at
        if last is not None and (now - last).total_seconds() < _SAME_EVENT_EVERY_S:
            return
        self._issuer_invalid_at = now
        self.own_event("IssuerValidationFailed", reason, True)

    def issuer_updated(self, material: Material) -> None:
        """New material is in use."""
        message = f"issuer reloaded, valid until {material.issuer.not_after.isoformat()}; {len(material.roots)} anchors"
        self.own_event("IssuerUpdated", message, False)

    def issuer_update_skipped(self, reason: str) -> None:
        """New material is unusable; the old stays."""
        self.own_event("IssuerUpdateSkipped", reason, True)

    def own_event(self, reason: str, message: str, is_warning: bool) -> None:
        """An event on our Deployment, and a line in the log."""
        (_log.warning if is_warning else _log.info)(message, reason=reason)
        self._post(KubeEvent(self.namespace, "apps/v1", "Deployment", "linkerd-identity", reason, message, is_warning))

    async def post_events(self) -> None:
        """Post the queued events one by one until cancelled."""
        while True:
            event, at = await self._queue.get()
            await post_event(self.kube, event, at)
            await asyncio.sleep(_EVENT_EVERY_S)

    def _post(self, event: KubeEvent) -> None:
        try:
            self._queue.put_nowait((event, self.now()))
        except asyncio.QueueFull:
            self._dropped.inc()
