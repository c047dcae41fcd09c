"""What is wrong with an object and where, and a cursor that walks one and knows where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """field: a path such as spec.rules[0].path.value; empty for the object. message: what is wrong, what is right."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class Malformed(Exception):
    """A part has the wrong shape, so nothing inside it can be read."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Field:
    """A JSON value and where it stands. value: None when the field is absent or null. Readers raise Malformed."""

    path: str
    value: Any

    def __getitem__(self, name: str) -> Field:
        """A field of an object; absent when the object itself is."""
        return Field(f"{self.path}.{name}" if self.path else name, self.object().get(name))

    def __bool__(self) -> bool:
        """Whether it is there."""
        return self.value is not None

    def finding(self, message: str) -> Finding:
        """Something wrong here."""
        return Finding(self.path, message)

    def malformed(self, expected: str) -> Malformed:
        """The error for another shape than expected."""
        return Malformed(self.finding(f"expected {expected}, found {_shown(self.value)}"))

    def object(self) -> dict[str, Any]:
        """The fields; none when absent."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.malformed("an object")
        return self.value

    def items(self) -> Iterator[Field]:
        """The items of a list; none when absent."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.malformed("a list")
        for index, item in enumerate(self.value):
            yield Field(f"{self.path}[{index}]", item)

    def text(self, otherwise: str | None = None) -> str:
        """A string. otherwise: for an absent one; None makes it required."""
        if self.value is None and otherwise is not None:
            return otherwise
        if not isinstance(self.value, str):
            raise self.malformed("a string")
        return self.value

    def flag(self) -> bool:
        """A boolean, false when absent."""
        if self.value is None:
            return False
        if not isinstance(self.value, bool):
            raise self.malformed("true or false")
        return self.value

    def whole(self, low: int, high: int) -> int:
        """A whole number within bounds, inclusive."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not low <= self.value <= high:
            raise self.malformed(f"a whole number from {low} to {high}")
        return self.value

    def number(self) -> float:
        """A number."""
        if not isinstance(self.value, (int, float)) or isinstance(self.value, bool):
            raise self.malformed("a number")
        return self.value


def _shown(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "an object"
        case list():
            return "a list"
        case bool():
            return str(value).lower()
        case _:
            return repr(value)
