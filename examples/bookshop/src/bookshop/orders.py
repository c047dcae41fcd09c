"""Orders, HTTP/2 in cleartext, kept in Redis."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator

from hypercorn.asyncio import serve
from hypercorn.config import Config
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bookshop import environment

# Enough to look at, few enough that a demo left running for weeks does not fill the store.
KEPT_ORDERS = 1000


def application(redis: Redis) -> Starlette:
    """Takes orders (POST /orders {"book": id}) and counts them (GET /orders)."""

    async def place(request: Request) -> Response:
        try:
            book = int((await request.json())["book"])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": 'expected {"book": <id>}'}, status_code=400)
        order = f"{uuid.uuid4()}:{book}"
        async with redis.pipeline(transaction=True) as pipe:
            pipe.lpush("orders", order)
            pipe.ltrim("orders", 0, KEPT_ORDERS - 1)
            pipe.incr("orders:total")
            total = (await pipe.execute())[-1]
        return JSONResponse({"order": order, "total": total}, status_code=201)

    async def count(_: Request) -> Response:
        return JSONResponse({"total": int(await redis.get("orders:total") or 0)})

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def store_failed(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": f"the store does not answer: {error}"}, status_code=503)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await redis.aclose()

    return Starlette(
        routes=[
            Route("/orders", place, methods=["POST"]),
            Route("/orders", count, methods=["GET"]),
            Route("/healthz", healthz),
        ],
        exception_handlers={RedisError: store_failed},
        lifespan=lifespan,
    )


async def main() -> None:
    config = Config()
    config.bind = [f"0.0.0.0:{environment.port(8080)}"]
    config.accesslog = None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    redis = Redis.from_url(environment.address("STORE_URL", "redis://store:6379/0"))

    async def stopped() -> None:
        await stop.wait()

    await serve(application(redis), config, shutdown_trigger=stopped)  # type: ignore[arg-type]  # hypercorn narrows ASGI scopes


if __name__ == "__main__":
    asyncio.run(main())
