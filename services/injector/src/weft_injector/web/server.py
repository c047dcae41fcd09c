"""The HTTPS server that the API server calls."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final, Protocol

from aiohttp import web
from weft_common.kube.client import KubeError
from weft_common.log import get_logger

from weft_injector.core.json_value import JsonObject
from weft_injector.core.patch import Add
from weft_injector.web.review import NotAReview, ReviewRequest, allowed, decode_review, denied

BODY_LIMIT_BYTES: Final = 10 * 1024 * 1024

_log = get_logger(__name__)


class Review(Protocol):
    """Decides one request. Raises ValueError or KubeError when it cannot."""

    def __call__(self, kind: str, namespace: str, obj: JsonObject, *, dry_run: bool) -> Awaitable[tuple[Add, ...]]:
        """The changes to make."""


@asynccontextmanager
async def serving(review: Review, port: int, tls: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve until the block ends. Yields the bound port. Raises OSError when it is taken."""

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        if not body:
            return web.Response()
        try:
            asked = decode_review(body)
        except NotAReview as error:
            return web.Response(status=400, text=f"{error}\n")
        return web.json_response(await _answer(review, asked))

    app = web.Application(client_max_size=BODY_LIMIT_BYTES)
    app.add_routes([web.post("/{path:.*}", handle)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "0.0.0.0", port, ssl_context=tls, reuse_address=True).start()  # noqa: S104
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _answer(review: Review, asked: ReviewRequest) -> JsonObject:
    try:
        return allowed(asked, await review(asked.kind, asked.namespace, asked.obj, dry_run=asked.dry_run))
    except (ValueError, KubeError) as error:
        message = str(error)
    except Exception as error:
        # The API server gets an answer whatever happens here; the log gets the whole story.
        _log.exception("review failed", kind=asked.kind, namespace=asked.namespace)
        message = f"{type(error).__name__}: {error}"
    _log.error("review refused", kind=asked.kind, namespace=asked.namespace, error=message)
    return denied(asked, message)
