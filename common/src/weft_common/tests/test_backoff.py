from __future__ import annotations

import random

from weft_common.backoff import Backoff


def test_waits_double_up_to_the_maximum_and_start_again_after_reset() -> None:
    backoff = Backoff(0.1, 1.0, jitter_ratio=0)
    assert [round(backoff.next_s(), 3) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next_s() == 0.1


def test_jitter_adds_at_most_its_share_and_never_passes_the_maximum() -> None:
    backoff = Backoff(0.1, 0.4, jitter_ratio=0.5, rng=random.Random(1))
    waits = [backoff.next_s() for _ in range(200)]
    assert 0.1 <= waits[0] <= 0.15
    assert all(0.1 <= wait <= 0.4 for wait in waits)


def test_many_tries_stay_finite() -> None:
    backoff = Backoff(0.1, 60.0, jitter_ratio=0)
    assert [backoff.next_s() for _ in range(5000)][-1] == 60.0
