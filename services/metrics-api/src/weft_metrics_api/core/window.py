"""A bounded window of every proxy's counters, as increases per scrape round.

Owns reset detection and expiry; knows nothing of what the series mean beyond counter or gauge. Times are seconds of one
clock, given by the caller. All proxies of a round share the round's time, so sums over proxies need no alignment.
Invariants: increases are never negative; nothing older than the retention is kept; at most MAX_SERIES series per proxy.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from weft_metrics_api.core.exposition import BadExposition, split_samples
from weft_metrics_api.core.pods import Pod, PodKey
from weft_metrics_api.core.series import Family, Series, series_from_key

MAX_SERIES: Final = 20_000
# A proxy that missed this many rounds has no connections any more, as far as anybody can tell.
GAUGE_LIFE_ROUNDS: Final = 3
# Rounds begin with this much jitter, which must not pull one more interval into a window.
ROUND_JITTER_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Span:
    """Rounds after base, up to and including newest."""

    base: float
    newest: float

    @property
    def covered_s(self) -> float:
        """Seconds between the two; 0 before there are two rounds."""
        return self.newest - self.base


@dataclass(slots=True)
class Track:
    """One series over time. increases: (round time, increase > 0), oldest first. previous: value one scrape earlier."""

    series: Series
    value: float
    seen_at: float
    previous: float = 0.0
    increases: deque[tuple[float, float]] = field(default_factory=deque)

    def increase(self, span: Span) -> float:
        """Sum of what was added in the rounds of the span."""
        total = 0.0
        for at, increase in reversed(self.increases):
            if at <= span.base:
                break
            if at <= span.newest:
                total += increase
        return total


def increase_of(before: float, now: float) -> float:
    """What a counter gained. A counter that went down was reset, and everything it shows now is new."""
    return now - before if now >= before else now


class ProxyHistory:
    """One proxy's series. pod: as last seen, so that traffic of a pod that has gone still has an owner."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.scraped_at: float | None = None
        self.dropped_series = 0
        self._tracks: dict[str, Track] = {}
        # Keys of families nobody needs; replaced at each scrape, so it cannot outgrow one exposition.
        self._ignored: set[str] = set()
        self._started_at = 0.0

    @property
    def tracks(self) -> Iterator[Track]:
        """Every series of the window."""
        return iter(self._tracks.values())

    @property
    def series_count(self) -> int:
        """Series held."""
        return len(self._tracks)

    def ingest(self, at: float, text: str, previous_round: float | None, retention_s: float) -> None:
        """Take in one exposition. previous_round: time of the round before this one, None for the first ever."""
        samples = list(self._values(text))
        started_at = next((v for _, s, v in samples if s.family is Family.PROCESS_START), 0.0)
        restarted = self.scraped_at is not None and started_at > self._started_at > 0
        # A first look at a counter does not tell when it grew, unless the proxy itself is younger than our last look.
        born_since = previous_round is not None and started_at > previous_round
        from_zero = self.scraped_at is not None or born_since
        for key, series, value in samples:
            track = self._tracks.get(key)
            if track is None:
                if len(self._tracks) >= MAX_SERIES:
                    self.dropped_series += 1
                    continue
                track = self._tracks[key] = Track(series, 0.0, at)
                gained = value if from_zero else 0.0
            else:
                gained = value if restarted else increase_of(track.value, value)
            track.previous, track.value, track.seen_at = track.value, value, at
            if gained > 0 and track.series.family.is_counter:
                track.increases.append((at, gained))
        self._started_at = started_at or self._started_at
        self.scraped_at = at
        self.expire(at - retention_s)

    def expire(self, before: float) -> None:
        """Forget increases up to `before`, and series that are gone and hold none."""
        gone = []
        for key, track in self._tracks.items():
            increases = track.increases
            while increases and increases[0][0] <= before:
                increases.popleft()
            if track.seen_at != self.scraped_at:
                # The proxy retires idle series; the next value under the same key starts from zero.
                track.value = track.previous = 0.0
                if not increases:
                    gone.append(key)
        for key in gone:
            del self._tracks[key]

    def _values(self, text: str) -> Iterator[tuple[str, Series, float]]:
        """(key, series, value) of the families that matter. Lines that cannot be read are left out."""
        ignored: set[str] = set()
        for key, shown in split_samples(text):
            if key in self._ignored:
                ignored.add(key)
                continue
            track = self._tracks.get(key)
            try:
                series = track.series if track is not None else series_from_key(key)
                if series is None:
                    ignored.add(key)
                    continue
                value = float(shown)
            except (BadExposition, ValueError):
                ignored.add(key)
                continue
            if math.isfinite(value):
                yield key, series, value
        self._ignored = ignored


class Window:
    """All proxies. retention_s: how far back questions may reach.

    A round's samples are ingested first and count once `end_round` has been called, so that a question asked during a
    round sees either all of it or nothing.
    """

    def __init__(self, retention_s: float) -> None:
        self.retention_s = retention_s
        self._rounds: deque[float] = deque()
        self._histories: dict[tuple[PodKey, str], ProxyHistory] = {}

    @property
    def histories(self) -> Iterator[ProxyHistory]:
        """Every proxy of the window, gone ones included."""
        return iter(self._histories.values())

    @property
    def series_count(self) -> int:
        """Series held, over all proxies."""
        return sum(history.series_count for history in self._histories.values())

    @property
    def newest_round(self) -> float | None:
        """When the last complete round began; None before the first."""
        return self._rounds[-1] if self._rounds else None

    def ingest(self, pod: Pod, at: float, text: str) -> None:
        """Take in one proxy's exposition, fetched in the round that began at `at`."""
        history = self._histories.get((pod.key, pod.uid))
        if history is None:
            history = self._histories[pod.key, pod.uid] = ProxyHistory(pod)
        history.pod = pod
        history.ingest(at, text, self.newest_round, self.retention_s)

    def end_round(self, at: float) -> None:
        """The round that began at `at` is complete. Forgets what has aged out, proxies that have gone included."""
        self._rounds.append(at)
        horizon = at - self.retention_s
        while len(self._rounds) > 1 and self._rounds[1] <= horizon:
            self._rounds.popleft()
        for key, history in list(self._histories.items()):
            if history.scraped_at is None or history.scraped_at <= horizon:
                del self._histories[key]
            elif history.scraped_at != at:
                history.expire(horizon)

    def span(self, window_s: float) -> Span:
        """The rounds of the last window_s seconds, counted back from the newest to a round boundary at or beyond it."""
        if not self._rounds:
            return Span(0.0, 0.0)
        newest = self._rounds[-1]
        index = max(bisect_right(self._rounds, newest - window_s + ROUND_JITTER_S) - 1, 0)
        return Span(self._rounds[index], newest)

    def is_live(self, history: ProxyHistory) -> bool:
        """Whether its gauges still say something: scraped within the last few rounds."""
        if not self._rounds or history.scraped_at is None:
            return False
        return history.scraped_at >= self._rounds[-min(GAUGE_LIFE_ROUNDS, len(self._rounds))]
