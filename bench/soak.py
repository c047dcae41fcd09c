"""Memory of a pair of proxies that works for long: one large opaque transfer, then connections that come and go."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.load import FORTIO, Case, ensure_fortio, sparse_file
from bench.memory import memory_of
from bench.peers import LOAD_CORE, PeerUnavailable, Running, begin, peers
from bench.report import machine, write_json, write_section
from bench.usage import cpu_us

GROWTH_LIMIT_MIB: Final = 4.0
"""What an allocator may keep beyond what it had once everything had been seen."""
SETTLED_AFTER: Final = 0.25
"""Share of a run after which nothing is new any more."""
SAMPLE_S: Final = 0.5
# Reads one response to its end on one connection.
DOWNLOAD: Final = """
import socket, sys
host, _, port = sys.argv[1].partition(":")
with socket.create_connection((host, int(port)), 30) as stream:
    stream.sendall(b"GET /huge HTTP/1.1\\r\\nhost: bench\\r\\nconnection: close\\r\\n\\r\\n")
    room, total = bytearray(1 << 20), 0
    while count := stream.recv_into(room):
        total += count
print(total)
"""

Sample = Mapping[str, float]
"""Resident MiB by side (`out`, `in`)."""


def run(arguments: list[str]) -> int:
    """0 when memory stayed where it was, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench soak", description=__doc__)
    parser.add_argument("--gib", type=float, default=10.0, help="size of the opaque transfer; default 10")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long connections come and go; default 10")
    parser.add_argument("--peer", default="weft", help="another pair of proxies, as `python -m bench proxy` names it")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("bench soak needs root: it makes network namespaces", file=sys.stderr)
        return 1
    peer = next((peer for peer in peers({}) if peer.name == options.peer and peer.hops == 2), None)
    if peer is None:
        parser.error(f"--peer {options.peer}: no such pair of proxies")
    ensure_fortio()
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="weft-soak-"))
        folder.chmod(0o755)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            running = begin(peer, folder / peer.name, stack)
        except PeerUnavailable as missing:
            print(f"{peer.name}: {missing}", file=sys.stderr)
            return 1
        www = folder / peer.name / "www"
        size = int(options.gib * 1024**3)
        sparse_file(www / "huge", size)
        sparse_file(www / "small", 1024)
        report: dict[str, Any] = {
            "machine": machine(),
            "peer": peer.name,
            "idle_rss_mib": resident_mib(running),
            "transfer": transfer(running, size),
            "churn": churn(running, options.minutes),
        }
    write_json("soak", report)
    text = tables(report)
    print(text)
    is_complete = (peer.name, options.gib, options.minutes) == ("weft", 10.0, 10.0)
    if is_complete:
        write_section("soak", text)
    grown = [grown for part in ("transfer", "churn") for grown in report[part]["growth_mib"].values()]
    return 0 if max(grown) <= GROWTH_LIMIT_MIB else 1


def resident_mib(running: Running) -> Sample:
    found = {}
    for side, pid in running.proxies.items():
        (memory,) = memory_of([pid]).values()
        found[side] = round(memory.rss_kib / 1024, 1)
    return found


def growth_mib(samples: list[Sample]) -> Sample:
    """How far each side rose, at most, above where it was once nothing was new any more. samples: in their order."""
    settled = samples[int(len(samples) * SETTLED_AFTER) :]
    return {side: round(max(sample[side] for sample in settled) - settled[0][side], 1) for side in settled[0]}


def transfer(running: Running, size: int) -> dict[str, Any]:
    """One opaque connection that carries `size` bytes to the client."""
    cpu_before = {side: cpu_us(pid) for side, pid in running.proxies.items()}
    started = time.monotonic()
    client = running.client.spawn(sys.executable, "-S", "-c", DOWNLOAD, running.targets[Case.TCP], core=LOAD_CORE)
    samples = [resident_mib(running)]
    while client.poll() is None:
        time.sleep(SAMPLE_S)
        samples.append(resident_mib(running))
    seconds = time.monotonic() - started
    assert client.stdout is not None
    carried = int(client.stdout.read() or 0)
    if carried < size:
        raise RuntimeError(f"the transfer ended after {carried} of {size} bytes")
    cpu_s = {side: (cpu_us(pid) - cpu_before[side]) / 1e6 for side, pid in running.proxies.items()}
    return {
        "gib": round(size / 1024**3, 2),
        "seconds": round(seconds, 1),
        "mib_per_s": round(carried / 1024**2 / seconds),
        "cpu_s_per_gib": {side: round(used / (carried / 1024**3), 3) for side, used in cpu_s.items()},
        "rss_mib_before": samples[0],
        "rss_mib_most": {side: max(sample[side] for sample in samples) for side in samples[0]},
        "rss_mib_after": resident_mib(running),
        "growth_mib": growth_mib(samples),
    }


def churn(running: Running, minutes: float) -> dict[str, Any]:
    """Connections of every kind, each for one or a few requests, until the time is up."""
    deadline = time.monotonic() + minutes * 60
    before = resident_mib(running)
    samples: list[Sample] = []
    rounds = 0
    while time.monotonic() < deadline:
        _connections(running)
        rounds += 1
        samples.append(resident_mib(running))
    return {
        "minutes": minutes,
        "rounds": rounds,
        "connections": rounds * CONNECTIONS_PER_ROUND,
        "rss_mib_before": before,
        "rss_mib_settled": samples[int(len(samples) * SETTLED_AFTER)],
        "rss_mib_after": samples[-1],
        "growth_mib": growth_mib(samples),
        "rss_mib": samples,
    }


ONE_REQUEST_EACH: Final = 400
HTTP2: Final = 40
GRPC: Final = 16
CONNECTIONS_PER_ROUND: Final = 2 * ONE_REQUEST_EACH + HTTP2 + GRPC


def _connections(running: Running) -> None:
    """One round; a request that fails ends the run."""
    load = [str(FORTIO), "load", "-quiet", "-qps", "200", "-c", "8", "-allow-initial-errors=false"]
    each = ["-n", str(ONE_REQUEST_EACH), "-keepalive=false"]
    for target in (f"{running.targets[Case.HTTP1]}/", f"{running.targets[Case.TCP]}/small"):
        running.client.run(*load, *each, f"http://{target}", core=LOAD_CORE)
    grpc = ["-n", str(10 * GRPC), "-c", str(GRPC), "-grpc", "-ping", running.targets[Case.GRPC]]
    running.client.run(*load, *grpc, core=LOAD_CORE)
    http2 = f"http://{running.targets[Case.HTTP2]}/"
    said = running.client.run("h2load", "-n", str(10 * HTTP2), "-c", str(HTTP2), http2, core=LOAD_CORE)
    if f"{10 * HTTP2} succeeded" not in said:
        raise RuntimeError(f"h2load: {said.strip()[-300:]}")


def tables(report: Mapping[str, Any]) -> str:
    shape, moved, came = report["machine"], report["transfer"], report["churn"]
    where = f"{shape['cores']} cores, {shape['memory_gib']} GiB, kernel {shape['kernel']}, {shape['processor']}"
    costs = " / ".join(f"{cost:.2f}" for cost in moved["cpu_s_per_gib"].values())
    rows = [
        ("idle, after start", report["idle_rss_mib"], None),
        (f"most during one opaque transfer of {moved['gib']:g} GiB", moved["rss_mib_most"], moved["growth_mib"]),
        ("after it", moved["rss_mib_after"], None),
        (f"a quarter into the churn, {came['minutes']:g} min", came["rss_mib_settled"], None),
        (f"at their end, {came['connections']:,} connections later", came["rss_mib_after"], came["growth_mib"]),
    ]
    lines = [
        "## Memory over time",
        "",
        f"`python -m bench soak` on {where}. Pair: {report['peer']}.",
        "Churn: HTTP/1 and opaque connections for one request each, HTTP/2 and gRPC ones for ten; all were answered.",
        f"The transfer ran at {moved['mib_per_s']} MiB/s, {costs} CPU s per GiB, out / in.",
        "",
        f"| Resident, MiB | out | in | growth once settled, at most {GROWTH_LIMIT_MIB:g} |",
        "| --- | --- | --- | --- |",
    ]
    for name, sides, grown in rows:
        more = " / ".join(f"{value:g}" for value in grown.values()) if grown else ""
        lines.append(f"| {name} | {sides['out']:g} | {sides['in']:g} | {more} |")
    return "\n".join(lines)
