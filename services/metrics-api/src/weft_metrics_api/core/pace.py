"""How soon the next round of scrapes follows: quickly while a proxy has no numbers yet, at the interval otherwise.

Rates need two samples. A pod that has just started would wait up to two intervals for its first row of numbers, and so
would whoever deployed it. Pure; times are seconds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

QUICK_INTERVAL_S: Final = 1.0
# Two for a rate, one more since the first traffic may come after the first look.
ENOUGH_ANSWERS: Final = 3
# A proxy that does not answer at all must not keep the whole mesh at the quick pace.
PATIENCE_ROUNDS: Final = 20
# A larger mesh costs too much to be asked that often: taking in one proxy's numbers is a few milliseconds of CPU.
AFFORDABLE_PROXIES: Final = 100


class Pace:
    """Counts, per proxy (its pod's uid), the rounds it was asked in and those it answered."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._asked: dict[str, int] = {}
        self._answered: dict[str, int] = {}

    def round(self, asked: Collection[str], answered: Collection[str]) -> None:
        """One round is over. asked: every proxy there is now; those that have gone are forgotten."""
        self._asked = {uid: self._asked.get(uid, 0) + 1 for uid in asked}
        self._answered = {uid: self._answered.get(uid, 0) + (uid in answered) for uid in asked}

    def pause_s(self, took_s: float) -> float:
        """From the start of the round that took took_s to the start of the next; never less than took_s."""
        is_quick = len(self._asked) <= AFFORDABLE_PROXIES and self._has_newcomers
        return max(min(self._interval_s, QUICK_INTERVAL_S) if is_quick else self._interval_s, took_s)

    @property
    def _has_newcomers(self) -> bool:
        return any(
            self._answered[uid] < ENOUGH_ANSWERS and asked < PATIENCE_ROUNDS for uid, asked in self._asked.items()
        )
