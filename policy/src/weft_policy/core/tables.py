"""A table of one kind of object, keyed by name, that tells of each real change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from weft_policy.core.objects import Name

T = TypeVar("T")
# Any namespace-and-name pair; a mapping's key type must match exactly, so the caller's own is taken as it is.
KeyT = TypeVar("KeyT", bound=tuple[str, str])


class Table(Generic[T]):
    """One kind, keyed by name. Fits the informers' sink. on_change: told the old and the new value, None for absent."""

    def __init__(self, on_change: Callable[[T | None, T | None], None]) -> None:
        self._rows: dict[Name, T] = {}
        self._on_change = on_change

    def get(self, namespace: str, name: str) -> T | None:
        """The object, or None."""
        return self._rows.get(Name(namespace, name))

    def names(self) -> Iterable[Name]:
        """All names, in no order."""
        return self._rows.keys()

    def apply(self, key: tuple[str, str], obj: T) -> None:
        """An object is new or changed."""
        name = Name(*key)
        old = self._rows.get(name)
        if old != obj:
            self._rows[name] = obj
            self._on_change(old, obj)

    def delete(self, key: tuple[str, str]) -> None:
        """An object is gone."""
        old = self._rows.pop(Name(*key), None)
        if old is not None:
            self._on_change(old, None)

    def reset(self, objs: Mapping[KeyT, T]) -> None:
        """This is everything; what is missing is gone."""
        for name in [name for name in self._rows if name not in objs]:
            self.delete(name)
        for key, obj in objs.items():
            self.apply(key, obj)
