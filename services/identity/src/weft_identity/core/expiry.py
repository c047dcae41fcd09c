"""How near the end of a certificate is, in the steps at which people are warned: 60, 30 and 7 days, and over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

WARN_DAYS: Final = (60, 30, 7)
EXPIRED: Final = len(WARN_DAYS) + 1


def expiry_level(not_after: datetime, now: datetime) -> int:
    """0 when nothing is near, 1 to 3 within 60, 30, 7 days, 4 when it is over."""
    if not_after <= now:
        return EXPIRED
    return sum(not_after - now < timedelta(days=days) for days in WARN_DAYS)


def expiry_warning(what: str, not_after: datetime, now: datetime, recovery: str) -> str:
    """One sentence on what ends when, what follows from it, and what to do; empty at level 0."""
    level = expiry_level(not_after, now)
    if level == 0:
        return ""
    when = not_after.isoformat(timespec="seconds")
    if level == EXPIRED:
        return f"{what} expired at {when}: no certificate can be issued any more. {recovery}"
    return f"{what} expires at {when}, in less than {WARN_DAYS[level - 1]} days. {recovery}"
