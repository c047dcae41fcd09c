"""Who talks to whom (observability.md 3.5), and whether mutual TLS secures it.

Meshed clients are seen from their own proxies. A client without a proxy is seen only by the server's, which tells that
no TLS came and, where it says so, from which address. An edge is secured only when every active series of it is: a
reason nobody has heard of counts as a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from weft_metrics_api.core.ends import destination_of, destination_workload
from weft_metrics_api.core.pods import Directory, Pod, PodKey
from weft_metrics_api.core.resources import EDGE_KINDS, UNMESHED_CLIENT, ResourceId
from weft_metrics_api.core.series import Direction, Family
from weft_metrics_api.core.stat import BadQuery, Selector
from weft_metrics_api.core.traffic import Observation, Requests, Tcp, Traffic, observations
from weft_metrics_api.core.window import Window


@dataclass(frozen=True, slots=True)
class Edge:
    """client_id, server_id: mesh identities, empty where a side has none. no_tls_reason: empty when secured."""

    src: ResourceId
    dst: ResourceId
    client_id: str
    server_id: str
    secured: bool
    no_tls_reason: str
    http: Requests | None
    tcp: Tcp | None
    exchanges: Requests | None = None


@dataclass(slots=True)
class _Draft:
    client_ids: set[str] = field(default_factory=set)
    server_ids: set[str] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)
    traffic: Traffic = field(default_factory=Traffic)


def edges(directory: Directory, window: Window, selector: Selector, window_s: float) -> list[Edge]:
    """Edges with an end of the asked kind in the asked namespace, sorted by their ends. Raises BadQuery.

    An end that the asked kind does not own is shown as its own workload: a Deployment calling a StatefulSet is an edge
    of both kinds.
    """
    if selector.kind not in EDGE_KINDS:
        raise BadQuery(f"selector: no edges for kind {selector.kind!r}; expected one of {', '.join(EDGE_KINDS)}")
    span = window.span(window_s)
    pods_by_ip = directory.by_ip()
    drafts: dict[tuple[ResourceId, ResourceId], _Draft] = {}
    for observation in observations(window, span, Direction.OUTBOUND, pods_by_ip):
        src = directory.resource_of(observation.pod, selector.kind) or directory.workload_of(observation.pod)
        dst = destination_of(observation.series, selector.kind, directory, pods_by_ip) or destination_workload(
            observation.series, directory, pods_by_ip
        )
        if dst is not None:
            draft = drafts.setdefault((src, dst), _Draft())
            draft.client_ids.add(observation.pod.identity)
            _note(draft, observation)
            if observation.series.secured:
                draft.server_ids.add(observation.series.peer_id)
    inbound = list(observations(window, span, Direction.INBOUND, pods_by_ip))
    clients = _unmeshed_clients(inbound)
    for observation in inbound:
        if _is_from_outside_the_mesh(observation):
            # Of several clients nobody can say whose the nameless numbers are.
            known = clients.get(observation.pod.key, {observation.series.client_ip})
            client_ip = observation.series.client_ip or (next(iter(known)) if len(known) == 1 else None)
            if client_ip is None:
                continue
            src = _client(client_ip, selector.kind, directory, pods_by_ip)
            dst = directory.resource_of(observation.pod, selector.kind) or directory.workload_of(observation.pod)
            draft = drafts.setdefault((src, dst), _Draft())
            draft.server_ids.add(observation.pod.identity)
            _note(draft, observation)
    return [
        _edge(src, dst, draft, span.covered_s)
        for (src, dst), draft in sorted(drafts.items())
        if _admits(selector, src) or _admits(selector, dst)
    ]


def _note(draft: _Draft, observation: Observation) -> None:
    if not observation.series.secured:
        draft.reasons.add(observation.series.no_tls_reason)
    draft.traffic.add(observation.series.family, observation.series, observation.amount)


def _is_from_outside_the_mesh(observation: Observation) -> bool:
    """Inbound traffic whose client has no proxy.

    Bytes and passing connections are not enough: the kubelet's probes open such connections too, and only at the HTTP
    level can they be told apart.
    """
    series = observation.series
    if series.family is Family.UNMESHED:
        return series.client_ip != observation.pod.host_ip
    if series.secured or series.no_tls_reason == "loopback":
        return False
    if series.family is Family.OPEN_CONNECTIONS:
        return observation.lasting > 0
    return series.family in (Family.RESPONSES, Family.LATENCY_BUCKET)


def _unmeshed_clients(inbound: Iterable[Observation]) -> dict[PodKey, set[str]]:
    """Addresses of clients without a proxy, by the pod they called. Only Weft's proxies tell."""
    clients: dict[PodKey, set[str]] = {}
    for observation in inbound:
        if observation.series.family is Family.UNMESHED:
            known = clients.setdefault(observation.pod.key, set())
            # The node's address is the kubelet looking in.
            if observation.series.client_ip != observation.pod.host_ip:
                known.add(observation.series.client_ip)
    return clients


def _client(ip: str, kind: str, directory: Directory, pods_by_ip: Mapping[str, Pod]) -> ResourceId:
    pod = pods_by_ip.get(ip) if ip else None
    if pod is not None:
        return directory.resource_of(pod, kind) or directory.workload_of(pod)
    return ResourceId("", UNMESHED_CLIENT.kind, ip) if ip else UNMESHED_CLIENT


def _admits(selector: Selector, end: ResourceId) -> bool:
    return end.kind == selector.kind and selector.admits(end)


def _edge(src: ResourceId, dst: ResourceId, draft: _Draft, covered_s: float) -> Edge:
    return Edge(
        src=src,
        dst=dst,
        client_id=_only(draft.client_ids),
        server_id=_only(draft.server_ids),
        secured=not draft.reasons,
        no_tls_reason=", ".join(sorted(draft.reasons)),
        http=draft.traffic.http(covered_s),
        tcp=draft.traffic.tcp(covered_s),
        exchanges=draft.traffic.exchanges(covered_s),
    )


def _only(identities: set[str]) -> str:
    """Several only while a workload changes its ServiceAccount; then the first in order, so that answers are stable."""
    return min((identity for identity in identities if identity), default="")
