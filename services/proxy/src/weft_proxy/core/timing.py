"""When to try again: certificate refresh and reconnect waits. Time and randomness are arguments."""

from random import Random

from weft_proxy.core.settings import BackoffSettings

REFRESH_RATIO = 0.7


def refresh_after_s(now_s: float, not_after_s: float | None, min_s: float, max_s: float) -> float:
    """Seconds to wait before the next Certify: 70 % of the remaining life, clamped (wire.md 4.2).

    not_after_s: expiry of the certificate in use, Unix seconds; None when there is none. An expired or absent one
    gives min_s, so the same formula serves success and failure.
    """
    if not_after_s is None or not_after_s <= now_s:
        return min_s
    return min(max_s, max(min_s, (not_after_s - now_s) * REFRESH_RATIO))


class Backoff:
    """Exponential waits with jitter; a connected stream resets it.

    The wait is min * 2^n capped at max, plus up to jitter_ratio of itself, never beyond max (wire.md 2.2).
    """

    __slots__ = ("_attempt", "_rng", "_settings")

    def __init__(self, settings: BackoffSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._attempt = 0

    def next_s(self) -> float:
        maximum = self._settings.max_ms
        # The exponent is bounded so that an outage of days does not grow the integer.
        base = min(maximum, self._settings.min_ms << min(self._attempt, 32))
        self._attempt += 1
        return min(maximum, base + self._rng.uniform(0.0, base * self._settings.jitter_ratio)) / 1000.0

    def reset(self) -> None:
        self._attempt = 0
