"""Custom resources against their structural schema: defaults, pruning of unknown fields, validation.

Rules in CEL (x-kubernetes-validations) are not evaluated. Nothing is changed in place: every function returns new
containers where it changes something, because stored objects are shared.
Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions".
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

import jsonschema

from weft_local.apiserver.errors import Cause

Schema = Mapping[str, Any]

# The server's own part of every object; the schema of a definition does not describe it.
_OWN: Final = ("apiVersion", "kind", "metadata")
_COMBINATORS: Final = ("allOf", "anyOf", "oneOf")


class CustomSchema:
    """The schema of one version. raw: as the definition writes it."""

    def __init__(self, raw: Schema) -> None:
        self.raw = raw
        self._validator = jsonschema.Draft202012Validator(_plain(raw))

    def pruned(self, obj: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The object without fields the schema does not know, and their paths."""
        unknown: list[str] = []
        body = _prune(self.raw, {name: value for name, value in obj.items() if name not in _OWN}, "", unknown)
        return {**_own_part(obj), **body}, unknown

    def with_defaults(self, obj: dict[str, Any]) -> dict[str, Any]:
        """The object with the schema's defaults where a field is missing."""
        body = _default(self.raw, {name: value for name, value in obj.items() if name not in _OWN})
        return {**_own_part(obj), **body}

    def validate(self, obj: Mapping[str, Any]) -> list[Cause]:
        """Everything wrong, in order of place."""
        found = self._validator.iter_errors({name: value for name, value in obj.items() if name not in _OWN})
        return [_cause(error) for error in sorted(found, key=lambda error: [str(part) for part in error.absolute_path])]


def _own_part(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {name: obj[name] for name in _OWN if name in obj}


def _prune(schema: Schema, value: Any, path: str, unknown: list[str]) -> Any:
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        keeps = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or extra is True
        embedded = bool(schema.get("x-kubernetes-embedded-resource"))
        result = {}
        for name, inner in value.items():
            at = f"{path}.{name}" if path else name
            if name in properties:
                result[name] = _prune(properties[name], inner, at, unknown)
            elif isinstance(extra, Mapping):
                result[name] = _prune(extra, inner, at, unknown)
            elif keeps or (embedded and name in _OWN):
                result[name] = inner
            else:
                unknown.append(at)
        return result
    if isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
        return [_prune(items, item, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    return value


def _default(schema: Schema, value: Any) -> Any:
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        result = dict(value)
        for name, inner in properties.items():
            # A null where the schema has a default and allows no null counts as missing.
            missing = name not in result or (result[name] is None and not inner.get("nullable"))
            if missing and "default" in inner:
                result[name] = copy.deepcopy(inner["default"])
        for name, item in result.items():
            inner_schema = properties.get(name, extra)
            if isinstance(inner_schema, Mapping):
                result[name] = _default(inner_schema, item)
        return result
    if isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
        return [_default(items, item) for item in value]
    return value


def _plain(schema: Any) -> Any:
    """The schema as JSON schema: OpenAPI's nullable and Kubernetes' int-or-string rewritten."""
    if not isinstance(schema, Mapping):
        return schema
    result: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "properties":
            result[name] = {field: _plain(inner) for field, inner in value.items()}
        elif name in ("items", "additionalProperties", "not"):
            result[name] = _plain(value)
        elif name in _COMBINATORS:
            result[name] = [_plain(inner) for inner in value]
        elif name not in ("default", "description", "example", "externalDocs") and not name.startswith("x-kubernetes-"):
            result[name] = value
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    if schema.get("nullable") and isinstance(result.get("type"), str):
        result["type"] = [result["type"], "null"]
        if "enum" in result:
            result["enum"] = [*result["enum"], None]
    # OpenAPI v3.0 writes exclusive bounds as a flag beside the bound.
    for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(result.get(flag), bool) and result.pop(flag) and bound in result:
            result[flag] = result.pop(bound)
    return result


def _cause(error: jsonschema.ValidationError) -> Cause:
    path = _path_text(error.absolute_path)
    shown = f'"{error.instance}"' if isinstance(error.instance, str) else error.instance
    wanted: Any = error.validator_value
    instance: Any = error.instance
    match error.validator:
        case "required":
            missing = next((name for name in wanted if name not in instance), "")
            return Cause(f"{path}.{missing}" if path else missing, "FieldValueRequired", "Required value")
        case "type":
            wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
            where = f"{path} in body " if path else ""
            return Cause(path, "FieldValueTypeInvalid", f"Invalid value: {shown}: {where}must be of type {wanted}")
        case "enum":
            allowed = ", ".join(f'"{choice}"' for choice in wanted)
            return Cause(path, "FieldValueNotSupported", f"Unsupported value: {shown}: supported values: {allowed}")
        case "minimum":
            text = f"Invalid value: {shown}: {path} in body should be greater than or equal to {wanted}"
            return Cause(path, "FieldValueInvalid", text)
        case "maximum":
            text = f"Invalid value: {shown}: {path} in body should be less than or equal to {wanted}"
            return Cause(path, "FieldValueInvalid", text)
        case "pattern":
            text = f"Invalid value: {shown}: {path} in body should match '{wanted}'"
            return Cause(path, "FieldValueInvalid", text)
        case _:
            return Cause(path or "<root>", "FieldValueInvalid", f"Invalid value: {error.message}")


def _path_text(path: Any) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
