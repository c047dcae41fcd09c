"""The overview page: tiles, topology, table; redrawn from the latest snapshot without a reload."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Final

from nicegui import ui

from weft_web.core.drawing import topology_svg
from weft_web.core.model import Overview
from weft_web.core.tables import tiles, workload_table
from weft_web.rpc.poller import Snapshot
from weft_web.web.style import STYLE

ALL: Final = "All namespaces"
# The mesh's own parts are left out until asked for: people come for their applications.
CONTROL_PLANE_NAMESPACES: Final = ("linkerd", "linkerd-viz")

_LEGEND: Final = (
    "<div class='legend'><span>Closed padlock: mutual TLS on every connection</span>"
    "<span>Open padlock: not secured, point at it for the reason</span>"
    "<span>Dashed: not meshed</span></div>"
)


def add_pages(latest: Callable[[], Snapshot], refresh_every_s: float) -> None:
    """Register the pages. latest: the newest snapshot, asked for by every open page at every refresh."""

    @ui.page("/", title="Weft")
    def overview_page(dark: str = "auto") -> None:
        OverviewPage(latest, dark).build(refresh_every_s)


class OverviewPage:
    """One open page: remembers the namespace chosen and what it last drew."""

    def __init__(self, latest: Callable[[], Snapshot], dark: str) -> None:
        self._latest = latest
        self._dark = {"true": True, "false": False}.get(dark)
        self._chosen = ALL
        self._drawn: tuple[Snapshot, str] | None = None

    def build(self, refresh_every_s: float) -> None:
        """Lay out the page and start its refresh."""
        ui.add_css(STYLE)
        theme = ui.dark_mode(self._dark)
        with ui.element("header").classes("bar"):
            ui.html("<h1>Weft</h1>", sanitize=False)
            ui.element("span").classes("grow")
            self._namespaces = ui.select([ALL], value=ALL, on_change=lambda event: self._choose(event.value))
            self._namespaces.props('dense outlined aria-label="Namespace"')
            toggle = ui.button(icon="contrast", on_click=lambda: theme.set_value(theme.value is not True))
            toggle.props('flat round dense color=grey aria-label="Light or dark"')
        with ui.element("main").classes("main"):
            self._trouble = ui.html("", sanitize=False)
            self._tiles = ui.html("", sanitize=False)
            with ui.element("section").classes("panel"):
                ui.html("<h2>Topology</h2>", sanitize=False)
                with ui.element("div").classes("scroll"):
                    self._topology = ui.html("", sanitize=False)
                ui.html(_LEGEND, sanitize=False)
            with ui.element("section").classes("panel"):
                self._table_title = ui.html("<h2>Workloads</h2>", sanitize=False)
                with ui.element("div").classes("scroll"):
                    self._table = ui.html("", sanitize=False)
        self._refresh()
        ui.timer(refresh_every_s, self._refresh)

    def _choose(self, namespace: str) -> None:
        self._chosen = namespace
        self._refresh()

    def _refresh(self) -> None:
        snapshot = self._latest()
        if self._drawn == (snapshot, self._chosen):
            return
        self._drawn = (snapshot, self._chosen)
        choices = [ALL, *snapshot.overview.namespaces]
        if self._namespaces.options != choices:
            self._namespaces.set_options(choices, value=self._chosen if self._chosen in choices else ALL)
        shown = self._shown(snapshot.overview)
        self._trouble.set_content(
            f'<div class="trouble" role="status">{escape(snapshot.trouble)}</div>' if snapshot.trouble else ""
        )
        self._tiles.set_content(
            '<div class="tiles">'
            + "".join(
                f'<div class="tile"><div class="number">{tile.number}</div><div class="label">{tile.label}</div></div>'
                for tile in tiles(shown)
            )
            + "</div>"
        )
        empty = (
            '<p class="empty">No workload has a proxy yet. Annotate a namespace with <code>linkerd.io/inject: enabled'
            "</code> and restart its pods.</p>"
        )
        self._topology.set_content(topology_svg(shown) or empty)
        self._table_title.set_content(f"<h2>Workloads, last {shown.covered_s:.0f} s</h2>")
        self._table.set_content(workload_table(shown) if shown.workloads else "")

    def _shown(self, overview: Overview) -> Overview:
        if self._chosen != ALL:
            return overview.within([self._chosen])
        return overview.within(ns for ns in overview.namespaces if ns not in CONTROL_PLANE_NAMESPACES)
