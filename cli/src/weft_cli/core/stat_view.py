"""`weft stat`: rows of the metrics API to a table or JSON (observability.md 5.5). Values in, text out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from weft_cli.core.resources import KINDS
from weft_cli.core.tables import UNKNOWN, Table, bytes_per_second, milliseconds, percent, rps


class Measured(Enum):
    """What the numbers of a line are of."""

    SERVED = "inbound"
    SENT = "outbound"
    EXCHANGED = "exchanges"

    @property
    def sign(self) -> str:
        """Set after the name; empty for what needs no explanation."""
        return {Measured.SERVED: "", Measured.SENT: "→", Measured.EXCHANGED: "⇄"}[self]


_NOTES: Final = {
    Measured.SENT: "served no request; the numbers are those of the requests it sent",
    Measured.EXCHANGED: "opaque bytes; the numbers are those of bursts and the answers to them",
}


def notes(lines: Sequence[StatLine]) -> list[str]:
    """What the signs in these lines mean."""
    shown = {line.measured for line in lines}
    return [f"{measured.sign} {text}" for measured, text in _NOTES.items() if measured in shown]


@dataclass(frozen=True, slots=True)
class StatLine:
    """One row. Request fields are None without requests, TCP fields without a connection or byte in the window.

    measured: what the request fields are of; None without any.
    """

    namespace: str
    kind: str
    name: str
    meshed_pods: int
    running_pods: int
    success_rate: float | None = None
    rps: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    open_connections: int | None = None
    read_bytes_per_s: float | None = None
    write_bytes_per_s: float | None = None
    measured: Measured | None = None

    @property
    def meshed(self) -> str:
        """`meshed/running`; a service has no pods of its own."""
        return UNKNOWN if self.kind == "service" else f"{self.meshed_pods}/{self.running_pods}"

    @property
    def is_worth_a_line(self) -> bool:
        """Whether it is shown without --unmeshed: it has a proxy, or is a service."""
        return self.meshed_pods > 0 or self.kind == "service"


@dataclass(frozen=True, slots=True)
class StatShape:
    """Which columns there are. prefixed: names carry their short type, because several types are shown."""

    with_namespace: bool
    wide: bool = False
    prefixed: bool = False


def stat_table(lines: Sequence[StatLine], shape: StatShape) -> Table:
    """Lines in the order given, as a table."""
    header = ["NAMESPACE"] if shape.with_namespace else []
    header += ["NAME", "MESHED", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "TCP_CONN"]
    header += ["READ_BYTES/SEC", "WRITE_BYTES/SEC"] if shape.wide else []
    return Table(tuple(header), tuple(_cells(line, shape) for line in lines), left=2 if shape.with_namespace else 1)


def _cells(line: StatLine, shape: StatShape) -> tuple[str, ...]:
    name = f"{KINDS[line.kind][0]}/{line.name}" if shape.prefixed else line.name
    if line.measured and line.measured.sign:
        name = f"{name} {line.measured.sign}"
    cells = [line.namespace] if shape.with_namespace else []
    cells += [
        name,
        line.meshed,
        percent(line.success_rate),
        rps(line.rps),
        milliseconds(line.p50_ms),
        milliseconds(line.p95_ms),
        milliseconds(line.p99_ms),
        UNKNOWN if line.open_connections is None else str(line.open_connections),
    ]
    if shape.wide:
        cells += [bytes_per_second(line.read_bytes_per_s), bytes_per_second(line.write_bytes_per_s)]
    return tuple(cells)


def stat_json(lines: Sequence[StatLine]) -> str:
    """An array, one object a line; null where a number is unknown. `success` is Linkerd's name of `success_rate`."""
    return json.dumps([_object(line) for line in lines], indent=2)


def _object(line: StatLine) -> dict[str, object]:
    found: dict[str, object] = {
        "namespace": line.namespace,
        "kind": line.kind,
        "name": line.name,
        "meshed": line.meshed,
        "success_rate": line.success_rate,
        "success": line.success_rate,
        "rps": line.rps,
        "latency_ms_p50": line.p50_ms,
        "latency_ms_p95": line.p95_ms,
        "latency_ms_p99": line.p99_ms,
        "direction": line.measured.value if line.measured else None,
    }
    if line.open_connections is not None:
        found["tcp_open_connections"] = line.open_connections
        found["tcp_read_bytes_rate"] = line.read_bytes_per_s
        found["tcp_write_bytes_rate"] = line.write_bytes_per_s
    return found
