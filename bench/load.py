"""Load generators and what their reports say: wrk for HTTP/1, h2load for HTTP/2, fortio for gRPC and open loops."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from bench.pods import Pod
from bench.report import REPOSITORY

FORTIO_MODULE: Final = "fortio.org/fortio@v1.66.0"
TOOLS: Final = REPOSITORY / "build" / "tools"
FORTIO: Final = TOOLS / "fortio"
CONNECTIONS: Final = 16
UNIT_BYTES: Final = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
UNIT_S: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class Case(Enum):
    """What is carried; the value names it in results. Each has its port on the server."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    GRPC = "grpc"
    TCP = "tcp"

    @property
    def port(self) -> int:
        return {Case.HTTP1: 8080, Case.HTTP2: 8081, Case.GRPC: 8082, Case.TCP: 8083}[self]


REQUEST_CASES: Final = (Case.HTTP1, Case.HTTP2, Case.GRPC)


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed loop at saturation."""

    requests: int
    seconds: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Latency:
    """An open loop at a fixed rate; milliseconds."""

    p50_ms: float
    p99_ms: float
    p999_ms: float
    requests: int


class LoadError(Exception):
    """The load did not run, or not every request succeeded; what was measured would mean nothing."""


def ensure_fortio() -> None:
    if not FORTIO.exists():
        TOOLS.mkdir(parents=True, exist_ok=True)
        subprocess.run(["env", f"GOBIN={TOOLS}", "go", "install", FORTIO_MODULE], check=True)


def closed_loop(client: Pod, case: Case, target: str, seconds: int, core: int) -> Closed:
    match case:
        case Case.HTTP1 | Case.TCP:
            path = "/large" if case is Case.TCP else "/"
            connections = 4 if case is Case.TCP else CONNECTIONS
            text = client.run("wrk", "-t1", f"-c{connections}", f"-d{seconds}", f"http://{target}{path}", core=core)
            return _wrk(text)
        case Case.HTTP2:
            text = client.run(
                "h2load", "-t1", "-c4", f"-m{CONNECTIONS // 4}", "-D", str(seconds), f"http://{target}/", core=core
            )
            return _h2load(text)
        case Case.GRPC:
            return _closed(_fortio(client, case, target, 0, seconds, core))


def open_loop(client: Pod, case: Case, target: str, rate: int, seconds: int, core: int) -> Latency:
    report = _fortio(client, case, target, rate, seconds, core)
    histogram = report["DurationHistogram"]
    at = {entry["Percentile"]: round(entry["Value"] * 1000, 4) for entry in histogram["Percentiles"]}
    return Latency(at[50], at[99], at[99.9], histogram["Count"])


def _fortio(client: Pod, case: Case, target: str, rate: int, seconds: int, core: int) -> dict:  # type: ignore[type-arg]  # foreign JSON, read by our callers only
    kind = ["-grpc", "-ping", target] if case is Case.GRPC else [f"http://{target}/"]
    text = client.run(
        str(FORTIO), "load", "-qps", str(rate), "-c", str(CONNECTIONS), "-t", f"{seconds}s", "-nocatchup", "-uniform",
        "-r", "0.00002", "-p", "50,99,99.9", "-quiet", "-json", "-", *kind, core=core,
    )  # fmt: skip
    report = json.loads(text)
    good = report["RetCodes"].get("SERVING" if case is Case.GRPC else "200", 0)
    total = report["DurationHistogram"]["Count"]
    if good != total or total == 0:
        raise LoadError(f"{total - good} of {total} requests failed: {report['RetCodes']}")
    return report  # type: ignore[no-any-return]


def _closed(report: dict) -> Closed:  # type: ignore[type-arg]
    seconds = report["ActualDuration"] / 1e9
    return Closed(report["DurationHistogram"]["Count"], seconds, 0)


def _wrk(text: str) -> Closed:
    done = re.search(r"(\d+) requests in ([\d.]+)s, ([\d.]+)([KMG]?B) read", text)
    if done is None or "Non-2xx" in text or "Socket errors" in text:
        raise LoadError(f"wrk: {text.strip()[-300:]}")
    return Closed(int(done[1]), float(done[2]), float(done[3]) * UNIT_BYTES[done[4]])


def _h2load(text: str) -> Closed:
    done = re.search(r"finished in ([\d.]+)(us|ms|s),", text)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
    statuses = re.search(r"status codes: (\d+) 2xx", text)
    if done is None or counts is None or statuses is None or counts[2] != "0" or int(statuses[1]) < int(counts[1]):
        raise LoadError(f"h2load: {text.strip()[-300:]}")
    return Closed(int(counts[1]), float(done[1]) * UNIT_S[done[2]], 0)


def folder_of_large_file(folder: Path) -> Path:
    """What the opaque case downloads."""
    www = folder / "www"
    www.mkdir(exist_ok=True)
    sparse_file(www / "large", 64 * 1024**2)
    return www


def sparse_file(path: Path, size: int) -> None:
    """size: in bytes, none of which costs disk."""
    with path.open("wb") as file:
        file.truncate(size)
