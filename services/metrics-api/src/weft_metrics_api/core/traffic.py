"""Adds up series into what a row shows: requests, latencies, connections, bytes.

One pass over the window feeds any number of accumulators. Left out everywhere: requests to a proxy's own admin port and
answers of probe routes, which are the mesh and the kubelet looking at a workload and not its traffic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

from weft_metrics_api.core.pods import DEFAULT_ADMIN_PORT, Pod
from weft_metrics_api.core.quantiles import latency_quantile
from weft_metrics_api.core.series import Direction, Family, Peer, Series
from weft_metrics_api.core.window import Span, Track, Window


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests, or exchanges of opaque bytes, of a span.

    success_rate: 0 to 1; rps: over the covered time; latencies: ms, None without samples.
    """

    success_count: int
    failure_count: int
    success_rate: float
    rps: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Tcp:
    """Connections open now; bytes per second over the covered time, as the proxy reads from and writes to the peer."""

    open_connections: int
    read_bytes_per_s: float
    write_bytes_per_s: float


@dataclass(slots=True)
class _Outcomes:
    """Counts by outcome and latencies by bucket bound, ms."""

    success: float = 0.0
    failure: float = 0.0
    latency: dict[float, float] = field(default_factory=dict)

    def count(self, is_success: bool, amount: float) -> None:
        if is_success:
            self.success += amount
        else:
            self.failure += amount

    def stats(self, covered_s: float) -> Requests | None:
        total = self.success + self.failure
        if total <= 0 or covered_s <= 0:
            return None
        return Requests(
            success_count=round(self.success),
            failure_count=round(self.failure),
            success_rate=self.success / total,
            rps=total / covered_s,
            p50_ms=latency_quantile(0.5, self.latency),
            p95_ms=latency_quantile(0.95, self.latency),
            p99_ms=latency_quantile(0.99, self.latency),
        )


@dataclass(slots=True)
class Traffic:
    """An accumulator."""

    _http: _Outcomes = field(default_factory=_Outcomes)
    _exchanges: _Outcomes = field(default_factory=_Outcomes)
    open_connections: float = 0.0
    read_bytes: float = 0.0
    write_bytes: float = 0.0

    def add(self, family: Family, series: Series, amount: float) -> None:
        """amount: an increase, or the value of a gauge."""
        match family:
            case Family.RESPONSES:
                self._http.count(series.success, amount)
            case Family.EXCHANGES:
                self._exchanges.count(series.success, amount)
            case Family.LATENCY_BUCKET:
                self._http.latency[series.le] = self._http.latency.get(series.le, 0.0) + amount
            case Family.EXCHANGE_LATENCY_BUCKET:
                self._exchanges.latency[series.le] = self._exchanges.latency.get(series.le, 0.0) + amount
            case Family.OPEN_CONNECTIONS:
                self.open_connections += amount
            case Family.READ_BYTES:
                self.read_bytes += amount
            case Family.WRITE_BYTES:
                self.write_bytes += amount
            case Family.UNMESHED | Family.PROCESS_START:
                pass
            case _:
                assert_never(family)

    def http(self, covered_s: float) -> Requests | None:
        """None without a request, or before any time is covered."""
        return self._http.stats(covered_s)

    def exchanges(self, covered_s: float) -> Requests | None:
        """None without an exchange, or before any time is covered."""
        return self._exchanges.stats(covered_s)

    def tcp(self, covered_s: float) -> Tcp | None:
        """None when nothing was open and nothing was carried."""
        if not (self.open_connections or self.read_bytes or self.write_bytes):
            return None
        rate = 1 / covered_s if covered_s > 0 else 0.0
        return Tcp(round(self.open_connections), self.read_bytes * rate, self.write_bytes * rate)


class Observation(NamedTuple):
    """One series within a span. pod: whose proxy reported it. amount: increase, or current value of a gauge.

    lasting: for a gauge, its lower value of the last two scrapes, so that a connection caught in passing can be told
    from one that stays.
    """

    pod: Pod
    series: Series
    amount: float
    lasting: float


def observations(
    window: Window, span: Span, direction: Direction, pods_by_ip: Mapping[str, Pod]
) -> Iterator[Observation]:
    """Everything of one direction that a workload's statistics may count, zero amounts left out.

    Transport series are those of the side that faces the peer: accepted connections inbound, dialled ones outbound.
    """
    facing = Peer.SRC if direction is Direction.INBOUND else Peer.DST
    for history in window.histories:
        live = window.is_live(history)
        for track in history.tracks:
            series = track.series
            if series.direction is not direction or series.is_probe:
                continue
            if series.peer is not facing and series.peer is not Peer.NONE:
                continue
            if series.target_port and series.target_port == admin_port_of(series, history.pod, pods_by_ip):
                continue
            observation = _observation(history.pod, track, span, live)
            if observation.amount > 0:
                yield observation


def _observation(pod: Pod, track: Track, span: Span, live: bool) -> Observation:
    if track.series.family.is_counter:
        return Observation(pod, track.series, track.increase(span), 0.0)
    if not live:
        return Observation(pod, track.series, 0.0, 0.0)
    return Observation(pod, track.series, track.value, min(track.value, track.previous))


def admin_port_of(series: Series, reporter: Pod, pods_by_ip: Mapping[str, Pod]) -> int:
    """The admin port of the proxy a series' target address belongs to."""
    target = reporter if series.direction is Direction.INBOUND else pods_by_ip.get(series.target_ip)
    if target is None:
        return DEFAULT_ADMIN_PORT
    # An unmeshed pod has no admin port; whatever it serves there is its own.
    return target.admin_port if target.admin_port is not None else 0
