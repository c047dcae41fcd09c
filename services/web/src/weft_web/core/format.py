"""Numbers as people read them."""

from __future__ import annotations

ABSENT = "–"


def percent(share: float | None) -> str:
    """0 to 1 as a percentage. Never rounds a failure away: 99.996 % is 99.99 %, and only 1 is 100 %."""
    if share is None:
        return ABSENT
    hundredths = int(share * 10000)
    return f"{hundredths // 100}%" if hundredths % 100 == 0 else f"{hundredths / 100:.2f}%"


def rate(per_second: float | None) -> str:
    """Requests per second with one decimal below 100."""
    if per_second is None:
        return ABSENT
    return f"{per_second:.0f}" if per_second >= 100 else f"{per_second:.1f}"


def milliseconds(value: float | None) -> str:
    """Milliseconds with one decimal below 10, seconds from 10,000."""
    if value is None:
        return ABSENT
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def byte_rate(per_second: float) -> str:
    """Bytes per second in binary units."""
    for unit in ("B/s", "KiB/s", "MiB/s"):
        if per_second < 1024:
            return f"{per_second:.0f} {unit}" if unit == "B/s" else f"{per_second:.1f} {unit}"
        per_second /= 1024
    return f"{per_second:.1f} GiB/s"
