"""What a Redis URL may say, and what is told to whoever writes another."""

from __future__ import annotations

import pytest
from redis.asyncio import RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from weft_common.redis_url import redis_from_url, shown

TIMEOUT_S = 2.0


def test_single_server_keeps_every_part() -> None:
    redis = redis_from_url("redis://us%40er:p%3Ass@cache.example:7000/3?socket_timeout=1", TIMEOUT_S)
    assert not isinstance(redis, RedisCluster)
    options = redis.connection_pool.connection_kwargs
    wanted = {"username": "us@er", "password": "p:ss", "host": "cache.example", "port": 7000, "db": 3}
    assert wanted.items() <= options.items()
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (1.0, TIMEOUT_S)


def test_sentinels_get_their_own_credentials_and_the_master_the_others() -> None:
    redis = redis_from_url(
        "rediss+sentinel://:secret@one,two:27000/main/2?sentinel_password=watch&ssl_ca_certs=/ca.crt", TIMEOUT_S
    )
    assert not isinstance(redis, RedisCluster)
    pool = redis.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "main"
    assert {"password": "secret", "db": 2, "ssl_ca_certs": "/ca.crt"}.items() <= pool.connection_kwargs.items()
    told = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"]) for each in told] == [("one", 26379), ("two", 27000)]
    assert all(each["password"] == "watch" and each["ssl_ca_certs"] == "/ca.crt" for each in told)


async def test_cluster_starts_from_every_host() -> None:
    redis = redis_from_url("redis+cluster://:secret@one,two:7001", TIMEOUT_S)
    assert isinstance(redis, RedisCluster)
    assert sorted(redis.nodes_manager.startup_nodes) == ["one:6379", "two:7001"]
    await redis.aclose()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:6379", "expected redis://"),
        ("http://cache", "expected redis://"),
        ("unix+sentinel://one/main", "expected redis://"),
        ("redis+sentinel://one,two", "names the master"),
        ("redis+cluster://one/3", "database 0 only"),
        ("redis+cluster://one,:1", "no HOST"),
        ("redis://cache?no_such_option=1", "no_such_option"),
    ],
)
def test_mistakes_are_told_in_words(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        redis_from_url(url, TIMEOUT_S)


def test_passwords_do_not_reach_the_log() -> None:
    assert shown("rediss://u:p@ss@host:1/0") == "rediss://host:1/0"
    assert shown("redis+sentinel://:p@a,b/main?sentinel_password=q") == "redis+sentinel://a,b/main"
