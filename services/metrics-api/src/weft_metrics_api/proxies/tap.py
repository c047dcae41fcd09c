"""Live requests of many pods in one stream: pods come and go, each shows its share, none can fill the memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import grpc
from weft_common.log import get_logger
from weft_proto.linkerd import tap_pb2

from weft_metrics_api.core.pods import Pod, PodKey
from weft_metrics_api.core.tap import share_of
from weft_metrics_api.proxies.client import observe

# How often a pod is asked anew, and how often the set of pods is looked at (observability.md 4.3).
ROUND_S: Final = 1.0
# Events that a slow client leaves unread; older ones go first.
MAX_WAITING: Final = 2_000

_log = get_logger(__name__)

Event = tuple[Pod, tap_pb2.TapEvent]


async def tap(
    pods: Callable[[], list[Pod]],
    max_rps: float,
    request: Callable[[int], tap_pb2.ObserveRequest],
    send: Callable[[Pod, tap_pb2.TapEvent], Awaitable[None]],
) -> None:
    """Sends events as they come, until cancelled.

    pods: those to ask now, looked at every second. request: what to ask for a limit of requests.
    """
    events: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
    running: dict[PodKey, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as group:

        async def supervise() -> None:
            while True:
                current = {pod.key: pod for pod in pods()}
                for key in [key for key in running if key not in current]:
                    running.pop(key).cancel()
                for key, pod in current.items():
                    if key not in running:
                        follow = _follow(pod, lambda: request(share_of(max_rps, len(running))), events)
                        running[key] = group.create_task(follow, name=f"tap {key.name}")
                await asyncio.sleep(ROUND_S)

        group.create_task(supervise(), name="tapped pods")
        while True:
            await send(*await events.get())


async def _follow(pod: Pod, request: Callable[[], tap_pb2.ObserveRequest], events: asyncio.Queue[Event]) -> None:
    loop = asyncio.get_running_loop()
    is_failing = False
    while True:
        asked_at = loop.time()
        try:
            async for event in observe(pod, request()):
                is_failing = False
                if events.full():
                    with suppress(asyncio.QueueEmpty):
                        events.get_nowait()
                events.put_nowait((pod, event))
        except grpc.aio.AioRpcError as error:
            if not is_failing:
                _log.info("pod shows no requests", pod=pod.key.name, code=error.code().name, why=error.details())
            is_failing = True
        await asyncio.sleep(max(ROUND_S - (loop.time() - asked_at), 0.0))
