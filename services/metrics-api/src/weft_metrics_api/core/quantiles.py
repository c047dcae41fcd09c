"""Quantiles from cumulative histogram buckets, by linear interpolation inside a bucket, as PromQL does."""

from __future__ import annotations

import math
from collections.abc import Mapping


def quantile(q: float, increases: Mapping[float, float]) -> float | None:
    """Value below which a share q (0 to 1) of the observations lies; None without observations.

    increases: upper bound to cumulative count, +Inf included. In the last bucket the answer is the highest finite
    bound, the most that can be said. The lowest bucket starts at 0.
    """
    bounds = sorted(bound for bound in increases if not math.isnan(bound))
    if not bounds or bounds[-1] != math.inf:
        return None
    total = increases[math.inf]
    if total <= 0:
        return None
    rank = q * total
    lower, below = 0.0, 0.0
    for bound in bounds:
        # Scrapes are not atomic across series: a bucket may lag the one below it, and must not count negative.
        count = max(increases[bound], below)
        if count >= rank and count > below:
            if bound == math.inf:
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = (lower if bound == math.inf else bound), count
    return lower
