"""Redis processes of each kind: with a password, with TLS, watched by a Sentinel, as a Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from weft_local.cluster import pki
from weft_local.cluster.kubeconfig import write_private

from tests.kubernetes.processes import Program, free_ports, running

PASSWORD: Final = "correct horse"
QUOTED: Final = "correct%20horse"
MASTER: Final = "main"
HASH_SLOTS: Final = 16384
_WITHIN_S: Final = 20.0
_QUIET: Final = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no")


@dataclass(frozen=True, slots=True)
class Server:
    """One process. client: speaks to it as its administrator."""

    program: Program
    port: int
    client: Redis


@asynccontextmanager
async def redis_server(folder: Path, *options: str, port: int = 0, **client_options: object) -> AsyncIterator[Server]:
    """A server that answers. options: of redis-server. client_options: of the administrator's client."""
    port = port or free_ports(1)[0]
    name = f"redis-{port}"
    listen = ("--port", "0", "--tls-port", str(port)) if "--tls-cert-file" in options else ("--port", str(port))
    command = ["redis-server", *listen, *_QUIET, "--dir", str(folder), *options]
    with running(name, command, folder) as program:
        async with Redis(host="127.0.0.1", port=port, **client_options) as client:  # type: ignore[arg-type]
            await until(client.ping)
            yield Server(program, port, client)


@asynccontextmanager
async def watched_by_sentinel(folder: Path) -> AsyncIterator[tuple[Server, int]]:
    """A master, and the port of the Sentinel that promotes its replica when it goes."""
    secret = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
    (port,) = free_ports(1)
    async with AsyncExitStack() as stack:
        master = await stack.enter_async_context(redis_server(folder, *secret, password=PASSWORD))
        replica_of = ("--replicaof", "127.0.0.1", str(master.port))
        await stack.enter_async_context(redis_server(folder, *secret, *replica_of, password=PASSWORD))
        # A Sentinel writes what it learns into its file.
        settings = folder / "sentinel.conf"
        settings.write_text(
            f'port {port}\nbind 127.0.0.1\ndir "{folder}"\n'
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 1\n"
            f'sentinel auth-pass {MASTER} "{PASSWORD}"\n'
            f"sentinel down-after-milliseconds {MASTER} 500\n"
            f"sentinel failover-timeout {MASTER} 2000\n"
        )
        stack.enter_context(running("sentinel", ["redis-server", str(settings), "--sentinel"], folder))
        async with Redis(host="127.0.0.1", port=port, decode_responses=True) as sentinel:

            async def knows_the_replica() -> bool:
                found = await sentinel.execute_command("SENTINEL", "MASTER", MASTER)
                facts = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
                return int(facts["num-slaves"]) == 1

            await until(knows_the_replica)
        yield master, port


@asynccontextmanager
async def cluster_of_two(folder: Path) -> AsyncIterator[int]:
    """Two servers with half of the keys each; the port of one."""
    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(2):
            (port,) = free_ports(1)
            own = folder / str(port)
            own.mkdir()
            # The default bus port lies beyond the range of many free ports.
            bus = ("--cluster-enabled", "yes", "--cluster-port", str(free_ports(1)[0]), "--requirepass", PASSWORD)
            servers.append(await stack.enter_async_context(redis_server(own, *bus, port=port, password=PASSWORD)))
        first, second = servers
        half = HASH_SLOTS // 2
        await first.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, half - 1)
        await second.client.execute_command("CLUSTER", "ADDSLOTSRANGE", half, HASH_SLOTS - 1)
        bus_port = (await second.client.config_get("cluster-port"))["cluster-port"]
        await first.client.execute_command("CLUSTER", "MEET", "127.0.0.1", second.port, bus_port)
        for server in servers:
            await until(lambda server=server: _serves_all_slots(server.client))  # type: ignore[misc]
        yield first.port


async def _serves_all_slots(client: Redis) -> bool:
    facts = await client.execute_command("CLUSTER INFO")
    state = (
        facts if isinstance(facts, dict) else dict(line.split(":", 1) for line in facts.decode().split() if ":" in line)
    )
    return bool(state["cluster_state"] == "ok" and state["cluster_known_nodes"] == "2")


def tls_files(folder: Path) -> tuple[tuple[str, ...], Path]:
    """Options of a server that speaks TLS only and asks for a password, and the file of its authority."""
    now = datetime.now(UTC)
    authority = pki.certificate_authority("redis", now)
    server = pki.server_certificate(authority, ["localhost"], ["127.0.0.1"], now)
    files = {"ca.crt": authority.certificate_pem, "tls.crt": server.certificate_pem, "tls.key": server.key_pem}
    for name, text in files.items():
        write_private(folder / name, text)
    options = ("--tls-cert-file", "tls.crt", "--tls-key-file", "tls.key", "--tls-ca-cert-file", "ca.crt")
    paths = tuple(str(folder / one) if one in files else one for one in options)
    return (*paths, "--tls-auth-clients", "no", "--requirepass", PASSWORD), folder / "ca.crt"


async def until(check: Callable[[], Awaitable[object]]) -> None:
    """Ask again until the answer is true; servers that start refuse at first."""
    async with asyncio.timeout(_WITHIN_S):
        while True:
            try:
                if await check():
                    return
            except (RedisError, OSError):
                pass
            await asyncio.sleep(0.05)
