"""A client that asks one thing many times and tells what came back: a line of JSON per answer, in the order they came.

    python -m bookshop.ask http://reviews:8080/reviews/1 --requests 2000
    python -m bookshop.ask http://reviews:8080/reviews/1 --seconds 10 --rate 100
    python -m bookshop.ask grpc://catalog:50051 --requests 1

A line has `at` (seconds since 1970 when the request was made), `ms` (until its whole answer was there), `status` (of
HTTP, or the number of a gRPC code; 0 when no HTTP answer came), and `version`, when the answer names one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc
import httpx

from bookshop import catalog_pb2, catalog_pb2_grpc

TIMEOUT_S = 10.0


class Answer(NamedTuple):
    """status: see the module. version: None when the answer names none."""

    status: int
    version: int | None = None


Ask = Callable[[], Awaitable[Answer]]


async def ask_http(client: httpx.AsyncClient, url: str) -> Answer:
    """One GET."""
    try:
        response = await client.get(url)
    except httpx.HTTPError:
        return Answer(0)
    is_json = response.headers.get("content-type", "").startswith("application/json")
    return Answer(response.status_code, response.json().get("version") if is_json else None)


async def ask_grpc(stub: catalog_pb2_grpc.CatalogAsyncStub) -> Answer:
    """One call for the catalog's list."""
    try:
        await stub.List(catalog_pb2.ListRequest(), timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        return Answer(int(error.code().value[0]))
    return Answer(0)


async def told(ask: Ask) -> None:
    """Ask once and print the line."""
    at, start = time.time(), time.perf_counter()
    answer = await ask()
    line: dict[str, Any] = {"at": at, "ms": (time.perf_counter() - start) * 1000, "status": answer.status}
    if answer.version is not None:
        line["version"] = answer.version
    print(json.dumps(line), flush=True)


async def ask_many(ask: Ask, requests: int, concurrency: int) -> None:
    """Ask so many times, so many at once."""
    left = requests

    async def asker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await told(ask)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(asker())


async def ask_steadily(ask: Ask, seconds: float, rate: float) -> None:
    """Ask so many times a second, whether or not earlier answers are there."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(round(seconds * rate)):
            await asyncio.sleep(start + number / rate - loop.time())
            group.create_task(told(ask))


async def main(options: argparse.Namespace) -> None:
    async def go(ask: Ask) -> None:
        if options.seconds:
            await ask_steadily(ask, options.seconds, options.rate)
        else:
            await ask_many(ask, options.requests, options.concurrency)

    if options.url.startswith("grpc://"):
        async with grpc.aio.insecure_channel(options.url.removeprefix("grpc://")) as channel:
            stub: catalog_pb2_grpc.CatalogAsyncStub = catalog_pb2_grpc.CatalogStub(channel)
            await go(lambda: ask_grpc(stub))
    else:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            await go(lambda: ask_http(client, options.url))


def options_from(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bookshop.ask", description="Ask one thing many times.")
    parser.add_argument("url", help="http://host:port/path, or grpc://host:port of the catalog")
    parser.add_argument("--requests", type=int, default=1, help="how many")
    parser.add_argument("--concurrency", type=int, default=1, help="how many at once")
    parser.add_argument("--seconds", type=float, default=0, help="instead of --requests: for so long")
    parser.add_argument("--rate", type=float, default=50, help="with --seconds: requests per second")
    return parser.parse_args(argv)


if __name__ == "__main__":
    asyncio.run(main(options_from()))
