"""The informer against a real HTTP server that plays scripted API answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_common.kube.informer import Informer
from weft_common.kube.resource import PODS, ObjectKey


def pod(name: str, version: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name, "resourceVersion": version}}


class Seen:
    """An index that remembers its state and wakes whoever waits for a change."""

    def __init__(self) -> None:
        self.state: dict[ObjectKey, str] = {}
        self.changed = asyncio.Event()

    def apply(self, key: ObjectKey, obj: str) -> None:
        self.state[key] = obj
        self.changed.set()

    def delete(self, key: ObjectKey) -> None:
        del self.state[key]
        self.changed.set()

    def reset(self, objs: Mapping[ObjectKey, str]) -> None:
        self.state = dict(objs)
        self.changed.set()

    async def until(self, expected: dict[str, str]) -> None:
        while {key.name: value for key, value in self.state.items()} != expected:
            self.changed.clear()
            await self.changed.wait()


class ScriptedApi:
    """Lists come from `lists`, one per request; watches send what is put into `events` until None ends them."""

    def __init__(self, lists: list[tuple[str, list[dict[str, Any]]]]) -> None:
        self.lists = lists
        self.events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.watched_from: list[str] = []
        self.is_absent = False

    async def pods(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            if self.is_absent:
                return web.json_response({"kind": "Status", "code": 404, "reason": "NotFound"}, status=404)
            version, items = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
            return web.json_response({"metadata": {"resourceVersion": version}, "items": items})
        self.watched_from.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await self.events.get()) is not None:
            await response.write(json.dumps(event).encode() + b"\n")
        return response


@contextlib.asynccontextmanager
async def following(api: ScriptedApi, seen: Seen, *, may_be_absent: bool = False) -> Any:
    app = web.Application()
    app.router.add_get("/api/v1/pods", api.pods)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with KubeClient(KubeConfig(server=f"http://127.0.0.1:{port}")) as kube:
        informer = Informer(
            kube, PODS, lambda raw: str(raw["metadata"]["resourceVersion"]), seen, may_be_absent=may_be_absent
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(informer.run())
            yield informer
            task.cancel()
    await runner.cleanup()


async def test_index_follows_list_and_watch() -> None:
    api, seen = ScriptedApi([("5", [pod("a", "4")])]), Seen()
    async with asyncio.timeout(5), following(api, seen) as informer:
        await seen.until({"a": "4"})
        await api.events.put({"type": "ADDED", "object": pod("b", "6")})
        await api.events.put({"type": "DELETED", "object": pod("a", "7")})
        await seen.until({"b": "6"})
        assert informer.synced.is_set()
        assert api.watched_from == ["5"]


async def test_a_closed_watch_goes_on_from_the_last_version_without_a_list() -> None:
    api, seen = ScriptedApi([("5", [pod("a", "4")])]), Seen()
    async with asyncio.timeout(5), following(api, seen):
        await api.events.put({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}})
        await api.events.put(None)
        await api.events.put({"type": "MODIFIED", "object": pod("a", "10")})
        await seen.until({"a": "10"})
        assert api.watched_from == ["5", "9"]


async def test_an_expired_version_relists_and_drops_what_is_gone() -> None:
    api, seen = ScriptedApi([("5", [pod("a", "4"), pod("b", "4")]), ("50", [pod("b", "40")])]), Seen()
    async with asyncio.timeout(5), following(api, seen):
        await seen.until({"a": "4", "b": "4"})
        await api.events.put({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}})
        await seen.until({"b": "40"})


async def test_an_unreadable_object_is_skipped_and_its_old_self_removed() -> None:
    api, seen = ScriptedApi([("5", [pod("a", "4"), pod("b", "4")])]), Seen()
    broken = pod("a", "6")
    async with asyncio.timeout(5), following(api, seen) as informer:
        await seen.until({"a": "4", "b": "4"})
        informer._parse = lambda raw: raw["spec"]["absent"]
        await api.events.put({"type": "MODIFIED", "object": broken})
        await seen.until({"b": "4"})


async def test_a_kind_that_is_not_installed_is_empty_until_it_appears() -> None:
    api, seen = ScriptedApi([("5", [pod("a", "4")])]), Seen()
    api.is_absent = True
    async with asyncio.timeout(5), following(api, seen, may_be_absent=True) as informer:
        await informer.synced.wait()
        assert (seen.state, informer.stale) == ({}, False)
        api.is_absent = False
        await seen.until({"a": "4"})


async def test_a_kind_that_vanishes_with_its_objects_known_keeps_them() -> None:
    api, seen = ScriptedApi([("5", [pod("a", "4")]), ("9", [pod("b", "8")])]), Seen()
    async with asyncio.timeout(5), following(api, seen, may_be_absent=True) as informer:
        await seen.until({"a": "4"})
        api.is_absent = True
        await api.events.put({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}})
        while not informer.stale:  # noqa: ASYNC110 - a plain flag
            await asyncio.sleep(0.01)
        assert {key.name for key in seen.state} == {"a"}
        api.is_absent = False
        await seen.until({"b": "8"})
