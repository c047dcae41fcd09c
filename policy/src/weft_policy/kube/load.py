"""Raw objects, from a cluster or from files, to an index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from weft_common.kube.resource import key_of

from weft_policy.core.index import ClusterIndex
from weft_policy.kube.kinds import KINDS, IndexedKind, Raw

_KINDS: Final = {(kind.resource.group, kind.resource.kind): kind for kind in KINDS}


def index_of(objects: Iterable[Raw]) -> tuple[ClusterIndex, list[str]]:
    """The index, and a line for each object that could not be read. Kinds that no answer depends on are left out."""
    index, unread = ClusterIndex(), list[str]()
    for obj in objects:
        kind = _kind_of(obj)
        if kind is None:
            continue
        try:
            kind.table(index).apply(key_of(obj), kind.parse(obj))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            name = "/".join(part for part in key_of(obj) if part)
            unread.append(f"{obj['kind']} {name} cannot be read: {type(error).__name__}: {error}")
    return index, unread


def _kind_of(obj: Raw) -> IndexedKind | None:
    group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
    kind = _KINDS.get((group, str(obj.get("kind") or "")))
    if kind is None or version not in (kind.resource.version, *kind.other_versions):
        return None
    return kind
