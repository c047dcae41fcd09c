"""The topology as SVG. Colours are CSS variables, so one drawing serves light and dark pages.

All text comes from the cluster and is escaped here. Every node and edge carries its facts as data attributes and as a
title, for tests, tooltips and screen readers.
"""

from __future__ import annotations

from html import escape
from typing import Final

from weft_web.core.format import ABSENT, byte_rate, milliseconds, percent, rate
from weft_web.core.layout import Place, place_nodes
from weft_web.core.model import Health, Link, Overview, Workload

NODE_WIDTH: Final = 226
NODE_HEIGHT: Final = 96
COLUMN_GAP: Final = 84
ROW_GAP: Final = 26
MARGIN: Final = 14

_LOCK_BODY: Final = '<rect x="-6" y="-2" width="12" height="9" rx="2"/>'
_LOCK_CLOSED: Final = f'{_LOCK_BODY}<path d="M-3.6 -2v-3a3.6 3.6 0 0 1 7.2 0v3"/>'
_LOCK_OPEN: Final = f'{_LOCK_BODY}<path d="M-3.6 -2v-3.6a3.6 3.6 0 0 1 6.8 -1.6"/>'


def topology_svg(overview: Overview) -> str:
    """One <svg> element. An empty overview gives an empty string."""
    if not overview.workloads:
        return ""
    pairs = [(link.src, link.dst) for link in overview.links]
    places = place_nodes((workload.id for workload in overview.workloads), pairs)
    columns = max(place.column for place in places.values()) + 1
    rows = max(place.row for place in places.values()) + 1
    width = 2 * MARGIN + columns * NODE_WIDTH + (columns - 1) * COLUMN_GAP
    height = 2 * MARGIN + rows * NODE_HEIGHT + (rows - 1) * ROW_GAP
    edges = [_edge(link, places[link.src], places[link.dst]) for link in overview.links if link.src != link.dst]
    locks = [_lock(link, places[link.src], places[link.dst]) for link in overview.links if link.src != link.dst]
    nodes = [_node(workload, places[workload.id]) for workload in overview.workloads]
    return (
        f'<svg class="topology" role="img" aria-label="Topology: {len(nodes)} workloads, {len(edges)} edges" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">'
        f"{_MARKERS}{''.join(edges)}{''.join(nodes)}{''.join(locks)}</svg>"
    )


_MARKERS: Final = (
    "<defs>"
    + "".join(
        f'<marker id="arrow-{health.value}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse" markerUnits="userSpaceOnUse">'
        f'<path class="{health.value}" d="M0 0L8 4L0 8z"/></marker>'
        for health in Health
    )
    + "</defs>"
)


def _corner(place: Place) -> tuple[float, float]:
    return MARGIN + place.column * (NODE_WIDTH + COLUMN_GAP), MARGIN + place.row * (NODE_HEIGHT + ROW_GAP)


def _ends(src: Place, dst: Place) -> tuple[float, float, float, float]:
    x1, y1 = _corner(src)
    x2, y2 = _corner(dst)
    return x1 + NODE_WIDTH, y1 + NODE_HEIGHT / 2, x2 - 2, y2 + NODE_HEIGHT / 2


def _edge(link: Link, src: Place, dst: Place) -> str:
    x1, y1, x2, y2 = _ends(src, dst)
    if dst.column > src.column:
        bend = max(36.0, (x2 - x1) / 2)
        curve = f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
    else:
        # A call back to the left, or within a column: leave on the right and come around.
        curve = f"M{x1:g} {y1:g}C{x1 + 70:g} {y1 + 70:g} {x2 - 70:g} {y2 + 70:g} {x2:g} {y2:g}"
    facts = f"{link.src.name} to {link.dst.name}: {_security(link)}"
    if link.golden:
        facts += f", {percent(link.golden.success_rate)} success, {rate(link.golden.rps)} requests/s"
    health = link.health.value
    return (
        f'<path class="edge {health}" d="{curve}" marker-end="url(#arrow-{health})">'
        f"<title>{escape(facts)}</title></path>"
    )


def _lock(link: Link, src: Place, dst: Place) -> str:
    x1, y1, x2, y2 = _ends(src, dst)
    lift = 0.0 if dst.column > src.column else 52.0
    state = "closed" if link.secured else "open"
    shape = _LOCK_CLOSED if link.secured else _LOCK_OPEN
    return (
        f'<g class="lock {state}" transform="translate({(x1 + x2) / 2:g} {(y1 + y2) / 2 + lift:g})" '
        f'data-src="{escape(str(link.src))}" data-dst="{escape(str(link.dst))}" '
        f'data-secured="{"true" if link.secured else "false"}">'
        f'<circle r="12"/>{shape}<title>{escape(_security(link))}</title></g>'
    )


def _security(link: Link) -> str:
    if not link.secured:
        return f"not secured: {link.reason.replace('_', ' ')}"
    return f"mutual TLS, {link.client_id or 'unknown client'} to {link.server_id or 'unknown server'}"


def _node(workload: Workload, place: Place) -> str:
    x, y = _corner(place)
    health = workload.health.value if workload.is_meshed else "unmeshed"
    golden = workload.golden
    if golden:
        head = f'<tspan class="value">{percent(golden.success_rate)}</tspan> success'
        second = f'<tspan class="value">{rate(golden.rps)}</tspan> {"sent/s" if workload.sends_only else "req/s"}'
        latencies = (
            f"P50 {milliseconds(golden.p50_ms)}  P95 {milliseconds(golden.p95_ms)}  P99 {milliseconds(golden.p99_ms)}"
        )
    elif workload.is_meshed:
        head, second = "no traffic", f'<tspan class="value">{byte_rate(workload.bytes_per_s)}</tspan>'
        latencies = f"P50 {ABSENT}  P95 {ABSENT}  P99 {ABSENT}"
    else:
        head, second, latencies = "not meshed", "", "no proxy, no metrics of its own"
    name = workload.id.name if len(workload.id.name) <= 22 else f"{workload.id.name[:21]}…"
    return (
        f'<g class="node {health}" transform="translate({x:g} {y:g})" data-workload="{escape(str(workload.id))}">'
        f'<rect class="card" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="10"/>'
        f'<rect class="accent" width="5" height="{NODE_HEIGHT - 20}" x="0" y="10" rx="2.5"/>'
        f'<text class="name" x="16" y="25">{escape(name)}</text>'
        f'<text class="where" x="16" y="41">{escape(workload.id.namespace)} · '
        f"{workload.meshed_pods}/{workload.running_pods} meshed</text>"
        f'<text class="fact" x="16" y="63">{head}</text>'
        f'<text class="fact" x="{NODE_WIDTH - 14}" y="63" text-anchor="end">{second}</text>'
        f'<text class="latency" x="16" y="83">{escape(latencies)}</text>'
        f"<title>{escape(str(workload.id))}</title></g>"
    )
