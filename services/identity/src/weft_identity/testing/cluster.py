"""Of the API server only the endpoints that Certify asks, with answers and faults that a test chooses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class ReviewApi:
    """Answers TokenReview with what a test wants, and keeps every event."""

    status: dict[str, Any] = field(default_factory=dict)
    refuse_audience: bool = False
    is_away: bool = False
    allowed: bool = True
    reviews: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    may_answer: asyncio.Event | None = None
    """Reviews wait for it."""
    under_way: int = 0
    """Reviews that wait."""

    async def review(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.reviews.append(body["spec"])
        if self.may_answer is not None:
            self.under_way += 1
            await self.may_answer.wait()
            self.under_way -= 1
        if self.is_away:
            return web.json_response({"kind": "Status", "message": "etcd is away", "code": 500}, status=500)
        if self.refuse_audience and body["spec"].get("audiences"):
            return web.json_response({"status": {"error": "token audiences are invalid for this server"}})
        return web.json_response({"status": self.status})

    async def listed(self, request: web.Request) -> web.StreamResponse:
        """Lists and watches of kinds that a test does not care about; a watch says nothing."""
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.sleep(600)
            return response
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": self.objects.get(request.path, [])})

    async def access(self, _: web.Request) -> web.Response:
        return web.json_response({"status": {"allowed": self.allowed}})

    async def event(self, request: web.Request) -> web.Response:
        self.events.append(json.loads(await request.text()))
        return web.json_response({"metadata": {"name": "e"}}, status=201)


@asynccontextmanager
async def serving(api: ReviewApi) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes(
        [
            web.post("/apis/authentication.k8s.io/v1/tokenreviews", api.review),
            web.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", api.access),
            web.post("/api/v1/namespaces/{namespace}/events", api.event),
            web.get("/api/v1/pods", api.listed),
            web.get("/api/v1/namespaces/{namespace}/configmaps", api.listed),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
