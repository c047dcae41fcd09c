"""Server-side apply: merge what one manager wants into an object, remember who set what, refuse to overwrite others.

Pure. Only appliers' fields are tracked from the start; a plain update is recorded from the moment an object has an
applier, because only then can anybody be in conflict with it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft_local.apiserver.errors import ApiError, Cause
from weft_local.apiserver.fieldsets import (
    ATOMIC_OBJECTS,
    Path,
    element_key,
    from_fields_v1,
    keyed,
    leaves,
    shown,
    to_fields_v1,
)

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """One manager's fields. operation: Apply or Update."""

    manager: str
    operation: str
    api_version: str
    time: str
    paths: frozenset[Path]

    def entry(self) -> Object:
        return {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_fields_v1(self.paths),
        }


def owners_of(obj: Mapping[str, Any]) -> list[Owner]:
    """From managedFields; entries that are not understood are left out."""
    return [
        Owner(
            str(entry["manager"]),
            str(entry["operation"]),
            str(entry.get("apiVersion", "")),
            str(entry.get("time", "")),
            frozenset(from_fields_v1(entry.get("fieldsV1") or {})),
        )
        for entry in obj.get("metadata", {}).get("managedFields") or []
        if entry.get("manager") and entry.get("operation")
    ]


def server_side_apply(live: Object | None, config: Object, manager: str, force: bool, now: str) -> Object:
    """The object after manager has applied config. now: RFC 3339.

    Fields the manager applied before and no longer mentions are removed unless somebody else owns them.
    Raises ApiError 409 naming every field that another manager owns with another value, unless forced.
    """
    config = _without_nulls(config)
    wanted = leaves(config)
    base = live if live is not None else {}
    owners = owners_of(base)
    previous = next((o for o in owners if o.manager == manager and o.operation == "Apply"), None)
    others = [owner for owner in owners if owner is not previous]
    current = leaves(base)
    lost = {path for path, value in wanted.items() if path in current and current[path] != value}
    if not force:
        _refuse_conflicts(others, lost)
    merged: Object = _merge(base, config, "")
    if previous is not None:
        kept = set(wanted).union(*(owner.paths for owner in others))
        for path in _abandoned(previous.paths, kept):
            _remove(merged, path)
    api_version = str(config.get("apiVersion", ""))
    mine = Owner(manager, "Apply", api_version, now, frozenset(wanted))
    if previous is not None and previous.paths == mine.paths and merged == base:
        # Nothing new: the time stays, so that applying the same thing twice writes nothing.
        return base
    return _with_owners(merged, [*(_without(owner, lost) for owner in others), mine])


def note_update(old: Object, new: Object, manager: str, now: str) -> Object:
    """The written object with managedFields that say manager set what has changed.

    An explicit change of managedFields by the client is taken as it is.
    """
    before = old["metadata"].get("managedFields")
    asked = new["metadata"].get("managedFields", before)
    if asked != before:
        cleaned = [entry for entry in asked or [] if entry]
        return {**new, "metadata": {**new["metadata"], "managedFields": cleaned}}
    if before is not None:
        # A client that leaves the field out does not mean to erase it.
        new = {**new, "metadata": {**new["metadata"], "managedFields": before}}
    owners = owners_of(old)
    if not any(owner.operation == "Apply" for owner in owners):
        return new
    was, is_now = leaves(old), leaves(new)
    set_now = {path for path, value in is_now.items() if path not in was or was[path] != value}
    gone = set(was) - set(is_now)
    if not set_now and not gone:
        return new
    mine = next((o for o in owners if o.manager == manager and o.operation == "Update"), None)
    paths = ((mine.paths if mine else frozenset()) | set_now) - gone
    updated = Owner(manager, "Update", str(new.get("apiVersion", "")), now, paths)
    others = [_without(owner, set_now | gone) for owner in owners if owner is not mine]
    return _with_owners(new, [*others, updated])


def _abandoned(previous: frozenset[Path], kept: set[Path]) -> list[Path]:
    """Paths to remove, outermost first: an element goes whole, and keeps its keys while anybody sets a field of it."""
    result: list[Path] = []
    kept_prefixes = {path[:length] for path in kept for length in range(1, len(path) + 1)}
    for path in sorted(previous - kept, key=lambda path: (len(path), path)):
        inside_removed = any(path[: len(gone)] == gone for gone in result)
        is_key_of_kept = path[-2:-1] and path[-2].startswith("k:") and path[:-1] in kept_prefixes and _names_key(path)
        if not inside_removed and not is_key_of_kept and path not in kept_prefixes:
            result.append(path)
    return result


def _names_key(path: Path) -> bool:
    """Whether the last element is one of the keys of the list element before it."""
    return path[-1].removeprefix("f:") in json.loads(path[-2].removeprefix("k:"))


def _refuse_conflicts(others: list[Owner], lost: set[Path]) -> None:
    causes = [
        Cause(shown(path), "FieldManagerConflict", f'conflict with "{owner.manager}" using {owner.api_version}')
        for owner in others
        for path in sorted(owner.paths & lost)
    ]
    if causes:
        count = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
        listed = "; ".join(f"{cause.message}: {cause.field}" for cause in causes)
        raise ApiError(409, "Conflict", f"Apply failed with {count}: {listed}", tuple(causes))


def _without_nulls(value: Any) -> Any:
    """Null says nothing in an applied configuration (clients write creationTimestamp: null)."""
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _without(owner: Owner, paths: set[Path]) -> Owner:
    return Owner(owner.manager, owner.operation, owner.api_version, owner.time, owner.paths - paths)


def _with_owners(obj: Object, owners: list[Owner]) -> Object:
    entries = [owner.entry() for owner in owners if owner.paths]
    return {**obj, "metadata": {**obj["metadata"], "managedFields": entries}}


def _merge(live: Any, config: Any, field: str) -> Any:
    if isinstance(config, dict) and config and isinstance(live, dict) and field not in ATOMIC_OBJECTS:
        result = dict(live)
        for name, value in config.items():
            result[name] = _merge(live.get(name), value, name)
        return result
    if isinstance(config, list) and isinstance(live, list):
        wanted, present = keyed(field, config), keyed(field, live)
        if wanted and present:
            # The applier's order first, then what others have added.
            merged = [_merge(present.get(key), item, "") for key, item in wanted.items()]
            return [*merged, *(item for key, item in present.items() if key not in wanted)]
    return copy.deepcopy(config)


def _remove(obj: Object, path: Path) -> None:
    """Take one path out. The containers on the way are copied, because the live object is shared."""
    node: Any = obj
    for position, element in enumerate(path):
        is_last = position == len(path) - 1
        if not isinstance(node, dict):
            return
        kind, _, name = element.partition(":")
        if kind != "f" or name not in node:
            return
        if is_last:
            del node[name]
            return
        following = path[position + 1]
        if following.startswith(("k:", "v:")):
            items = list(node[name])
            index = next((i for i, item in enumerate(items) if element_key(name, item) == following), None)
            if index is None:
                return
            node[name] = items
            if position + 2 == len(path):
                del items[index]
                if not items:
                    del node[name]
                return
            items[index] = dict(items[index])
            _remove(items[index], path[position + 2 :])
            return
        node[name] = dict(node[name]) if isinstance(node[name], dict) else node[name]
        node = node[name]
