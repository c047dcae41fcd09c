"""One row per object of a kind: pods, requests, latency, connections (observability.md 3.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from weft_metrics_api.core.ends import destination_of
from weft_metrics_api.core.pods import Directory, Phase
from weft_metrics_api.core.resources import STAT_KINDS, ResourceId
from weft_metrics_api.core.series import Direction
from weft_metrics_api.core.traffic import Observation, Requests, Tcp, Traffic, observations
from weft_metrics_api.core.window import Window


class BadQuery(ValueError):
    """A question that has no answer; the text says which part and what is possible."""


@dataclass(frozen=True, slots=True)
class Selector:
    """kind: one of STAT_KINDS. Empty namespace: all. Empty name: every object of the kind."""

    kind: str
    namespace: str = ""
    name: str = ""

    def admits(self, resource: ResourceId) -> bool:
        """Whether a resource is meant. A namespace is named by its own name only."""
        if resource.kind != self.kind or (self.name and resource.name != self.name):
            return False
        return self.kind == "namespace" or not self.namespace or resource.namespace == self.namespace


@dataclass(frozen=True, slots=True)
class StatQuery:
    """At most one of to and from_."""

    selector: Selector
    window_s: float
    to: Selector | None = None
    from_: Selector | None = None


@dataclass(frozen=True, slots=True)
class StatRow:
    """running_pods: pending or running, not terminating. meshed_pods: those of them with a proxy.

    http: requests served. sent: requests made to others, only in answers without to and from_. exchanges: bursts of
    opaque bytes and the answers to them.
    """

    resource: ResourceId
    meshed_pods: int
    running_pods: int
    failed_pods: int
    http: Requests | None
    tcp: Tcp | None
    sent: Requests | None = None
    exchanges: Requests | None = None


@dataclass(slots=True)
class _PodCount:
    meshed: int = 0
    running: int = 0
    failed: int = 0


def stat_rows(directory: Directory, window: Window, query: StatQuery) -> tuple[list[StatRow], float]:
    """Rows sorted by namespace and name, and the seconds their numbers cover. Raises BadQuery.

    Without to and from_, every known object has a row; with one of them, every object that had any traffic there.
    """
    _refuse_impossible(query)
    span = window.span(query.window_s)
    counts = _pod_counts(directory, query.selector)
    traffic = _sums(_attributed(directory, window, query), query.selector)
    is_directed = query.to is not None or query.from_ is not None
    sent = {} if is_directed else _sums(_sent(directory, window, query), query.selector)
    wanted = traffic.keys() if is_directed else counts.keys()
    nobody, nothing = _PodCount(), Traffic()
    return [
        _row(
            resource,
            counts.get(resource, nobody),
            traffic.get(resource, nothing),
            sent.get(resource, nothing),
            span.covered_s,
        )
        for resource in sorted(wanted)
    ], span.covered_s


def _sums(attributed: Iterator[tuple[ResourceId, Observation]], selector: Selector) -> dict[ResourceId, Traffic]:
    sums: dict[ResourceId, Traffic] = {}
    for resource, observation in attributed:
        if selector.admits(resource):
            accumulator = sums.setdefault(resource, Traffic())
            accumulator.add(observation.series.family, observation.series, observation.amount)
    return sums


def _refuse_impossible(query: StatQuery) -> None:
    for part, selector in (("selector", query.selector), ("to", query.to), ("from", query.from_)):
        if selector is not None and selector.kind not in STAT_KINDS:
            raise BadQuery(f"{part}: no statistics for kind {selector.kind!r}; expected one of {', '.join(STAT_KINDS)}")
    if query.to and query.from_:
        raise BadQuery("to and from exclude each other; ask twice")
    if query.from_ and query.from_.kind == "service":
        raise BadQuery("from: a service sends nothing; name the workload")
    if query.to and query.selector.kind == "service":
        raise BadQuery("to: a service sends nothing; name the workload as the selector")


def _attributed(directory: Directory, window: Window, query: StatQuery) -> Iterator[tuple[ResourceId, Observation]]:
    """Observations that the query is about, each with the row it counts for."""
    span = window.span(query.window_s)
    pods_by_ip = directory.by_ip()
    kind = query.selector.kind
    if query.to is None and query.from_ is None and kind != "service":
        for observation in observations(window, span, Direction.INBOUND, pods_by_ip):
            if resource := directory.resource_of(observation.pod, kind):
                yield resource, observation
        return
    for observation in observations(window, span, Direction.OUTBOUND, pods_by_ip):
        source = query.selector if query.to else query.from_
        sender = directory.resource_of(observation.pod, source.kind) if source else None
        if source is not None and (sender is None or not source.admits(sender)):
            continue
        receiver = destination_of(observation.series, query.to.kind if query.to else kind, directory, pods_by_ip)
        if receiver is None or (query.to is not None and not query.to.admits(receiver)):
            continue
        resource = sender if query.to else receiver
        if resource is not None:
            yield resource, observation


def _sent(directory: Directory, window: Window, query: StatQuery) -> Iterator[tuple[ResourceId, Observation]]:
    """What the pods of a resource sent to others."""
    span = window.span(query.window_s)
    for observation in observations(window, span, Direction.OUTBOUND, directory.by_ip()):
        if resource := directory.resource_of(observation.pod, query.selector.kind):
            yield resource, observation


def _pod_counts(directory: Directory, selector: Selector) -> dict[ResourceId, _PodCount]:
    counts: dict[ResourceId, _PodCount] = {}
    for key in directory.known.get(selector.kind, ()):
        namespace = "" if selector.kind == "namespace" else key.namespace
        counts[ResourceId(namespace, selector.kind, key.name)] = _PodCount()
    for pod in directory.pods.values():
        resource = directory.resource_of(pod, selector.kind)
        if resource is None:
            continue
        count = counts.setdefault(resource, _PodCount())
        if pod.phase is Phase.ACTIVE:
            count.running += 1
            count.meshed += pod.is_meshed
        elif pod.phase is Phase.FAILED:
            count.failed += 1
    return {resource: count for resource, count in counts.items() if selector.admits(resource)}


def _row(resource: ResourceId, pods: _PodCount, traffic: Traffic, sent: Traffic, covered_s: float) -> StatRow:
    return StatRow(
        resource=resource,
        meshed_pods=pods.meshed,
        running_pods=pods.running,
        failed_pods=pods.failed,
        http=traffic.http(covered_s),
        tcp=traffic.tcp(covered_s),
        sent=sent.http(covered_s),
        exchanges=traffic.exchanges(covered_s),
    )
