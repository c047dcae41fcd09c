"""Builders of API objects, and a world that answers plans as an API server would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from weft_common.kube.resource import ObjectKey, Resource, key_of

from weft_local.controllers.core.plan import Create, Delete, Patch, Plan
from weft_local.controllers.core.world import World

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 8000}]}]},
}


def workload(resource: Resource, name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE, **spec},
    }


class Cluster:
    """A world plus the bookkeeping of an API server: names, uids, versions, merge patches."""

    def __init__(self) -> None:
        self.world = World()
        self.now = NOW
        self._numbers = count(1)

    def put(self, resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        """Create or replace."""
        metadata = dict(obj["metadata"])
        number = next(self._numbers)
        metadata.setdefault("name", f"{metadata.get('generateName', '')}{number}")
        metadata.setdefault("uid", f"uid-{number}")
        metadata.setdefault("generation", 1)
        metadata.setdefault("creationTimestamp", (self.now + timedelta(seconds=number)).isoformat())
        metadata["resourceVersion"] = str(number)
        stored = {**obj, "metadata": metadata}
        self.world.apply(resource, stored)
        return stored

    def get(self, resource: Resource, name: str = "web") -> dict[str, Any]:
        found = self.world.get(resource, ObjectKey("shop", name))
        assert found is not None
        return found

    def change(self, resource: Resource, obj: dict[str, Any], **spec: Any) -> dict[str, Any]:
        """A user's edit of the spec."""
        metadata = {**obj["metadata"], "generation": obj["metadata"]["generation"] + 1}
        return self.put(resource, {**obj, "metadata": metadata, "spec": {**obj["spec"], **spec}})

    def carry_out(self, plan: Plan) -> int:
        """Do what a plan says, pods being deleted at once. The number of actions."""
        for action in plan.actions:
            match action:
                case Create(resource, body):
                    self.put(resource, body)
                case Delete(resource, key, uid):
                    assert self.world.delete(resource, key, uid) is not None
                case Patch(resource, key, body):
                    before = self.world.get(resource, key)
                    assert before is not None
                    self.put(resource, merged(before, body))
                case other:
                    raise AssertionError(f"unexpected {other}")
        return len(plan.actions)

    def make_ready(self, resource: Resource, pod: dict[str, Any], ip: str = "10.0.0.1") -> None:
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": self.now.isoformat()}
        status = {"phase": "Running", "podIP": ip, "conditions": [ready]}
        self.put(resource, {**pod, "status": status})


def merged(obj: Any, patch: Any) -> Any:
    """JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    result = dict(obj) if isinstance(obj, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def names(objects: list[dict[str, Any]]) -> list[str]:
    return [key_of(obj).name for obj in objects]
