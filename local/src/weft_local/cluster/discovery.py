"""Which kinds an API server serves, and under which paths."""

from __future__ import annotations

import asyncio
from typing import Any

from weft_common.kube.client import KubeClient
from weft_common.kube.resource import Resource


async def served_kinds(kube: KubeClient) -> dict[tuple[str, str], Resource]:
    """(apiVersion, kind) to where objects of it live."""
    groups = (await kube.get("/apis"))["groups"]
    versions = [("", "v1"), *((group["name"], one["version"]) for group in groups for one in group["versions"])]
    listings = await asyncio.gather(*(kube.get(_path(group, version)) for group, version in versions))
    found: dict[tuple[str, str], Resource] = {}
    for (group, version), listing in zip(versions, listings, strict=True):
        for entry in listing["resources"]:
            if "/" not in entry["name"]:
                resource = Resource(group, version, entry["name"], entry["kind"], entry["namespaced"])
                found[resource.api_version, resource.kind] = resource
    return found


def _path(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def place_of(kinds: dict[tuple[str, str], Resource], obj: dict[str, Any]) -> Resource:
    """Where an object's kind lives. Raises KeyError for a kind that is not served."""
    return kinds[obj["apiVersion"], obj["kind"]]
