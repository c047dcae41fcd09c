"""Quantiles from cumulative histogram buckets, by linear interpolation inside a bucket, as PromQL does."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

# Finite upper bounds of a proxy's latency histograms, milliseconds (observability.md 1.1).
LATENCY_BOUNDS_MS: Final = tuple(
    float(unit * scale) for scale in (1, 10, 100, 1000, 10_000) for unit in (1, 2, 3, 4, 5)
)


def latency_quantile(q: float, increases: Mapping[float, float]) -> float | None:
    """As `quantile`, for latencies in ms whose empty buckets may be left out.

    Only where the lowest bucket begins depends on them.
    """
    first = min((bound for bound, count in increases.items() if count > 0), default=math.inf)
    position = bisect_left(LATENCY_BOUNDS_MS, first)
    return quantile(q, increases, floor=LATENCY_BOUNDS_MS[position - 1] if position else 0.0)


def quantile(q: float, increases: Mapping[float, float], floor: float = 0.0) -> float | None:
    """Value below which a share q (0 to 1) of the observations lies; None without observations.

    increases: upper bound to cumulative count, +Inf included. In the last bucket the answer is the highest finite
    bound, the most that can be said. The lowest bucket that is not empty starts at
    floor or at the empty one below it.
    """
    bounds = sorted(bound for bound in increases if not math.isnan(bound))
    if not bounds or bounds[-1] != math.inf:
        return None
    total = increases[math.inf]
    if total <= 0:
        return None
    rank = q * total
    lower, below = floor, 0.0
    for bound in bounds:
        # Scrapes are not atomic across series: a bucket may lag the one below it, and must not count negative.
        count = max(increases[bound], below)
        if count >= rank and count > below:
            if bound == math.inf:
                return lower
            # Rounding must not carry the answer out of its bucket.
            return min(lower + (bound - lower) * (rank - below) / (count - below), bound)
        lower, below = (lower if bound == math.inf else max(bound, floor)), count
    return lower
