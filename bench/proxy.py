"""The proxy against its peers: every peer started once, then rounds that visit all of them, so that noise is shared."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import proxy_report
from bench.load import Case, Closed, Latency, LoadError, closed_loop, ensure_fortio, open_loop
from bench.memory import memory_of
from bench.peers import LOAD_CORE, Peer, PeerUnavailable, Running, begin, peers
from bench.report import machine, write_json
from bench.usage import cpu_us

RATES: Final = (20, 200, 2000)
OPEN_CONNECTIONS: Final = 1000
PACKAGES: Final = {"wrk": "wrk", "h2load": "nghttp2-client", "haproxy": "haproxy", "nginx": "nginx-light"}
HOLD: Final = f"""
import socket, sys
host, _, port = sys.argv[1].partition(":")
held = []
for _ in range({OPEN_CONNECTIONS}):
    connection = socket.create_connection((host, int(port)), 10)
    connection.sendall(b"GET / HTTP/1.1\\r\\nhost: bench\\r\\n\\r\\n")
    assert b" 200 " in connection.recv(4096), "refused"
    held.append(connection)
print("open", flush=True)
sys.stdin.readline()
"""


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int
    closed_s: int
    open_s: int
    open_cases: tuple[Case, ...]


FULL: Final = Plan(rounds=2, closed_s=2, open_s=3, open_cases=(Case.HTTP1,))
QUICK: Final = Plan(rounds=1, closed_s=1, open_s=1, open_cases=(Case.HTTP1,))


@dataclass(slots=True)
class Results:
    """What the rounds of one peer and case gave; a round is one list entry."""

    rates_rps: list[float] = field(default_factory=list)
    bytes_per_s: list[float] = field(default_factory=list)
    cpu_us: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_s_per_gib: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    latencies: defaultdict[int, list[Latency]] = field(default_factory=lambda: defaultdict(list))


ByPeerAndCase = dict[tuple[str, Case], Results]


def run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench proxy", description="The proxy against its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round: under 90 s, and noisy")
    parser.add_argument("--only", default="", help="comma-separated names of peers")
    parser.add_argument("--cases", default="", help=f"comma-separated: {', '.join(case.value for case in Case)}")
    parser.add_argument("--rounds", type=int, help="how often every peer is visited")
    parser.add_argument("--no-latency", action="store_true", help="closed loops only")
    parser.add_argument(
        "--engine", action="append", default=[], metavar="NAME=DIR",
        help="another build of the engine to run beside ours: a folder that holds weft_engine; repeatable",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    engines = {name: Path(folder).absolute() for name, _, folder in (entry.partition("=") for entry in options.engine)}
    plan = QUICK if options.quick else FULL
    rounds = options.rounds or plan.rounds
    wanted = set(filter(None, options.only.split(",")))
    cases = [case for case in Case if not options.cases or case.value in options.cases.split(",")]
    if os.geteuid() != 0:
        print("make bench needs root: it makes network namespaces", file=sys.stderr)
        return 1
    _install()
    results: ByPeerAndCase = defaultdict(Results)
    memory: dict[str, dict[str, float]] = defaultdict(dict)
    absent: dict[str, str] = {}
    failed: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="weft-bench-"))
        folder.chmod(0o755)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        started: list[tuple[Peer, Running]] = []
        for peer in peers(engines):
            if wanted and peer.name not in wanted:
                continue
            try:
                started.append((peer, begin(peer, folder / peer.name, stack)))
            except PeerUnavailable as missing:
                absent[peer.name] = str(missing)
                print(f"{peer.name}: absent: {missing}", flush=True)
        for peer, running in started:
            memory[peer.name].update(_resident(running, "idle"))
        for number in range(rounds):
            for case in cases:
                for peer, running in started:
                    if case in peer.cases:
                        _attempt(failed, running, case, partial(_closed, running, case, plan.closed_s, results))
            for case in () if options.no_latency else plan.open_cases:
                for rate in RATES:
                    for _, running in started:
                        _attempt(failed, running, case, partial(_open, running, case, rate, plan.open_s, results))
            print(f"round {number + 1} of {rounds}", flush=True)
        for peer, running in started:
            memory[peer.name].update(_with_connections(running))
        names = [peer for peer, _ in started]
    report = summary(names, results, memory, {**absent, **failed})
    write_json("proxy", report)
    complete = not wanted and not options.cases and not options.no_latency and not options.quick
    proxy_report.show(report, write=complete)
    return 1 if any(name.startswith("weft,") for name in failed) else 0


def _install() -> None:
    """The tools and plain hops; only when root on Debian, and only for this benchmark."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    missing = [package for program, package in PACKAGES.items() if shutil.which(program, path=path) is None]
    if missing and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)
    ensure_fortio()


def _attempt(failed: dict[str, str], running: Running, case: Case, measure: Callable[[], None]) -> None:
    """One peer that fails a case is said to have failed it; the others are still worth their time."""
    name = f"{running.name}, {case.value}"
    if name in failed:
        return
    try:
        measure()
    except (LoadError, RuntimeError) as error:
        failed[name] = " ".join(str(error).split())
        print(f"{name}: failed: {failed[name]}", flush=True)


def _open(running: Running, case: Case, rate: int, seconds: int, results: ByPeerAndCase) -> None:
    latency = open_loop(running.client, case, running.targets[case], rate, seconds, LOAD_CORE)
    results[running.name, case].latencies[rate].append(latency)


def _closed(running: Running, case: Case, seconds: int, results: ByPeerAndCase) -> None:
    before = {side: cpu_us(pid) for side, pid in running.proxies.items()}
    done: Closed = closed_loop(running.client, case, running.targets[case], seconds, LOAD_CORE)
    used = {side: cpu_us(pid) - before[side] for side, pid in running.proxies.items()}
    into = results[running.name, case]
    into.rates_rps.append(done.requests / done.seconds)
    if case is Case.TCP:
        into.bytes_per_s.append(done.bytes / done.seconds)
    for side, used_us in used.items():
        if case is Case.TCP:
            into.cpu_s_per_gib[side].append(used_us / 1e6 / (done.bytes / 1024**3))
        else:
            into.cpu_us[side].append(used_us / done.requests)


def _resident(running: Running, when: str) -> dict[str, float]:
    found = {}
    for side, pid in running.proxies.items():
        total = list(memory_of([pid]).values())
        found[f"{side}_{when}_rss_mib"] = round(sum(part.rss_kib for part in total) / 1024, 1)
        found[f"{side}_{when}_pss_mib"] = round(sum(part.pss_kib for part in total) / 1024, 1)
    return found


def _with_connections(running: Running) -> dict[str, float]:
    if not running.proxies:
        return {}
    command = ["ip", "netns", "exec", running.client.name, sys.executable, "-c", HOLD, running.targets[Case.HTTP1]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        opened = holder.stdout.readline().strip() == "open"
        return _resident(running, f"{OPEN_CONNECTIONS}_connections") if opened else {}


def summary(
    names: list[Peer], results: ByPeerAndCase, memory: Mapping[str, Mapping[str, float]], absent: Mapping[str, str]
) -> dict[str, Any]:
    """One object per peer and case; medians over rounds; units in the names."""
    rows = []
    direct = {case: results["direct", case] for case in Case if ("direct", case) in results}
    for peer in names:
        for case in Case:
            if (peer.name, case) not in results:
                continue
            found = results[peer.name, case]
            row: dict[str, Any] = {
                "peer": peer.name,
                "case": case.value,
                "hops": peer.hops,
                "mutual_tls": peer.mutual_tls,
            }
            if found.rates_rps and case is not Case.TCP:
                row["saturation_rps"] = round(median(found.rates_rps))
            if found.bytes_per_s:
                row["bytes_per_s"] = round(median(found.bytes_per_s))
            row.update({f"{side}_cpu_us_per_request": round(median(all_), 1) for side, all_ in found.cpu_us.items()})
            row.update({f"{side}_cpu_s_per_gib": round(median(all_), 3) for side, all_ in found.cpu_s_per_gib.items()})
            for rate, latencies in found.latencies.items():
                base = direct[case].latencies.get(rate, []) if case in direct else []
                for name in ("p50", "p99", "p999"):
                    value = median(getattr(latency, f"{name}_ms") for latency in latencies)
                    row[f"{name}_at_{rate}_rps_ms"] = round(value, 3)
                    if base and peer.hops:
                        below = median(getattr(latency, f"{name}_ms") for latency in base)
                        row[f"added_{name}_at_{rate}_rps_ms"] = round(value - below, 3)
            if case is Case.HTTP1:
                row.update(memory[peer.name])
            rows.append(row)
    return {"machine": machine(), "absent": dict(absent), "results": rows}
