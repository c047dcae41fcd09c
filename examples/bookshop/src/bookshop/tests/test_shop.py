"""The five services together on loopback, without a mesh: what the mesh must not change."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from bookshop import environment
from bookshop.traffic import next_request

START_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def process(*argv: str, port: int, **env: str) -> AsyncIterator[None]:
    child = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **env, "PORT": str(port)})
    try:
        async with asyncio.timeout(START_S):
            while child.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
        yield
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


def module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"bookshop.{name}")


@asynccontextmanager
async def shop(**reviews_env: str) -> AsyncIterator[httpx.AsyncClient]:
    redis = shutil.which("redis-server")
    assert redis, "redis-server is not installed: run `make setup`"
    store, catalog, reviews, orders, frontend = (free_port() for _ in range(5))
    async with (
        process(redis, "--port", str(store), "--bind", "127.0.0.1", "--save", "", port=store),
        process(*module("catalog"), port=catalog),
        process(*module("reviews"), port=reviews, **reviews_env),
        process(*module("orders"), port=orders, STORE_URL=f"redis://127.0.0.1:{store}/0"),
        process(
            *module("frontend"),
            port=frontend,
            CATALOG_ADDR=f"127.0.0.1:{catalog}",
            REVIEWS_URL=f"http://127.0.0.1:{reviews}",
            REVIEWS_VERSION_URL=f"http://127.0.0.1:{reviews}",
            ORDERS_URL=f"http://127.0.0.1:{orders}",
        ),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{frontend}", timeout=10) as client,
    ):
        yield client


async def test_a_visitor_browses_reads_reviews_and_orders() -> None:
    async with shop(VERSION="2") as client:
        assert "Mythical" in (await client.get("/")).text
        assert "★★★★" in (await client.get("/books/2")).text
        first = await client.post("/books/2/order")
        second = await client.post("/books/3/order")
        assert (first.status_code, first.json()["total"], second.json()["total"]) == (201, 1, 2)
        assert (await client.get("/books/99")).status_code == 404
        assert "★★★★" in (await client.get("/books/2?reviews=2")).text
        assert (await client.get("/books/2?reviews=3")).status_code == 400


async def test_failing_reviews_show_as_502_and_leave_the_index_alone() -> None:
    async with shop(VERSION="2", FAIL_PERCENT="100") as client:
        assert (await client.get("/books/1")).status_code == 502
        assert (await client.get("/")).status_code == 200


async def test_asking_tells_each_answer_with_its_time_and_version() -> None:
    port = free_port()
    trouble = {"VERSION": "2", "SLOW_PERCENT": "100", "SLOW_SECONDS": "0.2"}
    async with process(*module("reviews"), port=port, **trouble):
        asking = await asyncio.create_subprocess_exec(
            *module("ask"), f"http://127.0.0.1:{port}/reviews/1", "--requests=3", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asking.communicate()
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(answer["status"], answer["version"]) for answer in answers] == [(200, 2)] * 3
    assert all(answer["ms"] >= 200 for answer in answers)


async def test_asking_nobody_tells_that_no_answer_came() -> None:
    asking = await asyncio.create_subprocess_exec(
        *module("ask"), f"http://127.0.0.1:{free_port()}/", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asking.communicate()
    assert json.loads(out)["status"] == 0


def test_traffic_is_mostly_book_pages_and_one_in_ten_orders() -> None:
    rng = random.Random(7)
    kinds = Counter(next_request(rng) for _ in range(2000))
    assert 150 < sum(count for (method, _), count in kinds.items() if method == "POST") < 250
    for version in (1, 2):
        assert 80 < sum(count for (_, path), count in kinds.items() if path.endswith(f"?reviews={version}")) < 160


def test_a_number_out_of_range_ends_with_the_variable_and_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_PERCENT", "lots")
    with pytest.raises(SystemExit, match=r"FAIL_PERCENT='lots': expected a number from 0 to 100"):
        environment.number("FAIL_PERCENT", 0, 0, 100)
