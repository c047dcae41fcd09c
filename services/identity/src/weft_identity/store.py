"""The certificate inventory: what this replica knows, and Redis, where all replicas put what they know.

Two records per live proxy, each gone when its leaf is: `weft:identity:leaf:<identity>:<pod uid>` holds what was issued,
`weft:identity:proxy:…` what the proxy reported (core.inventory says how they read). Redis is a cache: what this replica
issued and heard is kept here and written again when Redis comes back, or comes back empty.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

from weft_common.log import get_logger
from weft_common.redis_cache import CacheMiss, RedisCache

from weft_identity.core.inventory import (
    Certificate,
    LeafRecord,
    ProxyRecord,
    joined,
    leaf_from_bytes,
    proxy_from_bytes,
    record_bytes,
)

PREFIX: Final = "weft:identity:"
LEAF_PREFIX: Final = f"{PREFIX}leaf:"
PROXY_PREFIX: Final = f"{PREFIX}proxy:"
# Redis without this key is a Redis that has lost what it held.
MARK: Final = f"{PREFIX}filled"
# About 1 KiB each; a replica that serves more live workloads forgets the oldest, whose record Redis still holds.
DEFAULT_REMEMBERED: Final = 20_000
_BATCH: Final = 500
_CATCH_UP_EVERY_S: Final = 10.0
# A proxy that reports before it has a leaf is about to get one.
_REPORT_WITHOUT_LEAF: Final = timedelta(hours=1)

T = TypeVar("T", LeafRecord, ProxyRecord)
_log = get_logger(__name__)


@dataclass(slots=True)
class CertificateInventory:
    """Remembers, writes behind, and answers from both. Writers never wait for Redis."""

    cache: RedisCache
    now: Callable[[], datetime]
    remembered_limit: int = DEFAULT_REMEMBERED
    _leaves: OrderedDict[str, LeafRecord] = field(default_factory=OrderedDict, init=False)
    _reports: OrderedDict[str, ProxyRecord] = field(default_factory=OrderedDict, init=False)
    _unwritten: dict[str, LeafRecord | ProxyRecord] = field(default_factory=dict, init=False)
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def issued(self, leaf: LeafRecord) -> None:
        """A leaf was signed."""
        self._keep(self._leaves, LEAF_PREFIX + leaf.key, leaf)

    def reported(self, report: ProxyRecord) -> None:
        """A proxy said what it trusts and uses."""
        self._keep(self._reports, PROXY_PREFIX + report.key, report)

    async def certificates(self) -> tuple[list[Certificate], bool]:
        """Everything known, the first to expire first; False when Redis could not add what other replicas know."""
        now = self.now()
        self._forget_expired(now)
        keys = await self.cache.scan(f"{PREFIX}*")
        if isinstance(keys, CacheMiss):
            keys = []
        leaves = await self._stored([key for key in keys if key.startswith(LEAF_PREFIX)], leaf_from_bytes)
        reports = await self._stored([key for key in keys if key.startswith(PROXY_PREFIX)], proxy_from_bytes)
        known = joined([*leaves, *self._leaves.values()], [*reports, *self._reports.values()], now)
        return known, self.cache.is_up

    async def write_behind(self) -> None:
        """Write what is new, in batches, until cancelled. What an outage keeps back waits for `catch_up`."""
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            await self._write_all()

    async def catch_up(self) -> None:
        """Notice that Redis came back, or lost what it held, and write everything live again; until cancelled."""
        while True:
            await asyncio.sleep(_CATCH_UP_EVERY_S)
            await self.write_missed()

    async def write_missed(self) -> int:
        """How many records were written again, because Redis is new to us or has lost its mark."""
        self._forget_expired(self.now())
        if not self.cache.is_configured or not await self.cache.ping():
            return 0
        if isinstance(await self.cache.get(MARK), CacheMiss):
            self._unwritten = {**self._leaves, **self._reports}
            await self.cache.set(MARK, b"1")
        count = len(self._unwritten)
        if not count or not await self._write_all():
            return 0
        _log.info("certificate records written again", records=count)
        return count

    def _keep(self, where: OrderedDict[str, T], key: str, record: T) -> None:
        where[key] = record
        where.move_to_end(key)
        if len(where) > self.remembered_limit:
            where.popitem(last=False)
        if self.cache.is_configured:
            self._unwritten[key] = record
            self._wakeup.set()

    async def _write_all(self) -> bool:
        while self._unwritten:
            batch = dict(list(self._unwritten.items())[:_BATCH])
            now = self.now()
            values = {
                key: (record_bytes(record), life)
                for key, record in batch.items()
                if (life := (_ends_at(record) - now).total_seconds()) > 0
            }
            if not await self.cache.set_many(values):
                return False
            for key, record in batch.items():
                # Unless a newer one has taken its place meanwhile.
                if self._unwritten.get(key) is record:
                    del self._unwritten[key]
        return True

    async def _stored(self, keys: list[str], parse: Callable[[bytes], T]) -> list[T]:
        found: list[T] = []
        for start in range(0, len(keys), _BATCH):
            found += _readable((await self.cache.get_many(keys[start : start + _BATCH])).values(), parse)
        return found

    def _forget_expired(self, now: datetime) -> None:
        for where in (self._leaves, self._reports, self._unwritten):
            for key in [key for key, record in where.items() if _ends_at(record) <= now]:
                del where[key]


def _readable(values: Iterable[bytes], parse: Callable[[bytes], T]) -> list[T]:
    """Records of another version are left out: a cache may hold what an upgrade no longer reads."""
    found = []
    for value in values:
        try:
            found.append(parse(value))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _ends_at(record: LeafRecord | ProxyRecord) -> datetime:
    if isinstance(record, LeafRecord):
        return record.not_after
    return record.leaf_not_after or record.reported_at + _REPORT_WITHOUT_LEAF
