from random import Random

from weft_proxy.core.settings import BackoffSettings
from weft_proxy.core.timing import Backoff, refresh_after_s

DAY_S = 86_400.0


def test_refresh_comes_after_seven_tenths_of_the_remaining_life() -> None:
    assert refresh_after_s(1000.0, 2000.0, 10.0, DAY_S) == 700.0


def test_refresh_is_clamped_on_both_sides() -> None:
    assert refresh_after_s(1000.0, 1001.0, 10.0, DAY_S) == 10.0
    assert refresh_after_s(0.0, 10 * DAY_S, 10.0, DAY_S) == DAY_S


def test_absent_or_expired_certificate_is_retried_at_the_shortest_wait() -> None:
    assert refresh_after_s(1000.0, None, 10.0, DAY_S) == 10.0
    assert refresh_after_s(1000.0, 999.0, 10.0, DAY_S) == 10.0


def test_backoff_doubles_up_to_its_maximum_and_resets() -> None:
    backoff = Backoff(BackoffSettings(100, 1000, 0.0), Random(1))
    assert [backoff.next_s() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next_s() == 0.1


def test_jitter_adds_at_most_its_share_and_never_passes_the_maximum() -> None:
    backoff = Backoff(BackoffSettings(100, 1000, 0.5), Random(7))
    waits = [backoff.next_s() for _ in range(40)]
    assert 0.1 <= waits[0] <= 0.15
    assert max(waits) <= 1.0


def test_backoff_survives_a_very_long_outage() -> None:
    backoff = Backoff(BackoffSettings(100, 60_000, 0.0), Random(1))
    for _ in range(10_000):
        last = backoff.next_s()
    assert last == 60.0
