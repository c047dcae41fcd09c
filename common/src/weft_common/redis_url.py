"""Where Redis is, as one URL: a single server, Sentinels that know the master, or a Cluster.

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DB][?OPTION=VALUE…]
    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DB][?sentinel_username=…&sentinel_password=…]
    redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]
    unix://[[USER]:PASSWORD@]/PATH[?db=DB]

`rediss` for `redis` speaks TLS, to Sentinels too. Options of every form are those of redis-py, such as ssl_ca_certs,
ssl_certfile, ssl_keyfile (files) and ssl_check_hostname. Makes and closes clients.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

DEFAULT_PORT: Final = 6379
DEFAULT_SENTINEL_PORT: Final = 26379
FORMS: Final = "redis://, redis+sentinel://, redis+cluster://, their rediss forms, or unix://"
_SENTINEL, _CLUSTER = "+sentinel", "+cluster"
# Told to Sentinels alone: they have users and passwords of their own.
_SENTINEL_OPTIONS: Final = {"sentinel_username": "username", "sentinel_password": "password"}
# Prefixes of the options that hold for Sentinels as for the master.
_SHARED: Final = ("ssl", "socket_", "retry")


def redis_from_url(url: str, timeout_s: float) -> Redis | RedisCluster:
    """A client. timeout_s: for connecting and for each answer. Raises ValueError with what the URL should be."""
    try:
        return _client(url, timeout_s)
    except TypeError as error:
        # Options are keyword arguments of the library, which says which one it does not know.
        raise ValueError(f"an option is not known: {error}") from error


async def close(client: Redis | RedisCluster) -> None:
    """Close every connection of a client that `redis_from_url` made."""
    await client.aclose()
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def shown(url: str) -> str:
    """The URL without user, password and options, fit for a log."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.partition('?')[0].rpartition('@')[2]}"


def _client(url: str, timeout_s: float) -> Redis | RedisCluster:
    scheme, separator, rest = url.partition("://")
    kind = next((kind for kind in (_SENTINEL, _CLUSTER) if scheme.endswith(kind)), "")
    if not separator or scheme.removesuffix(kind) not in ({"redis", "rediss"} if kind else {"redis", "rediss", "unix"}):
        raise ValueError(f"expected {FORMS}")
    if not kind:
        return Redis(**_only_server(url, timeout_s))
    credentials, hosts, path, query = _split(rest)
    default_port = DEFAULT_SENTINEL_PORT if kind == _SENTINEL else DEFAULT_PORT
    addresses = [_address(host, default_port) for host in hosts.split(",")]
    # The library reads the rest of the URL: everything but the list of hosts is as for a single server.
    plain_query = "&".join(part for part in query.split("&") if part.partition("=")[0] not in _SENTINEL_OPTIONS)
    service, _, database = path.partition("/") if kind == _SENTINEL else ("", "", path)
    plain = f"{scheme.removesuffix(kind)}://{credentials}localhost/{database}?{plain_query}"
    options = _only_server(plain, timeout_s)
    for one_host in ("host", "port"):
        options.pop(one_host, None)
    if kind == _CLUSTER:
        if options.pop("db", 0):
            raise ValueError("a Redis Cluster has database 0 only")
        return RedisCluster(startup_nodes=[ClusterNode(*address) for address in addresses], **options)
    if not service:
        raise ValueError("the path names the master that Sentinels watch: redis+sentinel://HOST,HOST/SERVICE")
    return _through_sentinels(addresses, unquote(service), options, query)


def _through_sentinels(addresses: list[tuple[str, int]], service: str, options: dict[str, Any], query: str) -> Redis:
    given = parse_qs(query)
    sentinel_options = {name: value for name, value in options.items() if name.startswith(_SHARED)}
    sentinel_options |= {theirs: given[ours][-1] for ours, theirs in _SENTINEL_OPTIONS.items() if ours in given}
    sentinels = Sentinel(addresses, sentinel_kwargs=sentinel_options, **options)  # type: ignore[no-untyped-call]
    master: Redis = sentinels.master_for(service)
    return master


def _only_server(url: str, timeout_s: float) -> dict[str, Any]:
    """The keyword arguments that the library's own URL stands for."""
    timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    # A pooled connection may have died since; beyond that, callers would rather go on without than wait for seconds.
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 1), **timeouts, **parse_url(url)}
    kind = options.pop("connection_class", None)
    if kind is not None and kind.__name__.startswith("SSL"):
        options["ssl"] = True
    if path := options.pop("path", None):
        options["unix_socket_path"] = path
    return options


def _split(rest: str) -> tuple[str, str, str, str]:
    """Credentials with their @, hosts, path without its first slash, query."""
    parts = urlsplit(f"//{rest}")
    credentials, at, hosts = parts.netloc.rpartition("@")
    return credentials + at, hosts, parts.path.removeprefix("/"), parts.query


def _address(host: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError(f"{host!r} is no HOST[:PORT]")
    return parts.hostname, parts.port or default_port
