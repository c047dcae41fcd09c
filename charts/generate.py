"""Writes what follows from the comments and defaults of weft-proxy/values.yaml: a schema per chart, the reference page.

A comment `# -- text` above a value documents it, until the next line that does not go on with it. `# @schema {…}` adds
JSON schema to what the default tells: its type, and for a mapping with keys, that no other key exists. An empty mapping
or list may hold anything. A text may also be written as a number, as people write `opaquePorts: 3306`.

    python charts/generate.py            write
    python charts/generate.py --check    exit 1 and name what is out of date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

CHARTS: Final = Path(__file__).parent
SHARED: Final = CHARTS / "weft-proxy" / "values.yaml"
REFERENCE: Final = CHARTS.parent / "docs" / "reference" / "chart-values.md"
COMPONENTS: Final = (
    "weft-identity",
    "weft-destination",
    "weft-injector",
    "weft-redis",
    "weft-metrics-api",
    "weft-web",
)
DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_DOC: Final = "-- "
_SCHEMA: Final = "@schema "
_TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: ["string", "number"], type(None): "null"}

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """One value. path: keys from the top. documented: the text of its comment. constraint: of `@schema`."""

    path: tuple[str, ...]
    default: Any
    documented: str
    constraint: Schema

    @property
    def is_group(self) -> bool:
        """Whether it is a mapping of further values."""
        return isinstance(self.default, dict) and bool(self.default) and "type" not in self.constraint


def values_in(text: str) -> list[Value]:
    """Every value of a values file, groups before their members. Raises ValueError for a comment that fits nothing."""
    # Once for the lines where keys stand, once for plain values.
    placed, plain = YAML(typ="rt").load(text), YAML(typ="safe").load(text)
    return list(_walk(placed, plain, (), dict(_comments(text.splitlines()))))


def _walk(
    placed: Any, plain: dict[str, Any], path: tuple[str, ...], comments: dict[int, tuple[str, Schema]]
) -> Iterator[Value]:
    for key, default in plain.items():
        documented, constraint = comments.get(placed.lc.key(key)[0], ("", {}))
        value = Value((*path, key), default, documented, constraint)
        yield value
        if value.is_group:
            yield from _walk(placed[key], default, value.path, comments)


def _comments(lines: list[str]) -> Iterator[tuple[int, tuple[str, Schema]]]:
    """Line number of a value to the documentation and the constraint that stand above it."""
    documented: list[str] = []
    constraint: Schema = {}
    for number, line in enumerate(lines):
        text = line.strip()
        if not text.startswith("#"):
            if documented or constraint:
                yield number, (" ".join(documented), constraint)
            documented, constraint = [], {}
            continue
        text = text.removeprefix("#").strip()
        if text.startswith(_SCHEMA):
            constraint = dict(YAML(typ="safe").load(text.removeprefix(_SCHEMA)))
        elif text.startswith(_DOC):
            documented = [text.removeprefix(_DOC)]
        elif documented:
            documented.append(text)


def settings_schema(values: list[Value]) -> Schema:
    """The schema of all shared values."""
    root: Schema = {"type": "object", "additionalProperties": False, "properties": {}}
    groups: dict[tuple[str, ...], Schema] = {(): root}
    for value in values:
        schema = _schema_of(value)
        if value.is_group:
            groups[value.path] = schema
        groups[value.path[:-1]]["properties"][value.path[-1]] = schema
    return root


def _schema_of(value: Value) -> Schema:
    described: Schema = {"description": value.documented} if value.documented else {}
    if value.is_group:
        return {**described, "type": "object", "additionalProperties": False, "properties": {}, **value.constraint}
    if "enum" in value.constraint:
        return {**described, **value.constraint}
    if isinstance(value.default, dict):
        return {**described, "type": "object", **value.constraint}
    if isinstance(value.default, list):
        return {**described, "type": "array", **value.constraint}
    return {**described, "type": _TYPES[type(value.default)], **value.constraint}


def component_schema(settings: Schema) -> Schema:
    """Of a chart that takes the settings under global: and at the top level."""
    own = {"global": {"$ref": "#/definitions/settings"}, "weft-proxy": {"$ref": "#/definitions/settings"}}
    shared = {**settings, "properties": {**settings["properties"], "global": {"type": "object"}}}
    top = {name: {"$ref": f"#/definitions/settings/properties/{name}"} for name in settings["properties"]}
    return {
        "$schema": DIALECT,
        "type": "object",
        "additionalProperties": False,
        "properties": {**top, **own},
        "definitions": {"settings": shared},
    }


def umbrella_schema(settings: Schema) -> Schema:
    """Of the umbrella: global: holds every setting; a component's own settings may stand under its name."""
    components = {name: {"type": "object"} for name in ("weft-crds", *COMPONENTS)}
    return {
        "$schema": DIALECT,
        "type": "object",
        "additionalProperties": False,
        "properties": {"global": settings, **components},
    }


def library_schema(settings: Schema) -> Schema:
    """Of the library chart, which sees the settings of its parent under global:."""
    return {"$schema": DIALECT, **settings, "properties": {**settings["properties"], "global": {"type": "object"}}}


def reference_page(values: list[Value]) -> str:
    """The table for people."""
    lines = [
        "# Chart values",
        "",
        "Generated by `charts/generate.py` from the comments of `charts/weft-proxy/values.yaml`. Set them under",
        "`global:`, for every chart alike, or at the top level of one component's chart. `charts/weft/values-ha.yaml`",
        "is a set of them for high availability. Each chart's schema refuses a value that is not here, by name.",
        "",
        "| Value | Default | Meaning |",
        "| --- | --- | --- |",
    ]
    for value in values:
        if value.is_group and not value.documented:
            continue
        default = "" if value.is_group else f"`{_shown(value.default)}`"
        allowed = ", ".join(f"`{_shown(item)}`" for item in value.constraint.get("enum", ()))
        meaning = " ".join(part for part in (value.documented, f"One of {allowed}." if allowed else "") if part)
        lines.append(f"| `{'.'.join(value.path)}` | {default} | {meaning} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return json.dumps(value, separators=(", ", ": ")).replace("|", "\\|")


def generated() -> dict[Path, str]:
    """Every file and its content."""
    values = values_in(SHARED.read_text())
    settings = settings_schema(values)
    schemas = {
        "weft-proxy": library_schema(settings),
        "weft": umbrella_schema(settings),
        **{name: component_schema(settings) for name in COMPONENTS},
    }
    files = {
        CHARTS / name / "values.schema.json": json.dumps(schema, indent=1) + "\n" for name, schema in schemas.items()
    }
    return {**files, REFERENCE: reference_page(values)}


def main(arguments: list[str]) -> int:
    """Exit code 0, or 1 when --check finds a difference."""
    stale = [path for path, text in generated().items() if not path.is_file() or path.read_text() != text]
    if arguments == ["--check"]:
        for path in stale:
            print(f"{path.relative_to(CHARTS.parent)} is out of date: run python charts/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(generated()[path])
        print(path.relative_to(CHARTS.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
