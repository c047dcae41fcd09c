"""Quantiles by interpolation, checked against hand-computed values and their own invariants."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft_metrics_api.core.quantiles import LATENCY_BOUNDS_MS, latency_quantile, quantile

BOUNDS = [1.0, 2.0, 5.0, 10.0, 100.0, math.inf]


def test_position_inside_a_bucket_is_interpolated() -> None:
    # 50 of 100 lie in (0, 10], 50 in (10, 100]: the 95th is nine tenths into the second bucket.
    assert quantile(0.95, {10.0: 50, 100.0: 100, math.inf: 100}) == pytest.approx(91.0)
    assert quantile(0.5, {10.0: 50, 100.0: 100, math.inf: 100}) == pytest.approx(10.0)


def test_empty_buckets_may_be_left_out() -> None:
    whole = {bound: 0.0 if bound < 50 else 10.0 for bound in (*LATENCY_BOUNDS_MS, math.inf)}
    sparse = {bound: count for bound, count in whole.items() if count}
    assert latency_quantile(0.5, sparse) == latency_quantile(0.5, whole) == quantile(0.5, whole) == 45.0


def test_observations_beyond_the_last_bound_give_that_bound() -> None:
    assert quantile(0.99, {10.0: 1, math.inf: 100}) == 10.0


def test_no_observations_give_no_quantile() -> None:
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {10.0: 0, math.inf: 0}) is None
    assert quantile(0.5, {10.0: 5}) is None


@given(st.lists(st.integers(0, 1000), min_size=6, max_size=6), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_quantiles_rise_with_their_share_and_stay_within_the_bounds(counts: list[int], a: float, b: float) -> None:
    cumulative = {bound: float(sum(counts[: i + 1])) for i, bound in enumerate(BOUNDS)}
    low, high = quantile(min(a, b), cumulative), quantile(max(a, b), cumulative)
    if sum(counts) == 0:
        assert low is None
        return
    assert low is not None
    assert high is not None
    assert 0 <= low <= high <= 100


def test_rounding_does_not_leave_the_bucket() -> None:
    count = 167772.50171501515
    assert quantile(1.0, {100.0: count, math.inf: count}) == 100.0


@given(st.dictionaries(st.sampled_from(BOUNDS), st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_buckets_that_contradict_each_other_do_not_break_it(increases: dict[float, float], q: float) -> None:
    result = quantile(q, increases)
    assert result is None or 0 <= result <= 100
