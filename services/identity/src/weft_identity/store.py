"""The certificate inventory in Redis: one record per issued leaf, gone when the leaf is.

A record is a hash at `weft:identity:leaf:<identity>:<pod uid, or serial for tokens without a pod>`, so the renewal of a
pod replaces its record. It is a cache: what this replica issued is kept here and written again after an outage.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from weft_common.redis_cache import RedisCache

from weft_identity.ports import IssuedLeaf

KEY_PREFIX: Final = "weft:identity:leaf:"
# About 1 KiB each; a replica that serves more live workloads forgets the oldest, whose record Redis still holds.
DEFAULT_REMEMBERED_LEAVES: Final = 20_000


def record_key(leaf: IssuedLeaf) -> str:
    """Where the record lives."""
    return f"{KEY_PREFIX}{leaf.identity}:{leaf.token.pod_uid or format(leaf.serial, 'x')}"


def record_fields(leaf: IssuedLeaf) -> dict[str, str]:
    """The record's fields; times are RFC 3339 UTC, the serial hexadecimal."""
    return {
        "identity": leaf.identity,
        "serial": format(leaf.serial, "x"),
        "issuer_key_id": leaf.issuer_key_id,
        "anchor_key_id": leaf.anchor_key_id,
        "not_before": leaf.not_before.isoformat(),
        "not_after": leaf.not_after.isoformat(),
        "issued_at": leaf.issued_at.isoformat(),
        "namespace": leaf.token.subject.namespace,
        "pod": leaf.token.pod_name,
        "pod_uid": leaf.token.pod_uid,
    }


@dataclass(slots=True)
class CertificateInventory:
    """Writes records; remembers those of leaves that still live, to write them again when Redis comes back empty."""

    cache: RedisCache
    remembered_limit: int = DEFAULT_REMEMBERED_LEAVES
    _live: OrderedDict[str, IssuedLeaf] = field(default_factory=OrderedDict, init=False)
    _unwritten: bool = field(default=False, init=False)

    def remember(self, leaf: IssuedLeaf) -> None:
        """Keep a leaf; the oldest goes when there are too many."""
        key = record_key(leaf)
        self._live[key] = leaf
        self._live.move_to_end(key)
        if len(self._live) > self.remembered_limit:
            self._live.popitem(last=False)

    async def write(self, leaf: IssuedLeaf) -> None:
        """Store one record. A Redis that is away is made good by the next `write_missed` that reaches it."""
        if not await self._store(leaf):
            self._unwritten = self.cache.is_configured

    async def write_missed(self, now: datetime) -> int:
        """After an outage, store every live record again. The result is how many were stored."""
        for key in [key for key, leaf in self._live.items() if leaf.not_after <= now]:
            del self._live[key]
        if not self._unwritten or not await self.cache.ping():
            return 0
        written = 0
        for leaf in list(self._live.values()):
            if not await self._store(leaf):
                return written
            written += 1
        self._unwritten = False
        return written

    async def _store(self, leaf: IssuedLeaf) -> bool:
        return await self.cache.set_hash(record_key(leaf), record_fields(leaf), int(leaf.not_after.timestamp()))
