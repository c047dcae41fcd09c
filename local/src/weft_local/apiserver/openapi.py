"""The OpenAPI v3 documents kubectl reads: which writes the server validates, and what `kubectl explain` shows.

Made from the same shapes and CRD schemas that writes are checked with, so the two cannot differ. Strategic merge patch
is left out of the documents on purpose: kubectl then computes it from its own compiled-in types.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.schema import ANY, INT_OR_STRING, METADATA, QUANTITY, SHAPES, MapOf

_GVK: Final = "x-kubernetes-group-version-kind"
_WRITE_PARAMETERS: Final = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]
_SCALARS: Final[Mapping[Any, dict[str, Any]]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int64"},
}


def index(kinds: Iterable[Kind]) -> dict[str, Any]:
    """The list of documents. Each address carries a hash of its content, so clients may cache it."""
    kinds = list(kinds)
    paths = {}
    for group_version in sorted({_path(kind, version) for kind in kinds for version in kind.versions}):
        body = json.dumps(document(kinds, group_version), sort_keys=True).encode()
        digest = hashlib.sha256(body).hexdigest()[:32].upper()
        paths[group_version] = {"serverRelativeURL": f"/openapi/v3/{group_version}?hash={digest}"}
    return {"paths": paths}


def document(kinds: Iterable[Kind], group_version: str) -> dict[str, Any] | None:
    """One document, such as `api/v1` or `apis/apps/v1`; None when nothing of it is served."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for kind in kinds:
        for version in kind.versions:
            if _path(kind, version) != group_version:
                continue
            name = _schema_name(kind, version)
            schemas[name] = _kind_schema(kind, version)
            collection = f"/{group_version}/{'namespaces/{namespace}/' if kind.namespaced else ''}{kind.plural}"
            gvk = {"group": kind.group, "version": version, "kind": kind.kind}
            paths[collection] = {
                "get": _operation("list", gvk, name),
                "post": _operation("post", gvk, name, writes=True),
            }
            paths[f"{collection}/{{name}}"] = {
                "get": _operation("get", gvk, name),
                "put": _operation("put", gvk, name, writes=True),
                "patch": _operation("patch", gvk, name, writes=True),
                "delete": _operation("delete", gvk, name),
            }
    if not paths:
        return None
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(action: str, gvk: dict[str, str], schema: str, *, writes: bool = False) -> dict[str, Any]:
    reference = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    operation: dict[str, Any] = {
        "x-kubernetes-action": action,
        _GVK: gvk,
        "responses": {"200": {"description": "OK", "content": {"application/json": reference}}},
    }
    if writes:
        patch_types = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
        types = patch_types if action == "patch" else ("application/json",)
        operation["parameters"] = _WRITE_PARAMETERS
        operation["requestBody"] = {"content": dict.fromkeys(types, reference)}
    return operation


def _kind_schema(kind: Kind, version: str) -> dict[str, Any]:
    schema: dict[str, Any]
    if kind.is_custom:
        custom = kind.schema(version)
        schema = dict(custom.raw) if custom else {"type": "object"}
        schema["properties"] = {**_object_properties(), **(schema.get("properties") or {})}
        schema["properties"]["metadata"] = json_schema(METADATA)
    elif kind.id in SHAPES:
        schema = json_schema({"apiVersion": str, "kind": str, "metadata": METADATA, **SHAPES[kind.id]})
    else:
        schema = {"type": "object", "properties": _object_properties(), "x-kubernetes-preserve-unknown-fields": True}
    schema[_GVK] = [{"group": kind.group, "version": version, "kind": kind.kind}]
    return schema


def _object_properties() -> dict[str, Any]:
    return {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": json_schema(METADATA)}


def json_schema(shape: Any) -> dict[str, Any]:
    """A shape as JSON schema."""
    if isinstance(shape, dict):
        required = sorted(name[:-1] for name in shape if name.endswith("!"))
        properties = {name.rstrip("!"): json_schema(inner) for name, inner in shape.items()}
        return {"type": "object", "properties": properties, **({"required": required} if required else {})}
    if isinstance(shape, list):
        return {"type": "array", "items": json_schema(shape[0])}
    if isinstance(shape, MapOf):
        return {"type": "object", "additionalProperties": json_schema(shape.value)}
    if shape is INT_OR_STRING or shape is QUANTITY:
        return {"x-kubernetes-int-or-string": True}
    if shape is ANY:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return dict(_SCALARS[shape])


def _path(kind: Kind, version: str) -> str:
    return f"apis/{kind.group}/{version}" if kind.group else f"api/{version}"


def _schema_name(kind: Kind, version: str) -> str:
    reversed_group = ".".join(reversed((kind.group or "core.api.k8s.io").split(".")))
    return f"{reversed_group}.{version}.{kind.kind}"
