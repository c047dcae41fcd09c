"""Endpoint snapshots in Redis: what was last answered for each target, so that a starting replica can answer at once.

One key per target, written through after each change, gone after a while without one. A snapshot knows no client: it is
made without zone or node. It is a cache: a lost Redis loses nothing but the head start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from weft_common.redis_cache import CacheMiss, RedisCache
from weft_policy.core.names import ServiceTarget

KEY_PREFIX: Final = "weft:destination:endpoints:"


def snapshot_key(target: ServiceTarget) -> str:
    """Where a target's snapshot lives."""
    namespace, name = target.service
    instance = f":{target.instance}" if target.instance else ""
    return f"{KEY_PREFIX}{namespace}/{name}:{target.port}{instance}"


@dataclass(slots=True)
class EndpointSnapshots:
    """make: a target's snapshot now, None when it has none to keep. ttl: after which an untouched snapshot goes."""

    cache: RedisCache
    make: Callable[[ServiceTarget], bytes | None]
    ttl: timedelta
    registry: CollectorRegistry
    _changed: dict[ServiceTarget, None] = field(default_factory=dict, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _answered: Counter = field(init=False)

    def __post_init__(self) -> None:
        self._answered = Counter(
            "weft_destination_snapshot_answers", "Streams first answered from a snapshot", registry=self.registry
        )

    def note(self, target: ServiceTarget) -> None:
        """The target's answer changed. Changes before the next write are one write."""
        if self.cache.is_configured:
            self._changed[target] = None
            self._wake.set()

    async def load(self, target: ServiceTarget) -> bytes | None:
        """The last snapshot, None when there is none or Redis is away."""
        if not self.cache.is_configured:
            return None
        found = await self.cache.get(snapshot_key(target))
        if isinstance(found, CacheMiss):
            return None
        self._answered.inc()
        return found

    async def write_through(self) -> None:
        """Write noted targets until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, {}
            for target in changed:
                await self._write(target)

    async def _write(self, target: ServiceTarget) -> None:
        data = self.make(target)
        if data is None:
            await self.cache.delete(snapshot_key(target))
        else:
            await self.cache.set(snapshot_key(target), data, self.ttl.total_seconds())
