"""Lists of ports as annotations write them: numbers, inclusive ranges, names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class PortSet:
    """Ports as inclusive (first, last) pairs, in the order given."""

    ranges: tuple[tuple[int, int], ...] = ()

    def __contains__(self, port: int) -> bool:
        return any(first <= port <= last for first, last in self.ranges)

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)

    @classmethod
    def of(cls, ports: Iterable[int]) -> PortSet:
        """A set of single ports."""
        return cls(tuple((port, port) for port in ports))


NO_PORTS: Final = PortSet()


def port_set_from_text(text: str, named: Mapping[str, int] | None = None) -> PortSet:
    """Read a comma-separated list. named: port numbers by container or service port name, looked up before ranges.

    An item that is neither is skipped, as Linkerd does; an empty text is the empty set.
    """
    ranges = []
    for item in (part.strip() for part in text.split(",")):
        if named and item in named:
            ranges.append((named[item], named[item]))
            continue
        first, dash, last = (part.strip() for part in item.partition("-"))
        if not _is_number(first) or (dash and not _is_number(last)):
            continue
        low, high = int(first), int(last or first)
        if 0 < low <= high <= _MAX_PORT:
            ranges.append((low, high))
    return PortSet(tuple(ranges))


def _is_number(text: str) -> bool:
    # int() alone would also take "+1", "1_0" and digits of other scripts, and length bounds its cost.
    return text.isascii() and text.isdigit() and len(text) <= 5
