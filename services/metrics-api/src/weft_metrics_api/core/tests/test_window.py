"""Increases over rounds: resets, births, retirements, expiry."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from weft_metrics_api.core.series import Family
from weft_metrics_api.core.tests.proxies import connections, inbound, pod
from weft_metrics_api.core.window import MAX_SERIES, Window, increase_of

POD = pod("price-0", "10.0.0.2")


def scrape(window: Window, at: float, text: str) -> None:
    window.ingest(POD, at, text)
    window.end_round(at)


def successes(window: Window, window_s: float) -> float:
    span = window.span(window_s)
    return sum(
        track.increase(span)
        for history in window.histories
        for track in history.tracks
        if track.series.family is Family.RESPONSES and track.series.success
    )


def test_first_look_at_a_counter_counts_nothing() -> None:
    window = Window(600)
    scrape(window, 100, inbound(ok=1000))
    assert (successes(window, 60), window.span(60).covered_s) == (0, 0)


def test_increase_is_the_difference_and_covers_the_time_between_rounds() -> None:
    window = Window(600)
    for at, count in ((100, 1000), (105, 1010), (110, 1030)):
        scrape(window, at, inbound(ok=count))
    assert (successes(window, 60), window.span(60).covered_s) == (30, 10)
    assert (successes(window, 5), window.span(5).covered_s) == (20, 5)


def test_jitter_of_a_round_does_not_widen_the_window() -> None:
    window = Window(600)
    for at in (100.0, 105.0, 110.08, 115.02):
        scrape(window, at, inbound(ok=int(at)))
    assert window.span(5).covered_s < 6


def test_reset_counter_counts_what_it_shows_since() -> None:
    window = Window(600)
    for at, count in ((100, 1000), (105, 1010), (110, 7)):
        scrape(window, at, inbound(ok=count))
    assert successes(window, 60) == 17


def test_restart_is_seen_by_the_start_time_even_when_the_counter_is_already_higher() -> None:
    window = Window(600)
    scrape(window, 100, inbound(ok=10) + "process_start_time_seconds 50\n")
    scrape(window, 105, inbound(ok=30) + "process_start_time_seconds 101\n")
    assert successes(window, 60) == 30


def test_proxy_born_since_the_last_round_counts_from_zero() -> None:
    window = Window(600)
    window.end_round(100)
    scrape(window, 105, inbound(ok=12) + "process_start_time_seconds 102\n")
    assert (successes(window, 60), window.span(60).covered_s) == (12, 5)


def test_series_that_appears_on_a_known_proxy_counts_from_zero() -> None:
    window = Window(600)
    scrape(window, 100, "# nothing yet\n")
    scrape(window, 105, inbound(ok=4))
    assert successes(window, 60) == 4


def test_retired_series_that_returns_counts_from_zero() -> None:
    window = Window(600)
    for at, text in ((100, inbound(ok=5)), (105, inbound(ok=9)), (110, "\n"), (115, inbound(ok=20))):
        scrape(window, at, text)
    assert successes(window, 60) == 4 + 20


def test_missed_scrape_loses_nothing() -> None:
    window = Window(600)
    scrape(window, 100, inbound(ok=5))
    window.end_round(105)
    scrape(window, 110, inbound(ok=25))
    assert successes(window, 60) == 20


def test_round_in_progress_is_not_counted_yet() -> None:
    window = Window(600)
    scrape(window, 100, inbound(ok=5))
    scrape(window, 105, inbound(ok=6))
    window.ingest(POD, 110, inbound(ok=100))
    assert (successes(window, 60), window.span(60).covered_s) == (1, 5)


def test_what_is_older_than_the_retention_is_forgotten() -> None:
    window = Window(20)
    for at in range(100, 200, 5):
        scrape(window, at, inbound(ok=at))
    assert (successes(window, 1000), window.span(1000).covered_s) == (20, 20)
    window.end_round(230)
    assert list(window.histories) == []


def test_gauge_of_a_proxy_that_stopped_answering_is_not_live() -> None:
    window = Window(600)
    scrape(window, 100, connections("inbound", "src", 3, 'tls="true"'))
    (history,) = window.histories
    assert window.is_live(history)
    for at in (105, 110):
        window.end_round(at)
    assert window.is_live(history)
    window.end_round(115)
    assert not window.is_live(history)


def test_number_of_series_is_bounded_and_the_rest_is_counted() -> None:
    window = Window(600)
    text = "".join(f'tcp_open_connections{{direction="inbound",n="{n}"}} 1\n' for n in range(MAX_SERIES + 5))
    scrape(window, 100, text)
    (history,) = window.histories
    assert (window.series_count, history.dropped_series) == (MAX_SERIES, 5)


def test_unreadable_lines_and_values_are_left_out() -> None:
    window = Window(600)
    scrape(window, 100, 'response_total{oops} 3\nresponse_total{a="b"} many\nresponse_total{a="c"} NaN\n')
    assert window.series_count == 0


@given(st.lists(st.integers(0, 2**53), min_size=1, max_size=30))
def test_increases_are_never_negative_and_sum_up_without_resets(values: list[int]) -> None:
    assert all(increase_of(a, b) >= 0 for a, b in pairwise(values))
    rising = sorted(values)
    gained = sum(increase_of(a, b) for a, b in pairwise(rising))
    assert gained == rising[-1] - rising[0]


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=5))
def test_every_request_counts_once_over_any_number_of_restarts(lives: list[list[int]]) -> None:
    """A proxy is scraped after each batch of requests and starts again from zero between lives."""
    window = Window(10_000)
    at = 0.0
    window.end_round(at)
    sent = 0
    for life in lives:
        start, count = at + 1, 0
        for batch in life:
            at += 5
            count += batch
            sent += batch
            scrape(window, at, inbound(ok=count) + f"process_start_time_seconds {start}\n")
    assert successes(window, 10_000) == sent
