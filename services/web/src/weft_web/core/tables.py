"""The workload table and the summary tiles, as HTML and as values."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from weft_web.core.format import byte_rate, milliseconds, percent, rate
from weft_web.core.model import Overview, Workload


@dataclass(frozen=True, slots=True)
class Tile:
    """One number with its label. health: a class of the style sheet, or empty."""

    number: str
    label: str
    health: str = ""


def tiles(overview: Overview) -> list[Tile]:
    """Success and rate over all workloads' inbound requests, pods meshed, edges secured."""
    # What was only sent is counted where it was served.
    seen = [workload.golden for workload in overview.workloads if workload.golden and not workload.sends_only]
    total_rps = sum(golden.rps for golden in seen)
    succeeded = sum(golden.rps * golden.success_rate for golden in seen)
    success = succeeded / total_rps if total_rps else None
    meshed = sum(workload.meshed_pods for workload in overview.workloads)
    running = sum(workload.running_pods for workload in overview.workloads)
    secured = sum(link.secured for link in overview.links)
    return [
        Tile(percent(success), "success rate"),
        Tile(rate(total_rps if seen else None), "requests per second"),
        Tile(f"{meshed}/{running}", "pods meshed"),
        Tile(f"{secured}/{len(overview.links)}", "edges with mutual TLS"),
    ]


def workload_table(overview: Overview) -> str:
    """One <table> with a row a workload; text from the cluster is escaped."""
    rows = "".join(_row(workload) for workload in overview.workloads)
    heads = ("Workload", "Meshed", "Success", "RPS", "P50", "P95", "P99", "TCP")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f'<table class="metrics"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _row(workload: Workload) -> str:
    golden = workload.golden
    cells = [
        f"{workload.meshed_pods}/{workload.running_pods}",
        f'<span class="{workload.health.value}">{percent(golden.success_rate if golden else None)}</span>',
        rate(golden.rps if golden else None),
        milliseconds(golden.p50_ms if golden else None),
        milliseconds(golden.p95_ms if golden else None),
        milliseconds(golden.p99_ms if golden else None),
        byte_rate(workload.bytes_per_s),
    ]
    where = f"{escape(workload.id.namespace)}/{workload.id.kind}{' · what it sent' if workload.sends_only else ''}"
    name = f'{escape(workload.id.name)} <span class="where">{where}</span>'
    rest = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr data-workload="{escape(str(workload.id))}"><td>{name}</td>{rest}</tr>'
