"""What the scenarios share: a steady load whose every failure is counted, and the programs people would use.

A scenario runs against the mesh that `weft` finds (KUBECONFIG, else the running `weft local` cluster), prints what it
measured, and exits 0 only if what it promises held. Load: RATE requests a second, 500 unless the environment says so,
for TARGET, /books/1 unless it says so. A page of a book is six hops, and two cores serve about 100 a second of them;
/healthz is one hop between two proxies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# As `make setup` installs it: whoever starts a script by its path runs it with another Python than Weft's.
WEFT = Path(__file__).parents[3] / ".venv/bin/weft"
NAMESPACE = "bookshop"
RATE = int(os.environ.get("RATE", "500"))
TARGET = os.environ.get("TARGET", "/books/1")
CLUSTER = os.environ.get("WEFT_CLUSTER", "default")
LONGEST_S = 300
# A kubelet brings a changed ConfigMap to identity within about a minute.
DROPPED_S = 120

# Runs inside the traffic pod, through its proxy: an open loop over kept connections; totals every half second.
LOAD = r"""
import asyncio, collections, json, os, sys, threading, time
# Whoever asked for the load has gone: so does it.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
rate, longest, target = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
host, port = "frontend", 8080
results = collections.Counter()
idle = asyncio.Queue()
request = f"GET {target} HTTP/1.1\r\nhost: frontend:8080\r\n\r\n".encode()
async def answer(reader):
    status = int((await reader.readuntil(b"\r\n")).split()[1])
    length = 0
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    await reader.readexactly(length)
    return status
async def visit():
    try:
        async with asyncio.timeout(10):
            pair = idle.get_nowait() if not idle.empty() else await asyncio.open_connection(host, port)
            pair[1].write(request)
            status = await answer(pair[0])
    except (OSError, asyncio.IncompleteReadError, ValueError, TimeoutError) as error:
        results[type(error).__name__] += 1
        return
    results[str(status)] += 1
    idle.put_nowait(pair)
async def main():
    tasks = set()
    end, due, report = time.monotonic() + longest, time.monotonic(), time.monotonic()
    while time.monotonic() < end:
        if len(tasks) < 500:
            task = asyncio.ensure_future(visit())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        else:
            results["skipped"] += 1
        if time.monotonic() >= report:
            report += 0.5
            print(json.dumps(results), flush=True)
        due += 1 / rate
        await asyncio.sleep(max(0, due - time.monotonic()))
asyncio.run(main())
"""


def weft(*words: str, check: bool = True, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `weft`; what it says while it works is shown."""
    done = subprocess.run([WEFT, *words], stdout=subprocess.PIPE, text=True, timeout=timeout_s, check=False)
    if check and done.returncode != 0:
        raise SystemExit(f"weft {' '.join(words)} exited {done.returncode}\n{done.stdout}")
    return done


def weft_json(*words: str) -> Any:
    """Run `weft … -o json`."""
    return json.loads(weft(*words, "-o", "json").stdout)


def exec_argv(pod: str, container: str, *words: str) -> list[str]:
    """A command in a container of the bookshop; its standard input ends when kubectl does."""
    return [*kubectl_argv(), "exec", "-i", "-n", NAMESPACE, pod, "-c", container, "--", *words]


def kubectl_argv() -> list[str]:
    """kubectl on the same cluster as `weft`."""
    config = os.environ.get("KUBECONFIG") or weft("local", "kubeconfig", "--name", CLUSTER).stdout.strip()
    return ["kubectl", "--kubeconfig", config]


def kubectl_json(*words: str) -> Any:
    """Run kubectl with -o json."""
    done = subprocess.run([*kubectl_argv(), *words, "-o", "json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def pods(app: str = "") -> dict[str, str]:
    """Name to uid of the bookshop's pods, of one app or of all."""
    selector = ["-l", f"app={app}"] if app else []
    items = kubectl_json("get", "pods", "-n", NAMESPACE, *selector)["items"]
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}


@dataclass
class Load:
    """Totals as they come. results: outcome to count; outcomes are HTTP statuses and names of errors."""

    process: subprocess.Popen[str]
    results: dict[str, int] = field(default_factory=dict)

    def listen(self) -> None:
        """Until the load ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.results = json.loads(line)

    @property
    def ok(self) -> int:
        """Requests that were answered well."""
        return self.results.get("200", 0)

    @property
    def failed(self) -> dict[str, int]:
        """Everything else."""
        return {outcome: count for outcome, count in self.results.items() if outcome != "200"}


@contextmanager
def load(rate: int = RATE, target: str = TARGET) -> Iterator[Load]:
    """Load from the traffic pod for the block; it has begun when the block does."""
    (pod, *_) = pods("traffic")
    argv = exec_argv(pod, "traffic", "python", "-c", LOAD, str(rate), str(LONGEST_S), target)
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    running = Load(process)
    listener = threading.Thread(target=running.listen, daemon=True)
    listener.start()
    try:
        eventually("the load begins", lambda: running.ok > rate)
        yield running
        # What was asked during the last step is answered, and told.
        time.sleep(1.5)
    finally:
        process.terminate()
        process.wait(10)
        listener.join(5)


def eventually(what: str, probe: Callable[[], object], within_s: float = 60) -> float:
    """Seconds until the probe holds; exits when it does not."""
    began = time.monotonic()
    while not probe():
        if time.monotonic() - began > within_s:
            raise SystemExit(f"FAILED: {what}: not within {within_s:g} s")
        time.sleep(0.25)
    return time.monotonic() - began


def verdict(running: Load, took_s: float, **facts: object) -> int:
    """Print what was measured. The result is the exit code: 0 only if no request failed."""
    measured = {"seconds": round(took_s, 1), "requests": running.ok, "failed": running.failed, **facts}
    print(json.dumps(measured))
    if running.failed:
        print("FAILED: requests failed", file=sys.stderr)
        return 1
    return 0


def anchor_ids(status: dict[str, Any]) -> list[str]:
    """Of `weft identity status -o json`."""
    return [anchor["id"] for anchor in status["anchors"]]
