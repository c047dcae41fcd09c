"""The tables of docs/performance.md from the results of the control-plane benchmark, and which limits hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bench.report import write_section


@dataclass(frozen=True, slots=True)
class Limit:
    """A promise about one number. linkerd: what its own controller took on such a machine."""

    case: str
    key: str
    label: str
    at_most: float
    unit: str
    linkerd: str = ""

    def value(self, result: Mapping[str, Any]) -> float:
        return float(result[self.case][self.key])


LIMITS: Final = (
    Limit("open", "answered_s", "2,000 Get streams opened at once: all answered", 3, "s", "1.05 s"),
    Limit("open", "cpu_s", "their CPU", 3, "s", "0.80 s"),
    Limit("open", "resident_mib", "resident then", 250, "MiB", "149 MiB"),
    Limit("change_few", "p99_ms", "one endpoint changes, 2 watchers: p99", 15, "ms", "2.1 ms"),
    Limit("change_many", "p99_ms", "one endpoint changes, 1,001 watchers: p99", 250, "ms", "182 ms"),
    Limit("change_many", "cpu_us_per_update", "CPU per update then", 40, "µs", "15 µs"),
    Limit("rolling_restart", "cpu_s", "rolling restart of 100 pods, 1,000 watchers: CPU", 5, "s"),
    Limit("snapshot", "first_answer_s", "start with a Redis snapshot: first answer", 1, "s"),
    Limit("certificates", "list_s", "10,000 certificates listed from Redis", 2, "s"),
    Limit("certify", "half_rate_p99_ms", "Certify at 500/s: p99", 50, "ms"),
)
CERTIFY_PER_S: Final = 1_000


def show(report: dict[str, Any], *, write: bool) -> bool:
    """Print the tables; write: also into the document. Whether every limit holds."""
    text = tables(report)
    print(text)
    if write:
        write_section("control", text)
    return all(limit.value(result) <= limit.at_most for result in report["api"].values() for limit in LIMITS) and all(
        result["certify"]["per_s"] >= CERTIFY_PER_S for result in report["api"].values()
    )


def tables(report: dict[str, Any]) -> str:
    shape, results = report["machine"], report["api"]
    where = f"{shape['cores']} cores, {shape['memory_gib']} GiB, kernel {shape['kernel']}, {shape['processor']}"
    names = list(results)
    lines = [
        "## The control plane under load",
        "",
        f"`make bench-control` on {where}. One replica on one core; the API server and all clients share the other.",
        f"{report['services']:,} Services of 10 endpoints with their pods.",
        "Times of a change count from the API server's answer.",
        "",
        f"| Case | Linkerd's controller | at most | {' | '.join(f'on {name}' for name in names)} |",
        f"| --- | --- | --- |{' --- |' * len(names)}",
    ]
    for limit in LIMITS:
        cells = [f"{limit.value(results[name]):g} {limit.unit}" for name in names]
        lines.append(f"| {limit.label} | {limit.linkerd} | {limit.at_most:g} {limit.unit} | {' | '.join(cells)} |")
    certify = [results[name]["certify"] for name in names]
    rates = " | ".join(str(one["per_s"]) for one in certify)
    own = " | ".join(f"{one['cpu_us_per_certificate']:,} µs" for one in certify)
    beside = " | ".join(f"{one['api_server_and_client_cpu_us_per_certificate']:,} µs" for one in certify)
    lines += [
        f"| Certify per second at saturation, at least | | {CERTIFY_PER_S} | {rates} |",
        f"| CPU of identity per certificate | | {1_000_000 / CERTIFY_PER_S:,g} µs | {own} |",
        f"| CPU of the API server (the token's review) and of the client, on the other core | | | {beside} |",
        "",
        "| Memory of a replica | " + " | ".join(f"on {name}" for name in names) + " |",
        f"| --- |{' --- |' * len(names)}",
    ]
    for case, what in (("memory_by_endpoints", "endpoint"), ("memory_by_streams", "stream")):
        for size in next(iter(results.values()))[case]:
            cells = [_memory(results[name][case], size, what) for name in names]
            lines.append(f"| {int(size):,} {what}s | {' | '.join(cells)} |")
    return "\n".join(lines)


def _memory(by_size: Mapping[str, float], size: str, what: str) -> str:
    total = by_size[size]
    if size == "0":
        return f"{total:g} MiB"
    per_one = (total - by_size["0"]) * 1024 * 1024 / int(size)
    return f"{total:g} MiB, {per_one:,.0f} bytes per {what}"
