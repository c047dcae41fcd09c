"""The admin HTTP server every service has: liveness, readiness with reasons, Prometheus metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


@dataclass(frozen=True, slots=True)
class AdminServer:
    """Serves /ping, /live, /ready and /metrics.

    port: 0 for a free one. ready: what is still missing, in words; empty means ready.
    """

    port: int
    ready: Callable[[], Sequence[str]]
    registry: CollectorRegistry
    host: str = "0.0.0.0"  # noqa: S104 - probes and scrapers come from outside the pod

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve until the block ends. Yields the bound port. Raises OSError when it is taken."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/ping", self._ping),
                web.get("/live", self._live),
                web.get("/ready", self._ready),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.host, self.port, reuse_address=True)
            await site.start()
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="pong\n")

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def _ready(self, _: web.Request) -> web.Response:
        missing = self.ready()
        if missing:
            return web.Response(status=503, text="".join(f"{reason}\n" for reason in missing))
        return web.Response(text="ok\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})
