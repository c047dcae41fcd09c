"""An object and where it was written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# A path into an object: names and list positions.
FieldPath = tuple[str | int, ...]

_STEP: Final = re.compile(r"\[(\d+)\]|\[([^\]]+)\]|([^.\[\]]+)")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong. line: from 1; field: empty when the whole object is meant; advice: what to do next."""

    file: Path
    line: int
    field: str
    what: str
    advice: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        parts = [where, *([self.field] if self.field else []), self.what]
        text = ": ".join(parts)
        return f"{text}; {self.advice}" if self.advice else text


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object. lines: the line of every field by path, the empty path being the object itself."""

    file: Path
    obj: dict[str, Any]
    lines: Mapping[FieldPath, int]

    @property
    def api_version(self) -> str:
        return str(self.obj.get("apiVersion", ""))

    @property
    def kind(self) -> str:
        return str(self.obj.get("kind", ""))

    @property
    def name(self) -> str:
        return str((self.obj.get("metadata") or {}).get("name", ""))

    @property
    def namespace(self) -> str | None:
        """As written; None when the manifest names none."""
        value = (self.obj.get("metadata") or {}).get("namespace")
        return None if value is None else str(value)

    def line_of(self, path: FieldPath) -> int:
        """The line of a field, or of the nearest enclosing field that was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1

    def problem(self, field: str, what: str, advice: str = "") -> Problem:
        """A problem at a field written as spec.containers[0].image."""
        return Problem(self.file, self.line_of(parse_field(field)), field, what, advice)


def parse_field(text: str) -> FieldPath:
    """spec.containers[0].image as a path. A bracketed name, as in labels[a.b/c], is one step."""
    steps: list[str | int] = []
    for number, quoted, name in _STEP.findall(text):
        steps.append(int(number) if number else (quoted or name))
    return tuple(steps)
