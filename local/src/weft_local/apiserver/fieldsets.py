"""Field paths: what a configuration sets, written the way managedFields writes it.

A path is a tuple of elements: `f:name` for a field, `k:{...}` for the list element with these keys, `v:...` for a
member of a set. Which lists have keys is data here; every other list is one value, owned whole.
Source: structured-merge-diff, fieldpath and FieldsV1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

Path = tuple[str, ...]

# Keys of list elements by field name, in the order FieldsV1 writes them.
LIST_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "webhooks": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "listeners": ("name",),
}
_PORT_KEYS: Final = ("containerPort", "port")
SETS: Final = frozenset({"finalizers"})
# Objects that are one value.
ATOMIC_OBJECTS: Final = frozenset(
    {"selector", "nodeSelector", "fieldRef", "resourceFieldRef", "secretKeyRef", "configMapKeyRef", "labelSelector"}
)
# Set by the server or by identity, so nobody owns them.
_UNOWNED: Final = frozenset({"apiVersion", "kind"})
_UNOWNED_METADATA: Final = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "generateName",
        "selfLink",
    }
)


def element_key(field: str, item: Any) -> str | None:
    """The path element of a list element, or None when the list has no keys or the element lacks them."""
    if field in SETS:
        return f"v:{_compact(item)}"
    if not isinstance(item, Mapping):
        return None
    if field == "ports":
        name = next((name for name in _PORT_KEYS if name in item), None)
        return None if name is None else f"k:{_compact({name: item[name], 'protocol': item.get('protocol', 'TCP')})}"
    keys = LIST_KEYS.get(field)
    if not keys or any(key not in item for key in keys):
        return None
    return f"k:{_compact({key: item[key] for key in keys})}"


def keyed(field: str, items: list[Any]) -> dict[str, Any] | None:
    """The elements by path element in their order, or None when the list is one value."""
    result: dict[str, Any] = {}
    for item in items:
        key = element_key(field, item)
        if key is None or key in result:
            return None
        result[key] = item
    return result if items or field in SETS or field in LIST_KEYS else None


def leaves(obj: Mapping[str, Any]) -> dict[Path, Any]:
    """Every path an object sets with its value. The existence of a keyed list element is a path of its own (None)."""
    found: dict[Path, Any] = {}
    for name, value in obj.items():
        if name == "metadata":
            for field, inner in value.items():
                if field not in _UNOWNED_METADATA:
                    found.update(_leaves(("f:metadata", f"f:{field}"), field, inner))
        elif name not in _UNOWNED:
            found.update(_leaves((f"f:{name}",), name, value))
    return found


def _leaves(path: Path, field: str, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and field not in ATOMIC_OBJECTS:
        for name, inner in value.items():
            yield from _leaves((*path, f"f:{name}"), name, inner)
    elif isinstance(value, list) and (elements := keyed(field, value)):
        for key, item in elements.items():
            yield (*path, key), None
            if isinstance(item, dict):
                for name, inner in item.items():
                    yield from _leaves((*path, key, f"f:{name}"), name, inner)
    else:
        yield path, value


def to_fields_v1(paths: Iterable[Path]) -> dict[str, Any]:
    """The nested form of managedFields."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for element in path:
            node = node.setdefault(element, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return root


def from_fields_v1(node: Mapping[str, Any], prefix: Path = ()) -> set[Path]:
    """The paths of the nested form."""
    found: set[Path] = set()
    for element, inner in node.items():
        if element == ".":
            found.add(prefix)
        elif inner:
            found |= from_fields_v1(inner, (*prefix, element))
        else:
            found.add((*prefix, element))
    return found


def shown(path: Path) -> str:
    """As conflict messages write it: .spec.template.spec.containers[name="app"].image."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            text += "[" + ",".join(f"{name}={_compact(value)}" for name, value in json.loads(rest).items()) + "]"
        else:
            text += f"[={rest}]"
    return text


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
