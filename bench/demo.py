"""How long the demo takes to be ready, and what it holds in memory once traffic flows."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from bench.memory import Memory, descendants, memory_of
from bench.report import REPOSITORY, machine, write_json, write_section

RUNS: Final = 3
READY_LIMIT_S: Final = 30.0
MEMORY_LIMIT_GIB: Final = 1.5
# Long enough for connection pools, metrics windows and Python's heaps to settle.
SETTLE_S: Final = 60
UP: Final = ("local", "up", "-f", str(REPOSITORY / "examples/bookshop"), "--detach", "--wait", "120s")


def weft(*args: str) -> str:
    executable = str(Path(sys.executable).parent / "weft")
    return subprocess.run([executable, *args], check=True, capture_output=True, text=True).stdout


def run(arguments: list[str]) -> int:
    """0 when both limits hold, 1 otherwise."""
    argparse.ArgumentParser(prog="python -m bench demo").parse_args(arguments)
    ready_s = []
    by_program: dict[str, Memory] = {}
    for index in range(RUNS):
        started = time.monotonic()
        weft(*UP)
        ready_s.append(round(time.monotonic() - started, 1))
        print(f"ready after {ready_s[-1]} s", flush=True)
        try:
            if index == RUNS - 1:
                time.sleep(SETTLE_S)
                status = json.loads(weft("local", "status", "-o", "json"))
                by_program = memory_of(descendants(int(status["pid"])))
        finally:
            weft("local", "down")
    shape = machine()
    rss_gib = _gib(sum(memory.rss_kib for memory in by_program.values()))
    pss_gib = _gib(sum(memory.pss_kib for memory in by_program.values()))
    median_s = sorted(ready_s)[len(ready_s) // 2]
    write_json(
        "demo",
        {
            "machine": shape,
            "ready_s": ready_s,
            "memory_pss_gib": pss_gib,
            "memory_rss_gib": rss_gib,
            "programs": {name: _row(memory) for name, memory in by_program.items()},
        },
    )
    runs = ", ".join(str(seconds) for seconds in ready_s)
    where = f"{shape['cores']} cores, {shape['memory_gib']} GiB, kernel {shape['kernel']}, {shape['processor']}"
    lines = [
        "## The demo",
        "",
        f"`make bench BENCH_ARGS=demo` on {where}.",
        "",
        "| Measured | Value | Limit |",
        "| --- | --- | --- |",
        f"| warm `weft local up -f examples/bookshop --wait`, median of {RUNS} ({runs}) | {median_s} s "
        f"| {READY_LIMIT_S:.0f} s |",
        f"| memory {SETTLE_S} s after ready, shared pages counted once (PSS) | {pss_gib} GiB "
        f"| {MEMORY_LIMIT_GIB} GiB |",
        f"| the same, shared pages counted in every process (RSS) | {rss_gib} GiB | |",
        "",
        "| Program | Processes | RSS, MiB | PSS, MiB |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{name}` | {memory.processes} | {memory.rss_kib / 1024:.0f} | {memory.pss_kib / 1024:.0f} |"
            for name, memory in by_program.items()
        ),
    ]
    write_section("demo", "\n".join(lines))
    print(f"ready {median_s} s of {READY_LIMIT_S:.0f}; {pss_gib} GiB PSS of {MEMORY_LIMIT_GIB}; {rss_gib} GiB RSS")
    return 0 if median_s <= READY_LIMIT_S and pss_gib <= MEMORY_LIMIT_GIB else 1


def _gib(kib: int) -> float:
    return round(kib / 1024**2, 2)


def _row(memory: Memory) -> dict[str, float]:
    return {
        "processes": memory.processes,
        "rss_mib": round(memory.rss_kib / 1024, 1),
        "pss_mib": round(memory.pss_kib / 1024, 1),
    }
