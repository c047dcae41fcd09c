"""The HTTPS server that the API server calls."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web
from weft_common.kube.client import KubeError
from weft_common.log import get_logger

from weft_injector.core.answer import Answer, Refused
from weft_injector.core.json_value import JsonObject
from weft_injector.web.review import NotAReview, ReviewRequest, allowed, decode_review, denied

BODY_LIMIT_BYTES: Final = 10 * 1024 * 1024
# The API server waits 10 s (proxyInjector.timeoutSeconds). An answer just before that is its failure policy's to judge:
# a denial would not be, so running late must not become one.
REVIEW_BUDGET_S: Final = 9.5

_log = get_logger(__name__)


class Review(Protocol):
    """Decides one request. Raises ValueError or KubeError when it cannot."""

    def __call__(self, kind: str, namespace: str, obj: JsonObject, *, dry_run: bool) -> Awaitable[Answer]:
        """Whether the object may be written, and with which changes."""


@asynccontextmanager
async def serving(
    review: Review, port: int, tls: ssl.SSLContext, *, budget_s: float = REVIEW_BUDGET_S
) -> AsyncIterator[int]:
    """Serve until the block ends. Yields the bound port. Raises OSError when it is taken."""

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        if not body:
            return web.Response()
        try:
            asked = decode_review(body)
        except NotAReview as error:
            return web.Response(status=400, text=f"{error}\n")
        try:
            async with asyncio.timeout(budget_s):
                return web.json_response(await _answer(review, asked))
        except TimeoutError:
            _log.error("review took too long", kind=asked.kind, namespace=asked.namespace, budget_s=budget_s)
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"no decision within {budget_s} s\n")

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
        answer = await review(asked.kind, asked.namespace, asked.obj, dry_run=asked.dry_run)
    except (ValueError, KubeError) as error:
        # We could not decide, and guessing would leave the object outside the mesh.
        answer = Refused(str(error))
    except Exception as error:
        # The API server gets an answer whatever happens here; the log gets the whole story.
        _log.exception("review failed", kind=asked.kind, namespace=asked.namespace)
        answer = Refused(f"{type(error).__name__}: {error}")
    if isinstance(answer, Refused):
        _log.warning("refused", kind=asked.kind, namespace=asked.namespace, reason=answer.message)
        return denied(asked, answer)
    return allowed(asked, answer)
