"""Deleting: grace, finalizers, and what becomes of the objects that the deleted one owned.

One collector task removes what has lost all its owners. It looks after deletions, a burst of which costs one look, and
after a write that names an owner who is not there or is on the way out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from weft_common.kube.resource import ObjectKey, key_of
from weft_common.log import get_logger

from weft_local.apiserver.decoding import Object, with_metadata
from weft_local.apiserver.errors import ApiError, conflict
from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.registry import Kinds
from weft_local.apiserver.storage import Storage

CRDS: Final = "apiextensions.k8s.io/customresourcedefinitions"
FOREGROUND: Final = "foregroundDeletion"
_FINISHED: Final = ("Succeeded", "Failed")
_log = get_logger(__name__)


class Deletions:
    """Marks, removes and collects. now: the time."""

    def __init__(self, storage: Storage, kinds: Kinds, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self._kinds = kinds
        self._now = now
        self._wanted = asyncio.Event()
        # Owners that wait for their dependents to go, by uid, as of the last look.
        self._waiting_owners: frozenset[str] = frozenset()

    def delete(self, kind: Kind, old: Object, options: Mapping[str, Any]) -> Object:
        """The object afterwards: gone, or marked and waiting. Raises ApiError 409 for a failed precondition."""
        key = key_of(old)
        _check_preconditions(kind, old, options)
        policy = options.get("propagationPolicy")
        if policy == "Orphan" or options.get("orphanDependents") is True:
            self._orphan_dependents(old)
        metadata = old["metadata"]
        finalizers = list(metadata.get("finalizers") or [])
        if policy == "Foreground" and FOREGROUND not in finalizers and self._dependents(metadata["uid"]):
            finalizers.append(FOREGROUND)
        grace_s = _grace_s(kind, old, options)
        if not finalizers and grace_s == 0 and kind.id != "/namespaces":
            return self.remove(kind, key)
        if metadata.get("deletionTimestamp") and metadata.get("deletionGracePeriodSeconds", 0) <= grace_s:
            return old
        stamp = (self._now() + timedelta(seconds=grace_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
        marked = with_metadata(
            old, deletionTimestamp=stamp, deletionGracePeriodSeconds=grace_s, finalizers=finalizers or None
        )
        if kind.id == "/namespaces":
            marked = {**marked, "status": {**(marked.get("status") or {}), "phase": "Terminating"}}
        stored = self._storage.update(kind, marked)
        self.look_again()
        return stored

    def remove(self, kind: Kind, key: ObjectKey) -> Object:
        """Take an object out for good; a definition takes its custom resources along."""
        gone = self._storage.delete(kind, key)
        if kind.id == CRDS:
            spec = gone["spec"]
            if custom := self._kinds.forget(f"{spec['group']}/{spec['names']['plural']}"):
                for stored in list(self._storage.all(custom)):
                    self._storage.delete(custom, key_of(stored.obj))
        self.look_again()
        return gone

    def is_due(self, kind: Kind, obj: Object) -> bool:
        """Whether an object that was written is one that waited only for what has now happened."""
        metadata = obj["metadata"]
        if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
            return False
        if kind.id == "/namespaces":
            return not (obj.get("spec") or {}).get("finalizers")
        return not metadata.get("deletionGracePeriodSeconds")

    def written(self, obj: Object) -> None:
        """Ask for a look if this object, just written, may have to go."""
        owners = _owners(obj)
        if owners and (self._waiting_owners & owners or not any(map(self._storage.has_uid, owners))):
            self.look_again()

    def look_again(self) -> None:
        """Ask the collector for another look."""
        self._wanted.set()

    async def collect(self) -> None:
        """Delete what has lost its owners, for as long as the server runs."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self.collect_once()

    def collect_once(self) -> None:
        """One look at everything."""
        everything = [(kind, stored.obj) for kind in self._kinds for stored in self._storage.all(kind)]
        waiting = {
            obj["metadata"]["uid"]: (kind, key_of(obj))
            for kind, obj in everything
            if FOREGROUND in (obj["metadata"].get("finalizers") or ())
        }
        self._waiting_owners = frozenset(waiting)
        for kind, obj in everything:
            owners = _owners(obj)
            if owners and (self._waiting_owners & owners or not any(map(self._storage.has_uid, owners))):
                self._collect(kind, obj)
        for uid, (kind, key) in waiting.items():
            owner = self._storage.find(kind, key)
            if owner is not None and not self._dependents(uid):
                self._finish_foreground(kind, owner)

    def _collect(self, kind: Kind, obj: Object) -> None:
        if obj["metadata"].get("deletionTimestamp"):
            return
        try:
            self.delete(kind, obj, {"propagationPolicy": "Background"})
        except ApiError as error:
            # Somebody else was quicker; the next look sees what is left.
            _log.debug("not collected", kind=kind.kind, name=obj["metadata"]["name"], reason=error.message)

    def _finish_foreground(self, kind: Kind, obj: Object) -> None:
        left = [finalizer for finalizer in obj["metadata"].get("finalizers") or [] if finalizer != FOREGROUND]
        stored = self._storage.update(kind, with_metadata(obj, finalizers=left or None))
        if self.is_due(kind, stored):
            self.remove(kind, key_of(stored))

    def _dependents(self, uid: str) -> list[tuple[Kind, Object]]:
        return [
            (kind, stored.obj)
            for kind in self._kinds
            for stored in self._storage.all(kind)
            if uid in _owners(stored.obj)
        ]

    def _orphan_dependents(self, owner: Object) -> None:
        uid = owner["metadata"]["uid"]
        for kind, obj in self._dependents(uid):
            kept = [reference for reference in obj["metadata"]["ownerReferences"] if reference["uid"] != uid]
            self._storage.update(kind, with_metadata(obj, ownerReferences=kept or None))


def _owners(obj: Object) -> set[str]:
    """Their uids."""
    return {reference["uid"] for reference in obj["metadata"].get("ownerReferences") or ()}


def _check_preconditions(kind: Kind, obj: Object, options: Mapping[str, Any]) -> None:
    wanted = options.get("preconditions") or {}
    for name in ("uid", "resourceVersion"):
        if wanted.get(name) not in (None, obj["metadata"].get(name)):
            why = f"the {name} in the precondition ({wanted[name]}) does not match {obj['metadata'].get(name)}"
            raise conflict(kind.plural, kind.group, key_of(obj).name, why)


def _grace_s(kind: Kind, obj: Object, options: Mapping[str, Any]) -> int:
    if kind.id != "/pods":
        return 0
    wanted = options.get("gracePeriodSeconds")
    grace_s = int(obj["spec"].get("terminationGracePeriodSeconds", 30) if wanted is None else wanted)
    # A pod that no node has taken, or that has ended, has nobody to stop it.
    running = obj["spec"].get("nodeName") and (obj.get("status") or {}).get("phase") not in _FINISHED
    return max(grace_s, 0) if running else 0
