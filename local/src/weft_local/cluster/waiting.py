"""Waits until workloads are ready, told by watches, with a word about each that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.informer import Informer
from weft_common.kube.resource import (
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    STATEFUL_SETS,
    ObjectKey,
    Resource,
)

from weft_local.cluster.readiness import Pending, PodTrouble, pending, unproven_s
from weft_local.cluster.streams import log_chunks
from weft_local.controllers.core.world import controller_of

Object = dict[str, Any]
Told = Callable[[Sequence[Pending]], None]

_WORKLOADS: Final = (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS, JOBS)
_LOG_LINES: Final = 10


class NotReady(Exception):
    """Time is up, or waiting longer is hopeless. pending: what is missing."""

    def __init__(self, reason: str, missing: Sequence[Pending]) -> None:
        super().__init__(reason)
        self.pending = missing


class _Collected:
    """The objects of one kind as they are now."""

    def __init__(self, changed: asyncio.Event) -> None:
        self.objects: dict[ObjectKey, Object] = {}
        self._changed = changed

    def apply(self, key: ObjectKey, obj: Object) -> None:
        self.objects[key] = obj
        self._changed.set()

    def delete(self, key: ObjectKey) -> None:
        self.objects.pop(key, None)
        self._changed.set()

    def reset(self, objs: Mapping[ObjectKey, Object]) -> None:
        self.objects = dict(objs)
        self._changed.set()


async def until_ready(
    kube: KubeClient, timeout_s: float, told: Told, only: Collection[tuple[str, str]] | None = None
) -> None:
    """Return when all workloads are ready, or those of `only`, as (namespace, name). told: called on every change.

    Raises NotReady after timeout_s, or sooner when everything still missing keeps crashing.
    """
    changed = asyncio.Event()
    collected: dict[Resource, _Collected] = {one: _Collected(changed) for one in (*_WORKLOADS, PODS)}
    missing: list[Pending] = []

    async def watch_until_ready() -> None:
        nonlocal missing
        informers = [Informer(kube, resource, _unchanged, sink) for resource, sink in collected.items()]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(informer.run()) for informer in informers]
            for informer in informers:
                await informer.synced.wait()
            while True:
                changed.clear()
                missing = _missing(collected, only)
                remaining_s = None if missing else unproven_s(collected[PODS].objects.values(), datetime.now(UTC))
                if remaining_s == 0:
                    break
                if missing:
                    told(missing)
                    if all(one.is_hopeless for one in missing):
                        raise NotReady("containers keep crashing", missing)
                with suppress(TimeoutError):
                    async with asyncio.timeout(remaining_s):
                        await changed.wait()
            for task in tasks:
                task.cancel()

    try:
        async with asyncio.timeout(timeout_s):
            await watch_until_ready()
    except TimeoutError as error:
        raise NotReady(f"not ready after {timeout_s:g} s", missing) from error
    except ExceptionGroup as group:
        for one in group.exceptions:
            if isinstance(one, NotReady):
                raise one from None
        raise


async def last_words(kube: KubeClient, trouble: PodTrouble) -> list[str]:
    """The last log lines of the container to blame, of its previous run when it crashed; empty when there are none."""
    if not trouble.container:
        return []
    for previous in ("true", "false") if trouble.is_crashing else ("false",):
        params = {"container": trouble.container, "tailLines": str(_LOG_LINES), "previous": previous}
        try:
            chunks = [chunk async for chunk in log_chunks(kube.config, trouble.namespace, trouble.name, params)]
        except KubeError:
            continue
        if lines := b"".join(chunks).decode(errors="replace").splitlines():
            return lines
    return []


def _missing(collected: Mapping[Resource, _Collected], only: Collection[tuple[str, str]] | None) -> list[Pending]:
    pods = collected[PODS].objects
    workloads = [obj for kind in _WORKLOADS for obj in collected[kind].objects.values()]
    workloads += [pod for pod in pods.values() if controller_of(pod) is None]
    if only is not None:
        workloads = [one for one in workloads if (one["metadata"]["namespace"], one["metadata"]["name"]) in only]
    return pending(workloads, pods.values())


def _unchanged(raw: Object) -> Object:
    return raw
