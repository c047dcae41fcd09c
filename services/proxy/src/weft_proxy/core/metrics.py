"""Metric families of the Python side, as exposition text (observability.md 1.10)."""

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from weft_proxy.core.settings import ControlService

GrpcStatus = tuple[str, int]

LATENCY_BUCKETS_MS: Final = tuple(digit * 10**power for power in range(5) for digit in (1, 2, 3, 4, 5))
# Numbers of the gRPC codes that count as failures (observability.md 1.3).
FAILURES: Final = frozenset({2, 4, 7, 13, 14, 15})
# Codes that the client library gives when no server answered.
MADE_HERE: Final = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE"})
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(slots=True)
class IdentityMetrics:
    """Unix seconds; None before the first certificate."""

    not_after_s: float | None = None
    refreshed_at_s: float | None = None
    refreshes: dict[str, int] = field(default_factory=lambda: {"ok": 0, "error": 0})


@dataclass(slots=True)
class Latency:
    """A histogram. counts: per bucket of LATENCY_BUCKETS_MS, the last for what is above all of them."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_MS) + 1))
    sum_ms: int = 0

    def observe(self, ms: int) -> None:
        self.counts[bisect_left(LATENCY_BUCKETS_MS, ms)] += 1
        self.sum_ms += ms


class ControlMetrics:
    """Control-plane calls, by service: attempts, ends, time to the first message, and those in progress."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.requests: dict[str, int] = {}
        self.responses: dict[tuple[str, str, GrpcStatus], int] = {}
        self.latencies: dict[tuple[str, str], Latency] = {}
        self.open_streams: dict[str, int] = {}

    def started(self, service: ControlService) -> "ControlCall":
        """One more call. End it."""
        labels = service_labels(service)
        self.requests[labels] = self.requests.get(labels, 0) + 1
        self.open_streams[labels] = self.open_streams.get(labels, 0) + 1
        return ControlCall(self, labels, self._clock)


class ControlCall:
    """A call in progress."""

    def __init__(self, metrics: ControlMetrics, labels: str, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._labels = labels
        self._clock = clock
        self._started_at = clock()
        self._is_answered = False

    def answered(self) -> None:
        """A message came. The first one counts as the response's beginning."""
        if not self._is_answered:
            self._is_answered = True
            key = self._labels, "200"
            ms = int((self._clock() - self._started_at) * 1000)
            self._metrics.latencies.setdefault(key, Latency()).observe(ms)

    def ended(self, status: GrpcStatus) -> None:
        """status: name and number. A service that was not reached gave no HTTP status either."""
        is_http = self._is_answered or status[0] not in MADE_HERE
        key = self._labels, "200" if is_http else "", status
        self._metrics.responses[key] = self._metrics.responses.get(key, 0) + 1
        self._metrics.open_streams[self._labels] -= 1


@dataclass(slots=True)
class SpanMetrics:
    """streams: connections to the collector. dropped: spans that found the buffer full, or that nobody took."""

    streams: int = 0
    requests: int = 0
    exports: int = 0
    dropped: int = 0


def exposition(identity: IdentityMetrics, control: ControlMetrics, spans: SpanMetrics | None = None) -> bytes:
    """Families without series are left out; those of spans, without an exporter. Ends in a newline unless empty."""
    out: list[str] = []
    if spans is not None:
        for name, help_, value in (
            ("opentelemetry_span_export_streams", "Connections to the trace collector.", spans.streams),
            ("opentelemetry_span_export_requests", "Batches of spans sent.", spans.requests),
            ("opentelemetry_span_exports", "Spans sent.", spans.exports),
            ("weft_spans_dropped_total", "Spans lost to a full buffer or a refusal.", spans.dropped),
        ):
            _family(out, name, "counter", help_, [("", value)])
    _family(
        out,
        "control_request_total",
        "counter",
        "Total count of control-plane requests.",
        [(_braced(labels), n) for labels, n in control.requests.items()],
    )
    _family(
        out,
        "control_response_total",
        "counter",
        "Total count of control-plane responses.",
        [(_braced(_response_labels(*key)), n) for key, n in control.responses.items()],
    )
    _latencies(out, control.latencies)
    _family(
        out,
        "weft_control_streams_open",
        "gauge",
        "Control-plane calls in progress.",
        [(_braced(labels), n) for labels, n in control.open_streams.items()],
    )
    if identity.not_after_s is not None:
        name, help_ = "control_identity_cert_expiration_timestamp_seconds", "When this proxy's certificate expires."
        _family(out, name, "gauge", help_, [("", identity.not_after_s)])
    if identity.refreshed_at_s is not None:
        name, help_ = "control_identity_cert_refresh_timestamp_seconds", "When the certificate was last refreshed."
        _family(out, name, "gauge", help_, [("", identity.refreshed_at_s)])
    _family(
        out,
        "control_identity_cert_refreshes_total",
        "counter",
        "Certificate refreshes by result.",
        [(_braced(_labels(result=r)), n) for r, n in identity.refreshes.items()],
    )
    return "".join(out).encode()


def _family(out: list[str], name: str, kind: str, help_: str, samples: list[tuple[str, float]]) -> None:
    if not samples:
        return
    out.append(f"# HELP {name} {help_}\n# TYPE {name} {kind}\n")
    out.extend(f"{name}{labels} {value}\n" for labels, value in samples)


def _latencies(out: list[str], latencies: dict[tuple[str, str], Latency]) -> None:
    name = "control_response_latency_ms"
    if latencies:
        out.append(f"# HELP {name} Time to the first message of a response.\n# TYPE {name} histogram\n")
    for (service, status_code), latency in latencies.items():
        labels = f"{service},{_labels(status_code=status_code)}"
        total = 0
        for bound, count in zip((*LATENCY_BUCKETS_MS, "+Inf"), latency.counts, strict=True):
            total += count
            out.append(f'{name}_bucket{{{labels},le="{bound}"}} {total}\n')
        out.append(f"{name}_count{{{labels}}} {total}\n{name}_sum{{{labels}}} {latency.sum_ms}\n")


def service_labels(service: ControlService) -> str:
    """Address and TLS of a control-plane service, without braces."""
    if service.server_name:
        return _labels(addr=service.address.text, tls="true", server_id=service.server_name)
    return _labels(addr=service.address.text, tls="no_identity", no_tls_reason="loopback")


def _response_labels(service: str, status_code: str, status: GrpcStatus) -> str:
    number = status[1]
    classification = "failure" if number in FAILURES else "success"
    seen = _labels(status_code=status_code) + "," if status_code else ""
    return f"{service},{seen}{_labels(classification=classification, grpc_status=str(number), error='')}"


def _braced(labels: str) -> str:
    return "{" + labels + "}"


def _labels(**labels: str) -> str:
    return ",".join(f'{k}="{v.translate(_LABEL_ESCAPES)}"' for k, v in labels.items())
