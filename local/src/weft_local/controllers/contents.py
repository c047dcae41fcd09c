"""Emptying a namespace that is being deleted: every object of every namespaced kind the API server knows.

Asks discovery, because custom resources belong to a namespace as much as pods do. The namespace itself goes when
nothing is left in it; until then the caller tries again.
"""

from __future__ import annotations

from typing import Any, Final

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import NAMESPACES, Resource, key_of

_FINALIZER: Final = "kubernetes"


class NamespaceNotEmpty(KubeError):
    """Objects are still stopping, or held by a finalizer. Try again."""

    def __init__(self, name: str, left: int) -> None:
        super().__init__(409, "Conflict", f"namespace {name} still holds {left} objects")


async def empty_namespace(kube: KubeClient, name: str) -> None:
    """Delete what a namespace holds and then its finalizer. Raises NamespaceNotEmpty, KubeError."""
    left = 0
    for resource in await namespaced_resources(kube):
        for obj in (await kube.list(resource.path(name)))["items"]:
            metadata = obj["metadata"]
            left += 1
            if not metadata.get("deletionTimestamp"):
                left -= await _delete(kube, resource, obj)
    if left:
        raise NamespaceNotEmpty(name, left)
    await _finalize(kube, name)


async def namespaced_resources(kube: KubeClient) -> list[Resource]:
    """Every namespaced kind that can be listed and deleted, in its preferred version."""
    found = _resources("", "v1", await kube.get("/api/v1"))
    for group in (await kube.get("/apis"))["groups"]:
        version = group["preferredVersion"]["version"]
        if group["name"] == "events.k8s.io":
            # The same objects as the core group's events.
            continue
        found += _resources(group["name"], version, await kube.get(f"/apis/{group['name']}/{version}"))
    return found


def _resources(group: str, version: str, listing: dict[str, Any]) -> list[Resource]:
    return [
        Resource(group, version, entry["name"], entry["kind"])
        for entry in listing["resources"]
        if entry["namespaced"] and "/" not in entry["name"] and {"list", "delete"} <= set(entry["verbs"])
    ]


async def _delete(kube: KubeClient, resource: Resource, obj: dict[str, Any]) -> int:
    """1 when the object is gone at once, 0 when it still has to stop."""
    key = key_of(obj)
    try:
        answer = await kube.delete(resource.path(key.namespace, key.name), {"propagationPolicy": "Background"})
    except KubeError as error:
        if error.status != 404:
            raise
        return 1
    return 0 if (answer.get("metadata") or {}).get("deletionTimestamp") else 1


async def _finalize(kube: KubeClient, name: str) -> None:
    path = NAMESPACES.path(name=name)
    try:
        namespace = await kube.get(path)
        finalizers = [one for one in (namespace.get("spec") or {}).get("finalizers") or () if one != _FINALIZER]
        body = {**namespace, "spec": {**(namespace.get("spec") or {}), "finalizers": finalizers}}
        await kube.update(f"{path}/finalize", body)
    except KubeError as error:
        if error.status != 404:
            raise
