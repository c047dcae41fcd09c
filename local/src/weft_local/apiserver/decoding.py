"""From a request's body to an object of a kind: identity filled in, unknown fields found, wrong types refused."""

from __future__ import annotations

import copy
from typing import Any

from weft_local.apiserver.errors import ApiError, Cause, bad_request, invalid
from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.schema import check_shape

Object = dict[str, Any]


def with_metadata(obj: Object, **fields: Any) -> Object:
    """A copy with these metadata fields; None removes."""
    metadata = {name: value for name, value in {**obj["metadata"], **fields}.items() if value is not None}
    return {**obj, "metadata": metadata}


def decoded(
    kind: Kind, version: str, namespace: str, body: Object, field_validation: str
) -> tuple[Object, tuple[str, ...]]:
    """The object, and warnings about fields that nobody knows and that are left out. Raises ApiError.

    The body is not changed: it may share parts with a stored object.
    """
    obj = identified(kind, version, namespace, body)
    findings = check_shape(kind.id, obj)
    if findings.causes:
        _refuse(kind, version, obj, findings.causes)
    unknown = list(findings.unknown)
    if unknown:
        obj = copy.deepcopy(obj)
        for path in unknown:
            _remove_path(obj, path)
    if schema := kind.schema(version):
        obj, unknown_to_schema = schema.pruned(obj)
        unknown += unknown_to_schema
    if not unknown or field_validation == "Ignore":
        return obj, ()
    texts = tuple(f'unknown field "{path}"' for path in unknown)
    if field_validation == "Strict":
        causes = tuple(Cause(path, "FieldValueNotSupported", "unknown field") for path in unknown)
        raise ApiError(400, "BadRequest", f"strict decoding error: {', '.join(texts)}", causes)
    return obj, texts


def identified(kind: Kind, version: str, namespace: str, body: Object) -> Object:
    """The body with its kind, version and namespace as the URL says them. Raises ApiError 400 when it says others."""
    wanted = kind.api_version(version)
    if body.get("apiVersion", wanted) != wanted or body.get("kind", kind.kind) != kind.kind:
        raise bad_request(
            f"the API version in the data ({body.get('apiVersion')}, {body.get('kind')}) "
            f"does not match the expected one ({wanted}, {kind.kind})"
        )
    given = body.get("metadata")
    if given is not None and not isinstance(given, dict):
        raise bad_request(f"metadata: expected an object, found {type(given).__name__}")
    metadata = dict(given or {})
    if kind.namespaced:
        if (metadata.get("namespace") or namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    return {**body, "apiVersion": wanted, "kind": kind.kind, "metadata": metadata}


def _refuse(kind: Kind, version: str, obj: Object, causes: tuple[Cause, ...]) -> None:
    if any(cause.reason == "FieldValueTypeInvalid" for cause in causes):
        listed = "; ".join(f"{cause.field}: {cause.message}" for cause in causes)
        text = f'{kind.kind} in version "{version}" cannot be handled as a {kind.kind}: {listed}'
        raise ApiError(400, "BadRequest", text, causes)
    raise invalid(kind.kind, kind.group, str(obj["metadata"].get("name", "")), causes)


def _remove_path(obj: Object, path: str) -> None:
    """Drop a field in place. path: as the shapes write it, a.b[0].c."""
    current: Any = obj
    parts = path.replace("[", ".[").split(".")
    for index, part in enumerate(parts):
        if part.startswith("["):
            current = current[int(part[1:-1])]
        elif index == len(parts) - 1:
            current.pop(part, None)
        elif isinstance(current, dict) and part in current:
            current = current[part]
        else:
            # A key that itself holds dots: it can only be the whole rest.
            if isinstance(current, dict):
                current.pop(".".join(parts[index:]), None)
            return
