"""Reviews, HTTP/1.1. Version 2 adds stars. A share of the answers can be told to fail, and a share to be slow."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bookshop import environment

QUOTES = {
    1: ("A teacher's whole method in one book.", 5),
    2: ("Still true, page after page.", 4),
    3: ("Wizardry, explained.", 5),
    4: ("You will look at rooms with other eyes.", 4),
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """fail_percent, slow_percent: shares of /reviews answers, 0 to 100. slow_s: how long a slow one takes."""

    fail_percent: float = 0
    slow_percent: float = 0
    slow_s: float = 1


def application(version: int, trouble: Trouble, rng: random.Random) -> Starlette:
    """version: 1 or 2."""

    async def reviews(request: Request) -> Response:
        if rng.random() * 100 < trouble.slow_percent:
            await asyncio.sleep(trouble.slow_s)
        if rng.random() * 100 < trouble.fail_percent:
            return PlainTextResponse("the reviews database timed out\n", status_code=500)
        found = QUOTES.get(int(request.path_params["book"]))
        if found is None:
            return JSONResponse({"version": version, "reviews": []})
        text, stars = found
        review: dict[str, object] = {"text": text}
        if version >= 2:
            review["stars"] = stars
        return JSONResponse({"version": version, "reviews": [review]})

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/reviews/{book:int}", reviews), Route("/healthz", healthz)])


def main() -> None:
    app = application(
        version=int(environment.number("VERSION", 1, 1, 2)),
        trouble=Trouble(
            fail_percent=environment.number("FAIL_PERCENT", 0, 0, 100),
            slow_percent=environment.number("SLOW_PERCENT", 0, 0, 100),
            slow_s=environment.number("SLOW_SECONDS", 1, 0, 60),
        ),
        rng=random.Random(),
    )
    uvicorn.run(app, host="0.0.0.0", port=environment.port(8080), log_level="warning", access_log=False)  # noqa: S104


if __name__ == "__main__":
    main()
