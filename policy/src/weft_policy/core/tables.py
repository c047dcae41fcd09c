"""Tables of one kind of object, keyed by name, that tell of each real change; and lookups by other keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from weft_policy.core.objects import Name

T = TypeVar("T")
# Any namespace-and-name pair; a mapping's key type must match exactly, so the caller's own is taken as it is.
KeyT = TypeVar("KeyT", bound=tuple[str, str])
K = TypeVar("K", bound=Hashable)
# What is posted is sorted, and named tuples compare as tuples do.
IdT = TypeVar("IdT", bound=tuple[object, ...])


class Postings(Generic[K, IdT]):
    """Which objects have a key, such as the pods behind an address. Empty entries are dropped."""

    def __init__(self) -> None:
        self._ids: defaultdict[K, set[IdT]] = defaultdict(set)

    def get(self, key: K) -> list[IdT]:
        """The objects, sorted, so that answers do not depend on the order of events."""
        return sorted(self._ids.get(key, ()))

    def keys(self) -> Iterable[K]:
        """Keys that some object has, in no order."""
        return self._ids.keys()

    def move(self, posted: IdT, old: Iterable[K], new: Iterable[K]) -> None:
        """Replace the keys of one object."""
        for key in old:
            ids = self._ids.get(key)
            if ids is not None:
                ids.discard(posted)
                if not ids:
                    del self._ids[key]
        for key in new:
            self._ids[key].add(posted)


class Table(Generic[T]):
    """One kind, keyed by name. Fits the informers' sink. on_change: told the old and the new value, None for absent."""

    def __init__(self, on_change: Callable[[T | None, T | None], None]) -> None:
        self._rows: dict[Name, T] = {}
        self._by_namespace: Postings[str, Name] = Postings()
        self._on_change = on_change

    def get(self, namespace: str, name: str) -> T | None:
        """The object, or None."""
        return self._rows.get(Name(namespace, name))

    def names(self) -> Iterable[Name]:
        """All names, in no order."""
        return self._rows.keys()

    def names_in(self, namespace: str) -> list[Name]:
        """Names in a namespace, sorted, so that answers do not depend on the order of events."""
        return self._by_namespace.get(namespace)

    def apply(self, key: tuple[str, str], obj: T) -> None:
        """An object is new or changed."""
        name = Name(*key)
        old = self._rows.get(name)
        if old != obj:
            self._rows[name] = obj
            self._by_namespace.move(name, (), (name.namespace,))
            self._on_change(old, obj)

    def delete(self, key: tuple[str, str]) -> None:
        """An object is gone."""
        old = self._rows.pop(Name(*key), None)
        if old is not None:
            self._by_namespace.move(Name(*key), (key[0],), ())
            self._on_change(old, None)

    def reset(self, objs: Mapping[KeyT, T]) -> None:
        """This is everything; what is missing is gone."""
        for name in [name for name in self._rows if name not in objs]:
            self.delete(name)
        for key, obj in objs.items():
            self.apply(key, obj)
