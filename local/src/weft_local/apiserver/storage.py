"""The store: objects by kind and key, one global resource version, a bounded history for watches.

Objects are plain dictionaries that nobody changes once stored. Each is serialised at most once, and lists and watches
share those bytes. Knows nothing of HTTP, validation or admission.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from weft_common.kube.resource import ObjectKey, key_of

from weft_local.apiserver.errors import already_exists, conflict, expired, not_found
from weft_local.apiserver.kinds import Kind

# Events kept per kind. A watcher that falls further behind relists.
HISTORY: Final = 4096

Object = dict[str, Any]


class Stored:
    """One version of one object."""

    __slots__ = ("_encoded", "obj", "version")

    def __init__(self, obj: Object, version: int) -> None:
        self.obj = obj
        self.version = version
        self._encoded: bytes | None = None

    @property
    def encoded(self) -> bytes:
        """The object as JSON, made on first use."""
        if self._encoded is None:
            self._encoded = json.dumps(self.obj, separators=(",", ":")).encode()
        return self._encoded


@dataclass(frozen=True, slots=True)
class Change:
    """One write. before is None for a creation; a deletion carries the last state in now."""

    version: int
    type: str
    now: Stored
    before: Stored | None


@dataclass(slots=True)
class _Collection:
    objects: dict[ObjectKey, Stored] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    # Version of the newest change that has left the history.
    compacted: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Storage:
    """All kinds. Not thread-safe: one event loop owns it."""

    def __init__(self) -> None:
        self.version = 1
        self._collections: dict[str, _Collection] = {}
        self._uids: set[str] = set()

    def get(self, kind: Kind, key: ObjectKey) -> Object:
        """Raises ApiError 404."""
        stored = self._of(kind).objects.get(key)
        if stored is None:
            raise not_found(kind.plural, kind.group, key.name)
        return stored.obj

    def find(self, kind: Kind, key: ObjectKey) -> Object | None:
        stored = self._of(kind).objects.get(key)
        return None if stored is None else stored.obj

    def all(self, kind: Kind, namespace: str | None = None) -> Iterator[Stored]:
        """Every object of a kind in order of its key, of one namespace when given."""
        objects = self._of(kind).objects
        for key in sorted(objects):
            if namespace is None or key.namespace == namespace:
                yield objects[key]

    def count(self, kind: Kind) -> int:
        """How many objects of a kind there are."""
        return len(self._of(kind).objects)

    def has_uid(self, uid: str) -> bool:
        """Whether an object of any kind has this uid."""
        return uid in self._uids

    def create(self, kind: Kind, obj: Object, now: str) -> Object:
        """Store a new object, giving it uid, creation time and version. now: RFC 3339. Raises ApiError 409."""
        key = key_of(obj)
        collection = self._of(kind)
        if key in collection.objects:
            raise already_exists(kind.plural, kind.group, key.name)
        uid = str(uuid.uuid4())
        self._uids.add(uid)
        metadata = {**obj["metadata"], "uid": uid, "creationTimestamp": now, "generation": 1}
        return self._write(collection, key, {**obj, "metadata": metadata}, "ADDED", None)

    def update(self, kind: Kind, obj: Object) -> Object:
        """Replace an object. A resourceVersion in it must be the current one. Raises ApiError 404, 409.

        A write that changes nothing gives no event and no new version.
        """
        key = key_of(obj)
        collection = self._of(kind)
        before = collection.objects.get(key)
        if before is None:
            raise not_found(kind.plural, kind.group, key.name)
        old = before.obj["metadata"]
        wanted = obj["metadata"].get("resourceVersion")
        if wanted and wanted != old["resourceVersion"]:
            raise conflict(
                kind.plural,
                kind.group,
                key.name,
                "the object has been modified; please apply your changes to the latest version and try again",
            )
        if obj["metadata"].get("uid", old["uid"]) != old["uid"]:
            raise conflict(kind.plural, kind.group, key.name, "the object was deleted and created anew")
        fixed = {name: old[name] for name in ("uid", "creationTimestamp", "resourceVersion") if name in old}
        metadata = {**obj["metadata"], **fixed}
        spec_changed = any(
            obj.get(name) != before.obj.get(name) for name in {*obj, *before.obj} - {"metadata", "status"}
        )
        metadata["generation"] = old.get("generation", 1) + int(spec_changed)
        after = {**obj, "metadata": metadata}
        if after == before.obj:
            return before.obj
        return self._write(collection, key, after, "MODIFIED", before)

    def delete(self, kind: Kind, key: ObjectKey) -> Object:
        """Remove an object for good and return its last state. Raises ApiError 404."""
        collection = self._of(kind)
        before = collection.objects.pop(key, None)
        if before is None:
            raise not_found(kind.plural, kind.group, key.name)
        self._uids.discard(before.obj["metadata"]["uid"])
        self.version += 1
        obj = {**before.obj, "metadata": {**before.obj["metadata"], "resourceVersion": str(self.version)}}
        self._note(collection, Change(self.version, "DELETED", Stored(obj, self.version), before))
        return obj

    def changes_since(self, kind: Kind, version: int) -> list[Change]:
        """Changes of a kind after version, oldest first. Raises ApiError 410 when some are no longer known."""
        collection = self._of(kind)
        if version < collection.compacted:
            raise expired(f"too old resource version: {version} ({collection.compacted})")
        history = collection.history
        start = len(history)
        while start > 0 and history[start - 1].version > version:
            start -= 1
        return history[start:]

    async def wait_for_change(self, kind: Kind) -> None:
        """Return after the next write of the kind, or when woken. Check `changes_since` first."""
        await self._of(kind).changed.wait()

    def wake_all(self) -> None:
        """Let everybody who waits for a change look again; used to end watches."""
        for collection in self._collections.values():
            _wake(collection)

    def _of(self, kind: Kind) -> _Collection:
        return self._collections.setdefault(kind.id, _Collection())

    def _write(self, collection: _Collection, key: ObjectKey, obj: Object, event: str, before: Stored | None) -> Object:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        stored = Stored(obj, self.version)
        collection.objects[key] = stored
        self._note(collection, Change(self.version, event, stored, before))
        return obj

    def _note(self, collection: _Collection, change: Change) -> None:
        collection.history.append(change)
        if len(collection.history) > HISTORY:
            dropped = len(collection.history) - HISTORY // 2
            collection.compacted = collection.history[dropped - 1].version
            del collection.history[:dropped]
        _wake(collection)


def _wake(collection: _Collection) -> None:
    # Whoever waits now goes on; whoever comes later waits for the next write.
    collection.changed.set()
    collection.changed = asyncio.Event()
