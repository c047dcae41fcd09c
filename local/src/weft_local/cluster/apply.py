"""Server-side apply of many objects: stage by stage, side by side within a stage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from weft_common.kube.client import APPLY_PATCH, KubeClient, KubeError, KubeUnreachable

from weft_local.cluster.discovery import place_of, served_kinds
from weft_local.manifests.order import in_stages

MANAGER: Final = "weft-local"
_AT_ONCE: Final = 8


@dataclass(eq=False)
class Refused(Exception):
    """One object was refused; those of earlier stages are applied. obj: as given."""

    obj: dict[str, Any]
    error: KubeError

    def __str__(self) -> str:
        return f"{self.obj['kind']} {self.obj['metadata']['name']}: {self.error.message}"


async def apply_all(
    kube: KubeClient,
    objects: Iterable[dict[str, Any]],
    *,
    dry_run: bool = False,
    before_stage: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Apply objects and return how many. before_stage runs before each stage. Raises Refused, KubeUnreachable."""
    kinds = await served_kinds(kube)
    limit = asyncio.Semaphore(_AT_ONCE)
    count = 0
    for stage in in_stages(objects):
        if before_stage is not None:
            await before_stage()
        if any((obj["apiVersion"], obj["kind"]) not in kinds for obj in stage):
            # An earlier stage may have defined it.
            kinds = await served_kinds(kube)
        try:
            async with asyncio.TaskGroup() as group:
                for obj in stage:
                    resource = place_of(kinds, obj)
                    path = resource.path(obj["metadata"].get("namespace"), obj["metadata"]["name"])
                    group.create_task(_apply(kube, limit, path, obj, dry_run=dry_run))
        except* KubeError as group_error:
            # The first refusal is the one to tell; the rest were cancelled.
            raise _first(group_error) from None
        except* Refused as group_error:
            raise _first(group_error) from None
        count += len(stage)
    return count


async def _apply(kube: KubeClient, limit: asyncio.Semaphore, path: str, obj: dict[str, Any], *, dry_run: bool) -> None:
    params = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
    if dry_run:
        params["dryRun"] = "All"
    async with limit:
        try:
            await kube.patch(path, json.dumps(obj).encode(), APPLY_PATCH, params)
        except KubeUnreachable:
            raise
        except KubeError as error:
            raise Refused(obj, error) from error


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
