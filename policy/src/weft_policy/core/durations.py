"""Durations as Go and the Gateway API write them: `1h30m`, `1.5s`, `250ms`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_PART: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h)", re.ASCII)
_UNIT_MS: Final = {
    "ns": Fraction(1, 1_000_000),
    "us": Fraction(1, 1_000),
    "µs": Fraction(1, 1_000),
    "ms": Fraction(1),
    "s": Fraction(1_000),
    "m": Fraction(60_000),
    "h": Fraction(3_600_000),
}


def go_duration_ms(text: str) -> int:
    """Whole milliseconds, rounded up, so that a short duration is not none. Raises ValueError.

    Source: Go's time.ParseDuration; GEP-2257 is a subset of it.
    """
    if text == "0":
        return 0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration: expected one such as 500ms, 10s or 1m30s")
    total = sum(Fraction(number) * _UNIT_MS[unit] for number, unit in parts)
    return -int(-total // 1)
