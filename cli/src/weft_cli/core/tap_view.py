"""`weft tap`: one event, one line (observability.md 4.4). Values in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from weft_cli.core.printable import printable


class Phase(StrEnum):
    """Of a request: it came, response headers came, the response ended."""

    REQUEST = "req"
    RESPONSE = "rsp"
    END = "end"


@dataclass(frozen=True, slots=True)
class TapLine:
    """One event. facts: what the phase tells, in order. src, dst: host:port. labels: what `wide` adds, by full name."""

    phase: Phase
    id: str
    is_inbound: bool
    src: str
    dst: str
    tls: str
    facts: tuple[tuple[str, str], ...]
    labels: Mapping[str, str] = field(default_factory=dict)


def tap_text(line: TapLine, *, wide: bool = False) -> str:
    """Without a line feed. Control characters that a client sent are shown as escapes."""
    side = "in " if line.is_inbound else "out"
    cells = [
        f"{line.phase} id={line.id} proxy={side} src={line.src} dst={line.dst} tls={line.tls}",
        *(f"{name}={printable(value)}" for name, value in line.facts),
    ]
    if wide:
        cells += [f"{name}={printable(value)}" for name, value in sorted(line.labels.items())]
    return " ".join(cells)


def duration_text(nanoseconds: int) -> str:
    """Microseconds, as Linkerd shows them."""
    return f"{nanoseconds // 1000}µs"
