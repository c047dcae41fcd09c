"""The patch types of the API: JSON patch, merge patch, strategic merge patch. Values in, values out."""

from __future__ import annotations

import copy
from typing import Any, Final

import jsonpatch
import jsonpointer

from weft_local.apiserver.errors import ApiError, bad_request

# Lists that strategic merge joins by a key, by field name. Kubernetes attaches these to struct fields; the names are
# unambiguous among the kinds served here except for `ports`, which has another key in Services.
MERGE_KEYS: Final = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "ports": ("containerPort", "port"),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "secrets": ("name",),
    "podIPs": ("ip",),
    "hostIPs": ("ip",),
    "addresses": ("type",),
    "webhooks": ("name",),
    "topologySpreadConstraints": ("topologyKey",),
}
# Lists of plain values that strategic merge joins as sets.
MERGE_SETS: Final = frozenset({"finalizers"})


def json_patch(obj: Any, operations: Any) -> Any:
    """RFC 6902. Raises ApiError 400 for a malformed patch, 422 for one that does not apply."""
    try:
        return jsonpatch.JsonPatch(operations).apply(obj)
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"the patch is not a JSON patch: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError) as error:
        raise ApiError(
            422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
        ) from error


def merge_patch(obj: Any, patch: Any) -> Any:
    """RFC 7396: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(obj) if isinstance(obj, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def strategic_merge(obj: Any, patch: Any, field: str = "") -> Any:
    """Merge patch that joins the lists of MERGE_KEYS by key and knows the $-directives. Raises ApiError 400."""
    if isinstance(patch, dict):
        return _merge_objects(obj, patch)
    if isinstance(patch, list) and (field in MERGE_KEYS or field in MERGE_SETS):
        return _merge_lists(obj if isinstance(obj, list) else [], patch, field)
    return copy.deepcopy(patch)


def _merge_objects(obj: Any, patch: dict[str, Any]) -> Any:
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: copy.deepcopy(value) for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    result = dict(obj) if isinstance(obj, dict) else {}
    for name in patch.get("$retainKeys", ()) and set(result) - set(patch["$retainKeys"]):
        del result[name]
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            target = name.partition("/")[2]
            result[target] = [item for item in result.get(target, []) if item not in value]
        elif name.startswith("$setElementOrder/") or name in ("$patch", "$retainKeys"):
            continue
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = strategic_merge(result.get(name), value, name)
    for name, value in patch.items():
        if name.startswith("$setElementOrder/"):
            target = name.partition("/")[2]
            if isinstance(result.get(target), list):
                result[target] = _reordered(result[target], value, target)
    return result


def _merge_lists(old: list[Any], patch: list[Any], field: str) -> list[Any]:
    if field in MERGE_SETS:
        return [*old, *(item for item in patch if item not in old)]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [copy.deepcopy(item) for item in patch if "$patch" not in item]
    result = list(old)
    for item in patch:
        if not isinstance(item, dict):
            raise bad_request(f"strategic merge of {field}: expected objects")
        key = _merge_key(item, field)
        if key is None:
            raise bad_request(f"strategic merge of {field}: an element lacks its key {' or '.join(MERGE_KEYS[field])}")
        name, value = key
        index = next((i for i, existing in enumerate(result) if existing.get(name) == value), None)
        if item.get("$patch") == "delete":
            if index is not None:
                del result[index]
        elif index is None:
            result.append(_merge_objects({}, item))
        else:
            result[index] = _merge_objects(result[index], item)
    return result


def _merge_key(item: dict[str, Any], field: str) -> tuple[str, Any] | None:
    for name in MERGE_KEYS[field]:
        if name in item:
            return name, item[name]
    return None


def _reordered(items: list[Any], order: list[Any], field: str) -> list[Any]:
    """Listed elements in the listed order; elements the patch did not know keep their place before the rest."""

    def rank(item: Any) -> int:
        for index, wanted in enumerate(order):
            if isinstance(wanted, dict):
                key = _merge_key(wanted, field)
                if key and isinstance(item, dict) and item.get(key[0]) == key[1]:
                    return index
            elif item == wanted:
                return index
        return -1

    return sorted(items, key=rank)
