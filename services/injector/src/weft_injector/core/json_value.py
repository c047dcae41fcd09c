"""JSON as values: the type, and reads that say where an object is not what the API says it is.

Absent and null mean the same to the Kubernetes API, so they do here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
JsonObject: TypeAlias = Mapping[str, Json]

NOTHING: Final[JsonObject] = {}


class Malformed(ValueError):
    """A field has the wrong type. The text names it."""

    def __init__(self, path: str, expected: str, found: Json) -> None:
        super().__init__(f"{path}: expected {expected}, found {type(found).__name__}")


def object_at(parent: JsonObject, key: str, path: str = "") -> JsonObject:
    """The object under key, empty when absent. Raises Malformed."""
    value = parent.get(key)
    if value is None:
        return NOTHING
    if not isinstance(value, Mapping):
        raise Malformed(_join(path, key), "an object", value)
    return value


def objects_at(parent: JsonObject, key: str, path: str = "") -> tuple[JsonObject, ...]:
    """The list of objects under key, empty when absent. Raises Malformed."""
    items = []
    for position, item in enumerate(list_at(parent, key, path)):
        if not isinstance(item, Mapping):
            raise Malformed(f"{_join(path, key)}[{position}]", "an object", item)
        items.append(item)
    return tuple(items)


def list_at(parent: JsonObject, key: str, path: str = "") -> Sequence[Json]:
    """The list under key, empty when absent. Raises Malformed."""
    value = parent.get(key)
    if value is None:
        return ()
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise Malformed(_join(path, key), "a list", value)
    return value


def texts_at(parent: JsonObject, key: str, path: str = "") -> tuple[str, ...]:
    """The list of strings under key, empty when absent. Raises Malformed."""
    items = []
    for position, item in enumerate(list_at(parent, key, path)):
        if not isinstance(item, str):
            raise Malformed(f"{_join(path, key)}[{position}]", "a string", item)
        items.append(item)
    return tuple(items)


def text_at(parent: JsonObject, key: str, path: str = "") -> str:
    """The string under key, empty when absent. Raises Malformed."""
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(_join(path, key), "a string", value)
    return value


def text_map_at(parent: JsonObject, key: str, path: str = "") -> dict[str, str]:
    """The map of strings under key, such as labels; empty when absent. Raises Malformed."""
    result = {}
    for name, value in object_at(parent, key, path).items():
        if not isinstance(value, str):
            raise Malformed(f"{_join(path, key)}[{name}]", "a string", value)
        result[name] = value
    return result


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
