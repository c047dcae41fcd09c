"""The tables of docs/performance.md and the plot, from the results of the proxy benchmark."""

from __future__ import annotations

from typing import Any, Final

from bench.report import DOCUMENT, RESULTS, write_section

CASES: Final = {"http1": "HTTP/1", "http2": "HTTP/2", "grpc": "gRPC unary"}
RATES: Final = (20, 200, 2000)
PLOT: Final = "performance-proxy.svg"


def show(report: dict[str, Any], *, write: bool) -> None:
    """Prints the tables; write: also into the document, beside the plot."""
    text = tables(report)
    print(text)
    picture = plot(report)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "proxy.svg").write_text(picture)
    if write:
        (DOCUMENT.parent / PLOT).write_text(picture)
        write_section("proxy", text)


def tables(report: dict[str, Any]) -> str:
    rows = report["results"]
    shape = report["machine"]
    where = f"{shape['cores']} cores, {shape['memory_gib']} GiB, kernel {shape['kernel']}, {shape['processor']}"
    lines = [
        "## The proxy against its peers",
        "",
        f"`make bench BENCH_ARGS=proxy` on {where}.",
        "All peers in one run, rounds interleaved, proxies on one core, load with backend on another. Pairs carry",
        "mutual TLS between two pods; HAProxy and nginx are one plain hop.",
        "CPU is user and system time of one proxy process per request at saturation, 16 requests in flight.",
        *(f"\nNot measured: {name}: {why}." for name, why in report["absent"].items()),
        "",
        f"![CPU per request]({PLOT})",
        "",
        "| CPU µs per request | " + " | ".join(f"{name}, out / in" for name in CASES.values()) + " | requests/s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for peer in _peers(rows):
        cells = []
        for case in CASES:
            row = _row(rows, peer, case)
            sides = [row[key] for key in ("out_cpu_us_per_request", "in_cpu_us_per_request") if key in row]
            cells.append(" / ".join(f"{side:.1f}" for side in sides) or "")
        rates = " / ".join(str(_row(rows, peer, case).get("saturation_rps", "–")) for case in CASES)
        lines.append(f"| {peer} | {' | '.join(cells)} | {rates} |")
    lines += ["", *_ratios(rows), "", *_latency(rows), "", *_memory(rows), "", *_throughput(rows)]
    return "\n".join(lines)


def _peers(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["peer"] for row in rows))


def _row(rows: list[dict[str, Any]], peer: str, case: str) -> dict[str, Any]:
    return next((row for row in rows if (row["peer"], row["case"]) == (peer, case)), {})


def _pair_us(row: dict[str, Any]) -> float | None:
    out, inside = row.get("out_cpu_us_per_request"), row.get("in_cpu_us_per_request")
    return None if out is None or inside is None else float(out + inside)


def _ratios(rows: list[dict[str, Any]]) -> list[str]:
    """Ours over each other pair of the same run."""
    lines = ["| Our pair's CPU over | HTTP/1 | HTTP/2 | gRPC unary |", "| --- | --- | --- | --- |"]
    for peer in _peers(rows):
        if peer == "weft":
            continue
        cells = []
        for case in CASES:
            ours, theirs = _pair_us(_row(rows, "weft", case)), _pair_us(_row(rows, peer, case))
            cells.append(f"{ours / theirs:.2f}" if ours and theirs else "")
        if any(cells):
            lines.append(f"| {peer} | {' | '.join(cells)} |")
    return lines


def _latency(rows: list[dict[str, Any]]) -> list[str]:
    header = " | ".join(f"{rate} rps: p50 / p99 / p99.9" for rate in RATES)
    lines = [f"| Added over direct, ms, HTTP/1 | {header} |", "| --- | --- | --- | --- |"]
    for peer in _peers(rows):
        row = _row(rows, peer, "http1")
        cells = []
        for rate in RATES:
            found = [row.get(f"added_{name}_at_{rate}_rps_ms") for name in ("p50", "p99", "p999")]
            cells.append(" / ".join(f"{value:.2f}" for value in found if value is not None))
        if any(cells):
            lines.append(f"| {peer} | {' | '.join(cells)} |")
    return lines


def _memory(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| RSS, MiB | out idle | in idle | out at 1,000 connections | in at 1,000 |",
        "| --- | --- | --- | --- | --- |",
    ]
    keys = ("out_idle", "in_idle", "out_1000_connections", "in_1000_connections")
    for peer in _peers(rows):
        row = _row(rows, peer, "http1")
        cells = [f"{row[key + '_rss_mib']:.0f}" if f"{key}_rss_mib" in row else "" for key in keys]
        if any(cells):
            lines.append(f"| {peer} | {' | '.join(cells)} |")
    return lines


def _throughput(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| Opaque TCP | MiB/s | CPU s per GiB, out / in |", "| --- | --- | --- |"]
    for peer in _peers(rows):
        row = _row(rows, peer, "tcp")
        if row:
            sides = [row[key] for key in ("out_cpu_s_per_gib", "in_cpu_s_per_gib") if key in row]
            costs = " / ".join(f"{side:.2f}" for side in sides)
            lines.append(f"| {peer} | {row['bytes_per_s'] / 1024**2:.0f} | {costs} |")
    return lines


def plot(report: dict[str, Any]) -> str:
    """Bars of CPU per request, by case and peer, both sides stacked."""
    rows = report["results"]
    bars = [(case, peer, _row(rows, peer, case)) for case in CASES for peer in _peers(rows)]
    bars = [(case, peer, row) for case, peer, row in bars if "out_cpu_us_per_request" in row]
    longest = max(
        (row["out_cpu_us_per_request"] + row.get("in_cpu_us_per_request", 0) for _, _, row in bars), default=1
    )
    left, width, step = 210, 420, 24
    height = 60 + step * len(bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 90} {height}" font-family="sans-serif" '
        'font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="22" font-size="14">CPU µs per request: outbound (dark) and inbound (light)</text>',
    ]
    for index, (case, peer, row) in enumerate(bars):
        y = 40 + index * step
        out, inside = row["out_cpu_us_per_request"], row.get("in_cpu_us_per_request", 0)
        first, second = width * out / longest, width * inside / longest
        dark, light = ("#1b6e53", "#66b89b") if peer.startswith("weft") else ("#555a66", "#a9adb8")
        parts += [
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{CASES[case]}, {peer}</text>',
            f'<rect x="{left}" y="{y}" width="{first:.1f}" height="17" fill="{dark}"/>',
            f'<rect x="{left + first:.1f}" y="{y}" width="{second:.1f}" height="17" fill="{light}"/>',
            f'<text x="{left + first + second + 6:.1f}" y="{y + 13}">{out + inside:.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])
