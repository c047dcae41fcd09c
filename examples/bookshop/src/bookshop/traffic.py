"""A visitor who never leaves: a steady, bounded rate of requests to the frontend.

Prints a line of totals every ten seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter

import httpx

from bookshop import environment

REPORT_EVERY_S = 10.0
REQUEST_TIMEOUT_S = 10.0
# Beyond this many requests in flight new ones are skipped: a slow shop must not make the visitor grow without bound.
MAX_IN_FLIGHT = 50


def next_request(rng: random.Random) -> tuple[str, str]:
    """Method and path: mostly pages of books, some of the index, one in ten an order.

    One in eight is an editor who compares the versions of the reviews, so that neither is ever without traffic: left to
    the balancer alone, a version whose first answers were slow is not asked again for most of a minute.
    """
    book = rng.randint(1, 4)
    return rng.choices(
        [
            ("GET", f"/books/{book}"),
            ("GET", f"/books/{book}?reviews={rng.randint(1, 2)}"),
            ("GET", "/"),
            ("POST", f"/books/{book}/order"),
        ],
        weights=[48, 12, 30, 10],
    )[0]


async def visit(client: httpx.AsyncClient, method: str, path: str, results: Counter[str]) -> None:
    """One request; its status, or the kind of its failure, is counted."""
    try:
        response = await client.request(method, path)
    except httpx.HTTPError as error:
        results[type(error).__name__] += 1
    else:
        results[str(response.status_code)] += 1


async def generate(target: str, rate: float, stop: asyncio.Event, rng: random.Random) -> None:
    """rate: requests per second, evenly spaced (open loop)."""
    results: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    due = loop.time()
    next_report = due + REPORT_EVERY_S
    in_flight: set[asyncio.Task[None]] = set()
    async with httpx.AsyncClient(base_url=target, timeout=REQUEST_TIMEOUT_S) as client, asyncio.TaskGroup() as group:
        while not stop.is_set():
            if len(in_flight) < MAX_IN_FLIGHT:
                task = group.create_task(visit(client, *next_request(rng), results))
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
            else:
                results["skipped"] += 1
            if loop.time() >= next_report:
                next_report += REPORT_EVERY_S
                print(" ".join(f"{result}={count}" for result, count in sorted(results.items())), flush=True)
            due += 1 / rate
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await stop.wait()


async def main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    target = environment.address("TARGET_URL", "http://frontend:8080")
    rate = environment.number("REQUESTS_PER_SECOND", 10, 0.1, 500)
    await generate(target, rate, stop, random.Random())


if __name__ == "__main__":
    asyncio.run(main())
