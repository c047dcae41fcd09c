"""What the overview page shows, as values. Built from weft.metrics.v1 answers; knows nothing of HTML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from weft_proto.weft import metrics_pb2

# Linkerd's dashboard draws the lines at the same shares (observability.md 6.2).
GOOD_SUCCESS_RATE = 0.95
FAIR_SUCCESS_RATE = 0.90


class WorkloadId(NamedTuple):
    """Namespace, lower-case kind, name."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.kind}/{self.name}"


class Health(Enum):
    """How a workload or an edge does, from its success rate."""

    GOOD = "good"
    FAIR = "fair"
    BAD = "bad"
    # No request in the window, or traffic the mesh carries as bytes.
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Golden:
    """Golden metrics. success_rate: 0 to 1; rps: requests per second; latencies: milliseconds, None without samples."""

    success_rate: float
    rps: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @property
    def health(self) -> Health:
        """Good from 95 %, fair from 90 %, else bad."""
        if self.success_rate >= GOOD_SUCCESS_RATE:
            return Health.GOOD
        return Health.FAIR if self.success_rate >= FAIR_SUCCESS_RATE else Health.BAD


@dataclass(frozen=True, slots=True)
class Workload:
    """One node of the topology. golden: of what it served, or exchanged as opaque bytes; None without any.

    sends_only: it served nothing, and golden is of the requests it sent. bytes_per_s: both directions of its TCP.
    """

    id: WorkloadId
    meshed_pods: int
    running_pods: int
    golden: Golden | None
    bytes_per_s: float = 0.0
    sends_only: bool = False

    @property
    def is_meshed(self) -> bool:
        """Whether any pod has a proxy."""
        return self.meshed_pods > 0

    @property
    def health(self) -> Health:
        return self.golden.health if self.golden else Health.QUIET


@dataclass(frozen=True, slots=True)
class Link:
    """One edge: who calls whom. reason: why it is not secured, empty when it is."""

    src: WorkloadId
    dst: WorkloadId
    secured: bool
    reason: str
    client_id: str
    server_id: str
    golden: Golden | None

    @property
    def health(self) -> Health:
        return self.golden.health if self.golden else Health.QUIET


@dataclass(frozen=True, slots=True)
class Overview:
    """A moment of the mesh. workloads and links are sorted by their ids; every end of a link is among the workloads."""

    workloads: tuple[Workload, ...]
    links: tuple[Link, ...]
    covered_s: float = 0.0

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Sorted, without duplicates."""
        return tuple(sorted({workload.id.namespace for workload in self.workloads}))

    def within(self, namespaces: Iterable[str]) -> Overview:
        """The part in these namespaces, with whoever talks to it from outside."""
        wanted = set(namespaces)
        links = tuple(link for link in self.links if link.src.namespace in wanted or link.dst.namespace in wanted)
        ends = {end for link in links for end in (link.src, link.dst)}
        kept = tuple(w for w in self.workloads if w.id.namespace in wanted or w.id in ends)
        return Overview(kept, links, self.covered_s)


EMPTY = Overview((), ())


def overview_from_answers(
    stats: Iterable[metrics_pb2.StatSummaryResponse], edges: Iterable[metrics_pb2.EdgesResponse]
) -> Overview:
    """One overview from any number of stat and edge answers, a kind each."""
    workloads: dict[WorkloadId, Workload] = {}
    covered: list[float] = []
    for answer in stats:
        covered.append(answer.covered_s)
        for row in answer.rows:
            workload = _workload(row)
            workloads[workload.id] = workload
    links: dict[tuple[WorkloadId, WorkloadId], Link] = {}
    for edge_answer in edges:
        for edge in edge_answer.edges:
            link = _link(edge)
            links[link.src, link.dst] = link
            for end in (link.src, link.dst):
                # A client outside the mesh has an edge and no row of its own.
                workloads.setdefault(end, Workload(end, 0, 0, None))
    return Overview(
        tuple(sorted(workloads.values(), key=lambda workload: workload.id)),
        tuple(sorted(links.values(), key=lambda link: (link.src, link.dst))),
        max(covered, default=0.0),
    )


def _id(resource: metrics_pb2.Resource) -> WorkloadId:
    return WorkloadId(resource.namespace, resource.kind, resource.name)


def _golden(measured: metrics_pb2.StatRow | metrics_pb2.Edge) -> Golden | None:
    """Of requests; of exchanges where the bytes are opaque."""
    if measured.HasField("http"):
        return _numbers(measured.http)
    return _numbers(measured.exchanges) if measured.HasField("exchanges") else None


def _numbers(stats: metrics_pb2.HttpStats) -> Golden:
    return Golden(
        success_rate=stats.success_rate,
        rps=stats.rps,
        p50_ms=stats.latency_ms_p50 if stats.HasField("latency_ms_p50") else None,
        p95_ms=stats.latency_ms_p95 if stats.HasField("latency_ms_p95") else None,
        p99_ms=stats.latency_ms_p99 if stats.HasField("latency_ms_p99") else None,
    )


def _workload(row: metrics_pb2.StatRow) -> Workload:
    return Workload(
        id=_id(row.resource),
        meshed_pods=row.meshed_pods,
        running_pods=row.running_pods,
        golden=_golden(row) or (_numbers(row.sent) if row.HasField("sent") else None),
        bytes_per_s=row.tcp.read_bytes_per_s + row.tcp.write_bytes_per_s,
        sends_only=_golden(row) is None and row.HasField("sent"),
    )


def _link(edge: metrics_pb2.Edge) -> Link:
    return Link(
        src=_id(edge.src),
        dst=_id(edge.dst),
        secured=edge.secured,
        reason="" if edge.secured else edge.no_tls_reason or "no identity",
        client_id=edge.client_id,
        server_id=edge.server_id,
        golden=_golden(edge),
    )
