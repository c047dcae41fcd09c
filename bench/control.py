"""The control plane under thousands of proxies: one replica on one core, everything else on another.

Against both API servers, each loaded with 1,000 Services of 10 endpoints. The limits are promises; the run fails when
one does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from weft_common.kube.client import KubeClient

from bench.control_certificates import measure_listing
from bench.control_certify import measure_certify
from bench.control_cluster import LoadedCluster, authority
from bench.control_report import show
from bench.control_streams import Watcher, first_messages, proxies
from bench.report import machine, write_json
from bench.usage import cpu_us
from tests.kubernetes.api_servers import BOOT, KUBE_APISERVER, ApiServer
from tests.kubernetes.processes import Program, free_ports, running

ENDPOINTS: Final = 10
STREAMS: Final = 2_000
CROWD: Final = 1_001
# The Service whose endpoints change, among the others; and the one that rolls, beyond them.
CHANGING: Final = 0
ROLLING: Final = 2_000
ROLLING_PODS: Final = 100
# Longer than a replica waits between two answers to a crowd: each change is measured by itself.
SPACING_S: Final = 1.0
SIZES: Final = (100, 1_000, 10_000)
QUICK_SIZES: Final = (100, 1_000)
# By which a watcher knows that it has been told everything: the field `port` of an address.
_LAST_PORT: Final = 9090
_LAST_PORT_ON_THE_WIRE: Final = b"\x10\x82\x47"
_SERVER_CORE, _REST_CORE = 1, 0
_READY_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Replica:
    """One destination replica that runs, pinned to its core."""

    program: Program
    port: int
    admin_port: int

    @property
    def pid(self) -> int:
        return self.program.process.pid

    def cpu_s(self) -> float:
        return cpu_us(self.pid) / 1e6

    def rss_mib(self) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

    def wait_ready(self) -> None:
        self.program.wait_until(self._is_ready, _READY_S)

    def _is_ready(self) -> bool:
        ready = ["curl", "-sf", "-o", "/dev/null", f"http://127.0.0.1:{self.admin_port}/ready"]
        return subprocess.run(ready, check=False).returncode == 0


@dataclass(slots=True)
class Measurement:
    """One API server's numbers, by case. sizes: endpoints, and streams of one Service, at which memory is taken."""

    api: ApiServer
    sizes: tuple[int, ...]
    folder: Path
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def services(self) -> int:
        """How many Services there are once the cluster is full."""
        return self.sizes[-1] // ENDPOINTS

    @contextmanager
    def replica(self, name: str, **environ: str) -> Iterator[Replica]:
        """A destination replica, from its start to the end of the block."""
        grpc_port, policy_port, admin_port = free_ports(3)
        settings = {
            "KUBECONFIG": str(self.api.kubeconfig),
            "WEFT_GRPC_PORT": str(grpc_port),
            "WEFT_POLICY_PORT": str(policy_port),
            "WEFT_ADMIN_PORT": str(admin_port),
            "WEFT_LOG_LEVEL": "warning",
            **environ,
        }
        command = ["taskset", "-c", str(_SERVER_CORE), str(Path(sys.executable).parent / "weft-destination")]
        with running(name, command, self.folder, settings) as program:
            yield Replica(program, grpc_port, admin_port)

    async def run(self) -> None:
        """Every case, in an order in which the cluster only grows."""
        async with KubeClient(self.api.config) as kube:
            cluster = LoadedCluster(kube)
            await cluster.prepare()
            # First, for identity follows the cluster's pods, and is not measured reading ten thousand of them.
            self.result["certify"] = await measure_certify(self.api, kube, self.folder, _SERVER_CORE)
            self.result["certificates"] = await measure_listing(self.api, self.folder, _SERVER_CORE)
            self.result["memory_by_endpoints"] = await self._endpoints(cluster)
            with self.replica("destination") as replica:
                replica.wait_ready()
                await self._streams(cluster, replica)
                self.result["rolling_restart"] = await _rolling_restart(cluster, replica)
            self.result["memory_by_streams"] = await self._stream_memory()
            self.result["snapshot"] = await self._snapshot()

    async def _endpoints(self, cluster: LoadedCluster) -> dict[str, float]:
        """MiB by number of endpoints, each with a replica of its own, freshly started."""
        found = {"0": self._settled_mib()}
        done = 0
        for size in self.sizes:
            services = size // ENDPOINTS
            with unpinned():
                await cluster.add_services(done, services, ENDPOINTS)
            done = services
            found[str(size)] = self._settled_mib()
        return found

    def _settled_mib(self) -> float:
        with self.replica("destination-idle") as replica:
            replica.wait_ready()
            return round(replica.rss_mib(), 1)

    async def _streams(self, cluster: LoadedCluster, replica: Replica) -> None:
        async with proxies(replica.port) as clients:
            before_s, started = replica.cpu_s(), time.monotonic()
            watchers = clients.open(authority(number % self.services) for number in range(STREAMS))
            await first_messages(watchers)
            self.result["open"] = {
                "streams": STREAMS,
                "answered_s": round(time.monotonic() - started, 2),
                "cpu_s": round(replica.cpu_s() - before_s, 2),
                "resident_mib": round(replica.rss_mib(), 1),
            }
            few = [watcher for number, watcher in enumerate(watchers) if number % self.services == CHANGING]
            self.result["change_few"] = await _changes(cluster, replica, few, 300)
            more = clients.open(authority(CHANGING) for _ in range(CROWD - len(few)))
            await first_messages(more)
            self.result["change_many"] = await _changes(cluster, replica, [*few, *more], 20, pause_s=SPACING_S)

    async def _stream_memory(self) -> dict[str, float]:
        """MiB by number of streams of one Service, in one replica."""
        with self.replica("destination-streams") as replica:
            replica.wait_ready()
            found = {"0": round(replica.rss_mib(), 1)}
            async with proxies(replica.port) as clients:
                opened = 0
                for size in self.sizes:
                    await first_messages(clients.open(authority(CHANGING) for _ in range(size - opened)))
                    opened = size
                    found[str(size)] = round(replica.rss_mib(), 1)
            return found

    async def _snapshot(self) -> dict[str, float]:
        """From the start of the process to the first answer, with what another replica left in Redis and without."""
        (port,) = free_ports(1)
        redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        url = f"redis://127.0.0.1:{port}/0"
        with running("redis", redis, self.folder):
            with self.replica("destination-writer", WEFT_REDIS_URL=url) as writer:
                writer.wait_ready()
                async with proxies(writer.port) as clients:
                    await first_messages(clients.open(authority(number) for number in range(self.services)))
                    await asyncio.sleep(2)
            with_snapshot = [await self._first_answer_s(WEFT_REDIS_URL=url) for _ in range(3)]
            without = [await self._first_answer_s() for _ in range(3)]
        return {"first_answer_s": sorted(with_snapshot)[1], "first_answer_without_s": sorted(without)[1]}

    async def _first_answer_s(self, **environ: str) -> float:
        started = time.monotonic()
        with self.replica("destination-starting", **environ) as replica:
            while not _accepts(replica.port):  # noqa: ASYNC110 - a port tells nobody when it opens
                await asyncio.sleep(0.005)
            async with proxies(replica.port) as clients:
                await first_messages(clients.open([authority(CHANGING)]))
                return round(time.monotonic() - started, 2)


async def _changes(
    cluster: LoadedCluster, replica: Replica, watchers: Sequence[Watcher], count: int, pause_s: float = 0.0
) -> dict[str, float]:
    """Take an endpoint away and bring it back, again and again; wait until everybody knows before the next."""
    delays_ms: list[float] = []
    before_s = replica.cpu_s()
    messages = sum(watcher.messages for watcher in watchers)
    for turn in range(count):
        await asyncio.sleep(pause_s)
        await cluster.set_endpoints(CHANGING, range(ENDPOINTS) if turn % 2 else range(1, ENDPOINTS))
        answered = time.monotonic()
        await first_messages(watchers)
        # An update may overtake the API's answer.
        delays_ms += [max(0.0, (watcher.last_at - answered) * 1000) for watcher in watchers]
    sent = sum(watcher.messages for watcher in watchers) - messages
    return {
        "watchers": len(watchers),
        "changes": count,
        "p50_ms": round(percentile(delays_ms, 50), 1),
        "p99_ms": round(percentile(delays_ms, 99), 1),
        "cpu_us_per_update": round((replica.cpu_s() - before_s) * 1e6 / sent, 1),
    }


async def _rolling_restart(cluster: LoadedCluster, replica: Replica) -> dict[str, float]:
    """Replace 100 pods one by one, as fast as the API takes it, under a thousand watchers."""
    await cluster.add_services(ROLLING, ROLLING + 1, ROLLING_PODS)
    async with proxies(replica.port) as clients:
        watchers = clients.open(authority(ROLLING) for _ in range(CROWD - 1))
        await first_messages(watchers)
        return await _roll(cluster, replica, watchers)


async def _roll(cluster: LoadedCluster, replica: Replica, watchers: Sequence[Watcher]) -> dict[str, float]:
    before_s, started = replica.cpu_s(), time.monotonic()
    messages = sum(watcher.messages for watcher in watchers)
    async with asyncio.TaskGroup() as group:
        for watcher in watchers:
            group.create_task(_read_until(watcher, _LAST_PORT_ON_THE_WIRE))
        for old in range(ROLLING_PODS):
            new = ROLLING_PODS + old
            await cluster.create_pods(ROLLING, [new])
            await cluster.set_endpoints(ROLLING, range(old, new + 1))
            await cluster.set_endpoints(ROLLING, range(old + 1, new + 1))
            await cluster.delete_pod(ROLLING, old)
        await cluster.set_endpoints(ROLLING, range(ROLLING_PODS, 2 * ROLLING_PODS), port=_LAST_PORT)
        elapsed = time.monotonic() - started
    return {
        "pods": ROLLING_PODS,
        "watchers": len(watchers),
        "elapsed_s": round(elapsed, 1),
        "cpu_s": round(replica.cpu_s() - before_s, 2),
        "messages": sum(watcher.messages for watcher in watchers) - messages,
    }


async def _read_until(watcher: Watcher, mark: bytes) -> None:
    while mark not in await watcher.next():
        pass


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@contextmanager
def unpinned() -> Iterator[None]:
    """Let this process use every core for a while."""
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)


def run(arguments: list[str]) -> int:
    """0 when every limit holds, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench control")
    parser.add_argument("--api", choices=sorted(BOOT), action="append", help="against this API server only")
    parser.add_argument("--quick", action="store_true", help="a tenth of the cluster; nothing is written to docs")
    options = parser.parse_args(arguments)
    sizes = QUICK_SIZES if options.quick else SIZES
    report: dict[str, Any] = {"machine": machine(), "services": sizes[-1] // ENDPOINTS, "api": {}}
    os.sched_setaffinity(0, {_REST_CORE})
    for name in options.api or [KUBE_APISERVER, *(other for other in BOOT if other != KUBE_APISERVER)]:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weft-bench-")))
            with unpinned():
                api = stack.enter_context(BOOT[name](folder))
            measurement = Measurement(api, sizes, folder)
            asyncio.run(measurement.run())
            report["api"][name] = measurement.result
            write_json("control", report)
    return 0 if show(report, write=options.api is None and not options.quick) else 1
