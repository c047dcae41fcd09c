"""Against a real Redis process, killed and started again."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from weft_common import redis_cache
from weft_common.redis_cache import CacheMiss, RedisCache, Stored, Versioned


class RedisProcess:
    def __init__(self, directory: Path) -> None:
        executable = shutil.which("redis-server")
        assert executable, "redis-server is not installed: run `make setup`"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._argv = [
            executable,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(directory),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        self.kill()
        raise AssertionError("redis-server did not open its port")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path)
    process.start()
    yield process
    process.kill()


async def test_values_and_hashes_come_back_and_expire(redis_process: RedisProcess) -> None:
    cache = RedisCache.from_url(redis_process.url, CollectorRegistry())
    assert await cache.set("k", b"v", ttl_s=0.05)
    assert await cache.get("k") == b"v"
    assert await cache.set_hash("h", {"serial": "1", "raw": b"\x00"}, expire_at_s=4_102_444_800)
    assert await cache.get_hash("h") == {b"serial": b"1", b"raw": b"\x00"}
    assert await cache.scan("h*") == ["h"]
    await asyncio.sleep(0.1)
    assert isinstance(await cache.get("k"), CacheMiss)
    assert cache.is_up
    await cache.close()


async def test_an_outage_costs_misses_and_the_cache_recovers(
    redis_process: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_cache, "RETRY_AFTER_S", 0.0)
    registry = CollectorRegistry()
    cache = RedisCache.from_url(redis_process.url, registry)
    assert await cache.set("k", b"v")
    redis_process.kill()
    assert isinstance(await cache.get("k"), CacheMiss)
    assert not await cache.set("k", b"v")
    assert not cache.is_up
    assert registry.get_sample_value("weft_redis_up") == 0
    redis_process.start()
    assert await cache.set("k", b"w")
    assert registry.get_sample_value("weft_redis_up") == 1
    await cache.close()


async def test_without_a_url_everything_misses_and_nothing_fails() -> None:
    cache = RedisCache.from_url(None, CollectorRegistry())
    assert not await cache.set("k", b"v")
    assert isinstance(await cache.get("k"), CacheMiss)
    assert not cache.is_configured


async def test_older_version_does_not_replace_a_newer_one_unless_that_has_settled(
    redis_process: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = RedisCache.from_url(redis_process.url, CollectorRegistry())
    assert await cache.set_unless_newer("k", b"two", 2, ttl_s=60) is Stored.WRITTEN
    assert await cache.set_unless_newer("k", b"one", 1, ttl_s=60) is Stored.NEWER_IS_THERE
    found = await cache.get_versioned("k")
    assert isinstance(found, Versioned)
    assert (found.value, found.version) == (b"two", 2)
    assert await cache.set_unless_newer("k", b"also two", 2, ttl_s=60) is Stored.WRITTEN
    monkeypatch.setattr(redis_cache, "SETTLED_S", 0)
    assert await cache.set_unless_newer("k", b"of a new cluster", 1, ttl_s=60) is Stored.WRITTEN
    redis_process.kill()
    assert await cache.set_unless_newer("k", b"three", 3, ttl_s=60) is Stored.AWAY
    assert isinstance(await cache.get_versioned("k"), CacheMiss)
    await cache.close()
