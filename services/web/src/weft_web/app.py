"""Builds the UI service and runs it: poller, pages, admin server. The only place that connects its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, cast

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from nicegui import ui
from prometheus_client import CollectorRegistry
from weft_common.admin import AdminServer
from weft_common.log import configure_logging, get_logger
from weft_common.tasks import forever, until
from weft_common.version import VERSION

from weft_web.config import WebSettings
from weft_web.core.hosts import is_own_host
from weft_web.rpc.poller import OverviewPoller
from weft_web.web.pages import add_pages

_log = get_logger(__name__)

# What a page may load: itself, the styles and scripts its framework inlines, and its own WebSocket.
_SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "no-referrer",
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'self'"
    ),
}


async def run(settings: WebSettings, stop: asyncio.Event) -> None:
    """Serve until stop is set. Raises OSError when a port is taken."""
    configure_logging(settings.log_level, cast(Literal["json", "console"], settings.log_format))
    poller = OverviewPoller(
        settings.metrics_api_addr, settings.refresh_every.total_seconds(), settings.window.total_seconds()
    )
    add_pages(lambda: poller.latest, settings.refresh_every.total_seconds())
    app = application(settings.allowed_hosts)
    server = uvicorn.Server(
        uvicorn.Config(app, host="0.0.0.0", port=settings.http_port, log_config=None, access_log=False)  # noqa: S104
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # signals are ours

    def missing() -> Sequence[str]:
        return [] if server.started else ["pages are not served yet"]

    admin = AdminServer(settings.admin_port, missing, CollectorRegistry())
    async with admin.serving():
        _log.info("web UI started", port=settings.http_port, version=VERSION)
        await until(stop, forever("poller", poller.run()), _serve(server))


async def _serve(server: uvicorn.Server) -> None:
    try:
        await server._serve()
    except asyncio.CancelledError:
        await server.shutdown()
        raise


def application(allowed_hosts: Sequence[str]) -> FastAPI:
    """The ASGI application: NiceGUI's pages behind the Host check and the security headers."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if not is_own_host(request.headers.get("host", ""), allowed_hosts):
            return PlainTextResponse(
                "this Host name is not mine: set WEFT_ALLOWED_HOSTS to answer to it\n", status_code=400
            )
        response = await call_next(request)
        response.headers.update(_SECURITY_HEADERS)
        return response

    ui.run_with(app, title="Weft", show_welcome_message=False)
    return app
