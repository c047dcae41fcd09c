"""The cluster as the controllers know it: objects by kind and key, children by owner.

Objects are raw JSON documents of the API, because controllers copy templates they must not understand; nobody changes
one once stored. Invariants: a version never goes backwards, and an object whose deletion has been seen never returns
under the same uid, so that the answers of writes and the events of watches may arrive in either order.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from weft_common.kube.resource import ObjectKey, Resource, key_of

Object = dict[str, Any]

# Deleted uids remembered. A watch event overtaken by the answer of its own write arrives well within this many.
_REMEMBERED_DELETIONS: Final = 4096


class World:
    """One writer: the runner's event loop."""

    def __init__(self) -> None:
        self._objects: dict[Resource, dict[ObjectKey, Object]] = defaultdict(dict)
        self._children: dict[tuple[Resource, str], set[ObjectKey]] = defaultdict(set)
        self._gone: set[str] = set()
        self._gone_order: deque[str] = deque()

    def get(self, resource: Resource, key: ObjectKey) -> Object | None:
        return self._objects[resource].get(key)

    def all(self, resource: Resource, namespace: str | None = None) -> list[Object]:
        """Every object of a kind, ordered by key; of one namespace when given."""
        objects = self._objects[resource]
        return [objects[key] for key in sorted(objects) if namespace is None or key.namespace == namespace]

    def children(self, resource: Resource, owner: Object) -> list[Object]:
        """Objects of a kind whose controller is owner, ordered by key."""
        objects = self._objects[resource]
        return [objects[key] for key in sorted(self._children[resource, owner["metadata"]["uid"]])]

    def apply(self, resource: Resource, obj: Object) -> bool:
        """Take in an object. False when it says nothing new: an older version, or deleted meanwhile."""
        metadata = obj["metadata"]
        if metadata.get("uid", "") in self._gone:
            return False
        key = key_of(obj)
        before = self._objects[resource].get(key)
        if before is not None and _version(before) >= _version(obj):
            return False
        if before is not None:
            self._unlink(resource, key, before)
        self._objects[resource][key] = obj
        owner = controller_of(obj)
        if owner is not None:
            self._children[resource, owner["uid"]].add(key)
        return True

    def delete(self, resource: Resource, key: ObjectKey, uid: str | None = None) -> Object | None:
        """Forget an object and return its last state. With a uid, only if it is still that one."""
        before = self._objects[resource].get(key)
        if before is None or (uid is not None and before["metadata"].get("uid") != uid):
            return None
        del self._objects[resource][key]
        self._unlink(resource, key, before)
        self._remember(before["metadata"].get("uid", ""))
        return before

    def reset(self, resource: Resource, objects: Mapping[ObjectKey, Object]) -> None:
        """These are all objects of a kind."""
        for key in list(self._objects[resource].keys() - objects.keys()):
            self.delete(resource, key)
        for obj in objects.values():
            self.apply(resource, obj)

    def _unlink(self, resource: Resource, key: ObjectKey, obj: Object) -> None:
        owner = controller_of(obj)
        if owner is None:
            return
        siblings = self._children[resource, owner["uid"]]
        siblings.discard(key)
        if not siblings:
            del self._children[resource, owner["uid"]]

    def _remember(self, uid: str) -> None:
        if not uid:
            return
        self._gone.add(uid)
        self._gone_order.append(uid)
        if len(self._gone_order) > _REMEMBERED_DELETIONS:
            self._gone.discard(self._gone_order.popleft())


def controller_of(obj: Object) -> Mapping[str, Any] | None:
    """The owner reference marked as controller."""
    owners: Iterator[Mapping[str, Any]] = iter(obj["metadata"].get("ownerReferences") or ())
    return next((owner for owner in owners if owner.get("controller")), None)


def _version(obj: Object) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)
