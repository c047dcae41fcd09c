"""TLS, passwords, Sentinels and Clusters, each with real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import CERT_REQUIRED

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from weft_common import redis_cache
from weft_common.redis_cache import CacheMiss, RedisCache

from tests.redis_urls.servers import (
    MASTER,
    PASSWORD,
    QUOTED,
    cluster_of_two,
    redis_server,
    tls_files,
    until,
    watched_by_sentinel,
)


@asynccontextmanager
async def cache_at(url: str) -> AsyncIterator[RedisCache]:
    cache = RedisCache.from_url(url, CollectorRegistry())
    try:
        yield cache
    finally:
        await cache.close()


async def holds_everything(cache: RedisCache) -> None:
    """Every operation, with keys that lie in different parts of a Cluster."""
    keys = [f"weft:{number}" for number in range(20)]
    for key in keys:
        assert await cache.set(key, key.encode(), ttl_s=60)
    assert await cache.get(keys[0]) == keys[0].encode()
    assert await cache.get_many(keys) == {key: key.encode() for key in keys}
    assert sorted(await cache.scan("weft:*") or ()) == sorted(keys)  # type: ignore[arg-type]
    assert await cache.set_hash("weft:hash", {"a": "1"}, expire_at_s=4_102_444_800)
    assert await cache.get_hash("weft:hash") == {b"a": b"1"}
    assert await cache.delete(*keys)
    assert isinstance(await cache.get(keys[0]), CacheMiss)
    assert cache.is_up


async def test_password_and_tls(tmp_path: Path) -> None:
    options, authority = tls_files(tmp_path)
    client = {"ssl": True, "ssl_ca_certs": str(authority), "ssl_cert_reqs": CERT_REQUIRED, "password": PASSWORD}
    async with redis_server(tmp_path, *options, **client) as server:
        url = f"rediss://:{QUOTED}@localhost:{server.port}/0"
        async with cache_at(f"{url}?ssl_ca_certs={authority}") as cache:
            await holds_everything(cache)
        async with cache_at(url) as cache:
            assert not await cache.ping(), "a certificate of an authority that nobody trusts was accepted"


async def test_wrong_password_is_one_clear_warning_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_cache, "RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(redis_cache, "_log", structlog.get_logger())
    async with (
        redis_server(tmp_path, "--requirepass", PASSWORD, password=PASSWORD) as server,
        cache_at(f"redis://:wrong@127.0.0.1:{server.port}/0") as cache,
    ):
        with capture_logs() as logs:
            for _ in range(3):
                assert isinstance(await cache.get("k"), CacheMiss)
                assert not await cache.set("k", b"v")
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert "refuses our user or password" in logs[0]["event"]
    assert logs[0]["url"] == f"redis://127.0.0.1:{server.port}/0"


async def test_sentinels_lead_to_the_new_master_after_a_failover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_cache, "RETRY_AFTER_S", 0.0)
    async with (
        watched_by_sentinel(tmp_path) as (master, port),
        cache_at(f"redis+sentinel://:{QUOTED}@127.0.0.1:{port}/{MASTER}/0") as cache,
    ):
        await holds_everything(cache)
        await asyncio.to_thread(master.program.stop)
        await until(lambda: cache.set("after", b"failover"))
        assert await cache.get("after") == b"failover"


async def test_cluster_holds_keys_on_every_server(tmp_path: Path) -> None:
    async with cluster_of_two(tmp_path) as port, cache_at(f"redis+cluster://:{QUOTED}@127.0.0.1:{port}") as cache:
        await holds_everything(cache)


async def test_cluster_and_sentinels_that_are_away_cost_misses(tmp_path: Path) -> None:
    for url in ("redis+cluster://127.0.0.1:1", f"redis+sentinel://127.0.0.1:1/{MASTER}", "rediss://127.0.0.1:1"):
        async with cache_at(url) as cache:
            assert isinstance(await cache.get("k"), CacheMiss), url
            assert not cache.is_up
