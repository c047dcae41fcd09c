"""Metric families of the Python side, as exposition text (observability.md 1.10)."""

from dataclasses import dataclass, field

_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(slots=True)
class IdentityMetrics:
    """Unix seconds; None before the first certificate."""

    not_after_s: float | None = None
    refreshed_at_s: float | None = None
    refreshes: dict[str, int] = field(default_factory=lambda: {"ok": 0, "error": 0})


@dataclass(slots=True)
class ControlMetrics:
    """Control-plane calls: attempts by service address, ends by address and gRPC status name."""

    requests: dict[str, int] = field(default_factory=dict)
    responses: dict[tuple[str, str], int] = field(default_factory=dict)
    open_streams: dict[str, int] = field(default_factory=dict)

    def started(self, address: str) -> None:
        self.requests[address] = self.requests.get(address, 0) + 1
        self.open_streams[address] = self.open_streams.get(address, 0) + 1

    def ended(self, address: str, grpc_status: str) -> None:
        key = (address, grpc_status)
        self.responses[key] = self.responses.get(key, 0) + 1
        self.open_streams[address] -= 1


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
        [(_labels(addr=a), n) for a, n in control.requests.items()],
    )
    _family(
        out,
        "control_response_total",
        "counter",
        "Total count of control-plane responses.",
        [
            (_labels(addr=a, classification="success" if s == "OK" else "failure", grpc_status=s), n)
            for (a, s), n in control.responses.items()
        ],
    )
    _family(
        out,
        "weft_control_streams_open",
        "gauge",
        "Control-plane calls in progress.",
        [(_labels(addr=a), n) for a, n in control.open_streams.items()],
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
        [(_labels(result=r), n) for r, n in identity.refreshes.items()],
    )
    return "".join(out).encode()


def _family(out: list[str], name: str, kind: str, help_: str, samples: list[tuple[str, float]]) -> None:
    if not samples:
        return
    out.append(f"# HELP {name} {help_}\n# TYPE {name} {kind}\n")
    out.extend(f"{name}{labels} {value}\n" for labels, value in samples)


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{k}="{v.translate(_LABEL_ESCAPES)}"' for k, v in labels.items()) + "}"
