"""Plain tables, as Linkerd prints them: the name to the left, everything else to the right, three spaces between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

GAP: Final = "   "
UNKNOWN: Final = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """left: how many columns, from the first, are aligned to the left."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1

    def text(self) -> str:
        """Lines ending in newlines; columns as wide as their widest cell."""
        lines = (self.header, *self.rows)
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        return "".join(self._line(line, widths) for line in lines)

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = [
            cell.ljust(width) if column < self.left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return GAP.join(padded).rstrip() + "\n"


def percent(share: float | None) -> str:
    """0.9714 as 97.14%."""
    return UNKNOWN if share is None else f"{share * 100:.2f}%"


def rps(rate: float | None) -> str:
    """Requests per second."""
    return UNKNOWN if rate is None else f"{rate:.1f}rps"


def milliseconds(value: float | None) -> str:
    """Whole milliseconds."""
    return UNKNOWN if value is None else f"{round(value)}ms"


def bytes_per_second(rate: float | None) -> str:
    """One decimal."""
    return UNKNOWN if rate is None else f"{rate:.1f}B/s"
