"""Settings from strings: one typed table per service, every mistake reported in one run.

Knows nothing about any particular service. Invariant: `read_settings` either returns a value for every entry of
the table or raises one `SettingsError` that names all offending variables.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _Required:
    """Marks a setting without a default."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One environment variable.

    parse: turns the text into a value; raises ValueError whose text says what form was expected.
    default: used when the variable is unset or empty; REQUIRED when there is none.
    help: meaning, unit and default, for --help and the reference page.
    """

    name: str
    parse: Callable[[str], T]
    default: T | _Required
    help: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong variable. found: its text, None when it is missing."""

    name: str
    found: str | None
    expected: str

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.name} is not set: {self.expected}"
        return f"{self.name}={self.found!r}: {self.expected}"


class ConfigurationError(Exception):
    """The process cannot start as it is configured. Caught at the process edge (exit code 64)."""

    def lines(self) -> Sequence[str]:
        """What is wrong, one mistake a line."""
        return [str(self)]


class SettingsError(ConfigurationError):
    """Every mistake of one configuration."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("; ".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)

    def lines(self) -> Sequence[str]:
        """One mistake a line, in the order of the table."""
        return [str(mistake) for mistake in self.mistakes]


def read_settings(table: Sequence[Setting[Any]], environ: Mapping[str, str]) -> dict[str, Any]:
    """Values keyed by variable name, one for every entry of the table. Raises SettingsError listing every mistake."""
    values: dict[str, Any] = {}
    mistakes: list[Mistake] = []
    for setting in table:
        text = environ.get(setting.name, "")
        if not text:
            if isinstance(setting.default, _Required):
                mistakes.append(Mistake(setting.name, None, setting.help))
            else:
                values[setting.name] = setting.default
            continue
        try:
            values[setting.name] = setting.parse(text)
        except ValueError as error:
            mistakes.append(Mistake(setting.name, text, str(error)))
    if mistakes:
        raise SettingsError(mistakes)
    return values


def describe_settings(table: Sequence[Setting[Any]]) -> str:
    """The table as lines for --help, in its own order."""
    lines = []
    for setting in table:
        default = "required" if isinstance(setting.default, _Required) else f"default {_shown(setting.default)}"
        lines.append(f"  {setting.name}  ({default})\n      {setting.help}")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, tuple | list):
        return ",".join(str(item) for item in value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    return "none" if value is None or value == "" else str(value)


def text(value: str) -> str:
    """The text as it is."""
    return value


def boolean(value: str) -> bool:
    """true/false in the spellings Kubernetes tools accept."""
    if value.lower() in {"1", "t", "true"}:
        return True
    if value.lower() in {"0", "f", "false"}:
        return False
    raise ValueError("expected true or false")


def port(value: str) -> int:
    """A TCP port to listen on; 0 lets the system choose."""
    if not value.isascii() or not value.isdigit() or int(value) > 65535:
        raise ValueError("expected a port, 0 to 65535")
    return int(value)


def duration(value: str) -> timedelta:
    """A duration such as 10s, 1h30m or 250ms; a bare 0 is allowed."""
    if value == "0":
        return timedelta()
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError("expected a duration such as 10s, 250ms or 1h30m")
    return timedelta(seconds=sum(float(number) * _UNIT_S[unit] for number, unit in parts))


def networks(value: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """A comma-separated list of CIDRs, order kept."""
    try:
        return tuple(ipaddress.ip_network(item.strip()) for item in value.split(",") if item.strip())
    except ValueError as error:
        raise ValueError(f"expected a comma-separated list of CIDRs: {error}") from error


def port_ranges(value: str) -> tuple[range, ...]:
    """A comma-separated list of ports and inclusive a-b ranges, as half-open ranges in the order given."""
    ranges = []
    for item in (part.strip() for part in value.split(",")):
        if not item:
            continue
        first, dash, last = item.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError("expected a comma-separated list of ports and a-b ranges")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= 65535:
            raise ValueError(f"{item} is not a port range within 1 to 65535")
        ranges.append(range(low, high + 1))
    return tuple(ranges)


def choice(*allowed: str) -> Callable[[str], str]:
    """A parser that admits exactly the given words."""

    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return value

    return parse
