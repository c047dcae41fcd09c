"""Redis as a cache that may be away: a call never raises for an outage, it says so by its result and in metrics.

Owns the connection and the outage bookkeeping; knows nothing of what is stored. Invariants: one warning per outage, and
a lost Redis costs callers at most the operation timeout.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Any, Final, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import AuthenticationError, NoPermissionError, RedisClusterException, RedisError

from weft_common import redis_url
from weft_common.log import get_logger

T = TypeVar("T")

DEFAULT_OPERATION_TIMEOUT_S: Final = 2.0
# While Redis is away callers are answered at once, and one call per interval tries again.
RETRY_AFTER_S: Final = 1.0

_log = get_logger(__name__)


# A replica lags behind for seconds. A newer version that was written longer ago is of a cluster that has begun anew.
SETTLED_S: Final = 60
# KEYS: the key. ARGV: value, version, milliseconds to live, SETTLED_S. 0 when what is there is newer.
_STORE_UNLESS_NEWER: Final = """
local now = tonumber(redis.call('TIME')[1])
local have = redis.call('HMGET', KEYS[1], 'version', 'written_at_s')
if have[1] and tonumber(have[1]) > tonumber(ARGV[2]) and now - tonumber(have[2]) < tonumber(ARGV[4]) then
  return 0
end
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'version', ARGV[2], 'written_at_s', now)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


@dataclass(frozen=True, slots=True)
class Versioned:
    """A stored value. version: of what it was made from. written_at_s: Unix time, by the clock of Redis."""

    value: bytes
    version: int
    written_at_s: float


@unique
class Stored(Enum):
    """What became of a write."""

    WRITTEN = "written"
    NEWER_IS_THERE = "newer is there"
    AWAY = "away"


class CacheMiss:
    """No answer: the key is absent, or Redis is. Tell them apart with `RedisCache.is_up`."""


MISS: Final = CacheMiss()


class RedisCache:
    """Bytes by key. Made by `from_url`; a None URL gives a cache that always misses and stores nothing."""

    def __init__(self, redis: Redis | RedisCluster | None, registry: CollectorRegistry, shown_url: str = "") -> None:
        self._redis = redis
        self._shown_url = shown_url
        self._down_since: float | None = None
        self._retry_at = 0.0
        self._up = Gauge("weft_redis_up", "1 while the last Redis operation worked", registry=registry)
        self._failures = Counter("weft_redis_failures", "Redis operations that failed", registry=registry)
        self._up.set(1 if redis is not None else 0)

    @classmethod
    def from_url(cls, url: str | None, registry: CollectorRegistry) -> RedisCache:
        """Any form that `redis_url` describes; None or empty switches the cache off.

        Raises ValueError with what is wrong.
        """
        if not url:
            return cls(None, registry)
        return cls(redis_url.redis_from_url(url, DEFAULT_OPERATION_TIMEOUT_S), registry, shown_url=redis_url.shown(url))

    @property
    def is_configured(self) -> bool:
        """Whether a URL was given at all."""
        return self._redis is not None

    @property
    def is_up(self) -> bool:
        """Whether the last operation worked."""
        return self._redis is not None and self._down_since is None

    async def ping(self) -> bool:
        """Ask Redis now, whatever the retry clock says."""
        self._retry_at = 0.0
        return await self._run("ping", lambda redis: redis.ping()) is True

    async def get(self, key: str) -> bytes | CacheMiss:
        """The value, or MISS."""
        value = await self._run("get", lambda redis: cast(Awaitable[bytes | None], redis.get(key)))
        return MISS if value is None else value

    async def set(self, key: str, value: bytes, ttl_s: float | None = None) -> bool:
        """Store; expires after ttl_s seconds. False when Redis is away."""
        milliseconds = None if ttl_s is None else max(1, int(ttl_s * 1000))
        return isinstance(
            await self._run("set", lambda redis: cast(Awaitable[bool], redis.set(key, value, px=milliseconds))), bool
        )

    async def set_many(self, values: Mapping[str, tuple[bytes, float]]) -> bool:
        """Store values with their lives in seconds, in one round trip. False when Redis is away."""
        if not values:
            return True

        async def store(redis: Redis | RedisCluster) -> bool:
            async with redis.pipeline(transaction=False) as pipe:
                for key, (value, ttl_s) in values.items():
                    pipe.set(key, value, px=max(1, int(ttl_s * 1000)))
                await pipe.execute()
            return True

        return await self._run("set", store) is True

    async def delete(self, *keys: str) -> bool:
        """Remove keys that exist. False when Redis is away."""
        if not keys:
            return True
        return isinstance(await self._run("delete", lambda redis: redis.delete(*keys)), int)

    async def set_hash(self, key: str, fields: Mapping[str, str | bytes], expire_at_s: int | None = None) -> bool:
        """Replace a hash; expires at a Unix time in seconds. False when Redis is away."""

        # redis-py types the mapping invariantly over every encodable type.
        values: dict[Any, Any] = dict(fields)

        async def store(redis: Redis | RedisCluster) -> bool:
            async with redis.pipeline(transaction=True) as pipe:
                pipe.delete(key)
                pipe.hset(key, mapping=values)
                if expire_at_s is not None:
                    pipe.expireat(key, expire_at_s)
                await pipe.execute()
            return True

        return await self._run("hset", store) is True

    async def get_hash(self, key: str) -> dict[bytes, bytes] | CacheMiss:
        """All fields of a hash, or MISS."""
        value = await self._run("hgetall", lambda redis: cast(Awaitable[dict[bytes, bytes]], redis.hgetall(key)))
        return value or MISS

    async def set_unless_newer(self, key: str, value: bytes, version: int, ttl_s: float) -> Stored:
        """Store beside its version, unless another writer has stored a newer one; expires after ttl_s seconds."""
        arguments = (value, version, max(1, int(ttl_s * 1000)), SETTLED_S)
        answer = await self._run(
            "eval", lambda redis: cast(Awaitable[int], redis.eval(_STORE_UNLESS_NEWER, 1, key, *arguments))
        )
        if answer is None:
            return Stored.AWAY
        return Stored.WRITTEN if answer else Stored.NEWER_IS_THERE

    async def get_versioned(self, key: str) -> Versioned | CacheMiss:
        """What `set_unless_newer` stored, or MISS."""
        found = await self.get_hash(key)
        if isinstance(found, CacheMiss):
            return found
        try:
            return Versioned(found[b"value"], int(found[b"version"]), float(found[b"written_at_s"]))
        except (KeyError, ValueError):
            # Of another version of this program, or of somebody else.
            return MISS

    async def scan(self, pattern: str) -> list[str] | CacheMiss:
        """Keys that match a glob pattern, in no order; MISS when Redis is away."""

        async def collect(redis: Redis | RedisCluster) -> list[str]:
            return [cast(bytes, key).decode() async for key in redis.scan_iter(match=pattern, count=1000)]

        found = await self._run("scan", collect)
        return MISS if found is None else found

    async def get_many(self, keys: list[str]) -> dict[str, bytes]:
        """The values of those keys that exist; empty when Redis is away."""
        if not keys:
            return {}

        async def ask(redis: Redis | RedisCluster) -> list[bytes | None]:
            # The keys of a Cluster live on many servers.
            answer = redis.mget_nonatomic(keys) if isinstance(redis, RedisCluster) else redis.mget(keys)
            return await cast(Awaitable[list[bytes | None]], answer)

        values = await self._run("mget", ask)
        return {key: value for key, value in zip(keys, values or [], strict=False) if value is not None}

    async def close(self) -> None:
        """Close the connections; the cache is unusable afterwards."""
        if self._redis is not None:
            await redis_url.close(self._redis)

    async def _run(self, operation: str, call: Callable[[Redis | RedisCluster], Awaitable[T]]) -> T | None:
        """None both for 'no value' and for 'no Redis'; callers that must know look at is_up."""
        if self._redis is None or (self._down_since is not None and time.monotonic() < self._retry_at):
            return None
        try:
            async with asyncio.timeout(DEFAULT_OPERATION_TIMEOUT_S * 2):
                result = await call(self._redis)
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            self._note_failure(operation, error)
            return None
        self._note_success()
        return result

    def _note_failure(self, operation: str, error: Exception) -> None:
        self._failures.inc()
        self._up.set(0)
        self._retry_at = time.monotonic() + RETRY_AFTER_S
        if self._down_since is None:
            self._down_since = time.monotonic()
            _log.warning(
                _explanation(error),
                url=self._shown_url,
                operation=operation,
                error=str(error) or type(error).__name__,
            )

    def _note_success(self) -> None:
        self._up.set(1)
        if self._down_since is not None:
            _log.info("redis is back", url=self._shown_url, away_s=round(time.monotonic() - self._down_since, 1))
            self._down_since = None


def _explanation(error: Exception) -> str:
    if isinstance(error, AuthenticationError | NoPermissionError):
        return "redis refuses our user or password; going on without the cache, correct the URL"
    return "redis is away; going on without the cache"
