"""Exponential backoff with jitter: the one place that computes it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Waits between tries. min_s, max_s: seconds, 0 < min_s <= max_s. jitter_ratio: share of the base added at random.

    The n-th wait is min(max_s, min_s * 2^n) plus a uniform share in [0, base * jitter_ratio], never beyond max_s.
    """

    min_s: float
    max_s: float
    jitter_ratio: float = 0.1
    rng: random.Random = field(default_factory=random.Random)
    _tries: int = field(default=0, init=False)

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        # 2^30 times any sane minimum is beyond any sane maximum; the cap keeps the float finite.
        base = min(self.max_s, self.min_s * float(1 << min(self._tries, 30)))
        self._tries += 1
        return min(self.max_s, base + self.rng.uniform(0, base * self.jitter_ratio))

    def reset(self) -> None:
        """Start again from min_s: the last try worked."""
        self._tries = 0
