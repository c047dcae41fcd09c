"""Endpoint snapshots in Redis: what was last answered for each target, so that a starting replica can answer at once.

One key per target, with the resource version it was made from: written through after each change, again before it
expires while anybody listens, never over a newer one, and never by a replica that has lost the API server. A snapshot
knows no client: it is made without zone or node. It is a cache: a lost Redis loses nothing but the head start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge
from weft_common.log import get_logger
from weft_common.redis_cache import SETTLED_S, CacheMiss, RedisCache, Stored
from weft_policy.core.endpoints import EndpointSet
from weft_policy.core.names import ServiceTarget
from weft_policy.wire.encode_destination import known_from_update

KEY_PREFIX: Final = "weft:destination:endpoints:"
# Of the time to live, after which a snapshot that did not change is written again.
_REFRESH_SHARE: Final = 1 / 3

_log = get_logger(__name__)


def snapshot_key(target: ServiceTarget) -> str:
    """Where a target's snapshot lives."""
    namespace, name = target.service
    instance = f":{target.instance}" if target.instance else ""
    return f"{KEY_PREFIX}{namespace}/{name}:{target.port}{instance}"


class ServedNow(Protocol):
    """What a replica answers, as far as snapshots are concerned."""

    def snapshot(self, target: ServiceTarget) -> bytes | None:
        """The target's endpoints as one update; None when it has none to keep."""

    def targets(self) -> Iterable[ServiceTarget]:
        """What somebody listens to."""

    def version(self) -> int | None:
        """The resource version that answers rest on; None while they are not current."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """update: as it is sent. known: what a client that was sent it has."""

    update: bytes
    known: EndpointSet


@dataclass(slots=True)
class EndpointSnapshots:
    """ttl: after which a snapshot that nobody has written again goes."""

    cache: RedisCache
    served: ServedNow
    ttl: timedelta
    registry: CollectorRegistry
    _changed: dict[ServiceTarget, None] = field(default_factory=dict, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _loaded: dict[ServiceTarget, Snapshot] = field(default_factory=dict, init=False)
    _oldest_at_s: float | None = field(default=None, init=False)
    _answered: Counter = field(init=False)

    def __post_init__(self) -> None:
        self._answered = Counter(
            "weft_destination_snapshot_answers", "Streams first answered from a snapshot", registry=self.registry
        )
        Gauge(
            "weft_destination_snapshot_age_seconds",
            "Age of the oldest snapshot that streams are served from; 0 once the cluster is known",
            registry=self.registry,
        ).set_function(self._age_s)

    def note(self, target: ServiceTarget) -> None:
        """The target's answer changed. Changes before the next write are one write."""
        if self.cache.is_configured:
            self._changed[target] = None
            self._wake.set()

    async def load(self, target: ServiceTarget) -> Snapshot | None:
        """The last snapshot, the same for all who ask; None when there is none or Redis is away."""
        if not self.cache.is_configured:
            return None
        found = self._loaded.get(target) or await self._load(target)
        if found is not None:
            self._answered.inc()
        return found

    def cluster_is_known(self) -> None:
        """Nobody is served from snapshots any more."""
        if self._loaded:
            _log.info("answers follow the cluster again; snapshots are left behind", targets=len(self._loaded))
        self._loaded.clear()
        self._oldest_at_s = None

    async def write_through(self) -> None:
        """Write noted targets until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, {}
            for target in changed:
                await self._write(target)

    async def keep_alive(self) -> None:
        """Note, often enough, what is served and does not change; until cancelled."""
        while True:
            await asyncio.sleep(self.ttl.total_seconds() * _REFRESH_SHARE)
            for target in self.served.targets():
                self.note(target)

    async def _load(self, target: ServiceTarget) -> Snapshot | None:
        stored = await self.cache.get_versioned(snapshot_key(target))
        if isinstance(stored, CacheMiss):
            return None
        if not self._loaded:
            _log.warning(
                "answering from snapshots until the cluster is known",
                first=f"{target.service.namespace}/{target.service.name}",
                age_s=round(time.time() - stored.written_at_s, 1),
                resource_version=stored.version,
            )
        self._oldest_at_s = min(stored.written_at_s, self._oldest_at_s or stored.written_at_s)
        known = known_from_update(target.service, stored.value)
        return self._loaded.setdefault(target, Snapshot(stored.value, known))

    async def _write(self, target: ServiceTarget) -> None:
        version = self.served.version()
        if version is None:
            # What is stored may be newer than what we know; relisting notes what changed.
            return
        data = self.served.snapshot(target)
        key = snapshot_key(target)
        if data is None:
            await self.cache.delete(key)
        elif await self.cache.set_unless_newer(key, data, version, self.ttl.total_seconds()) is Stored.NEWER_IS_THERE:
            asyncio.get_running_loop().call_later(SETTLED_S, self.note, target)

    def _age_s(self) -> float:
        return 0.0 if self._oldest_at_s is None else max(0.0, time.time() - self._oldest_at_s)
