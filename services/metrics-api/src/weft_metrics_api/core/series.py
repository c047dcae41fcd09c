"""What one time series of a proxy says, in typed fields; the families that are not needed become None.

Label names are those of observability.md 1.2, 1.4 and 1.7; the exchange families are Weft's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from weft_metrics_api.core.exposition import parse_key
from weft_metrics_api.core.resources import WORKLOAD_KINDS, ResourceId

_E = TypeVar("_E", bound=Enum)


class Family(Enum):
    """The families rows and edges are made of."""

    RESPONSES = "response_total"
    LATENCY_BUCKET = "response_latency_ms_bucket"
    OPEN_CONNECTIONS = "tcp_open_connections"
    READ_BYTES = "tcp_read_bytes_total"
    WRITE_BYTES = "tcp_write_bytes_total"
    UNMESHED = "weft_inbound_unmeshed_total"
    EXCHANGES = "weft_tcp_exchanges_total"
    EXCHANGE_LATENCY_BUCKET = "weft_tcp_exchange_latency_ms_bucket"
    PROCESS_START = "process_start_time_seconds"

    @property
    def is_counter(self) -> bool:
        """Whether increases, and not the value, carry the meaning."""
        return self not in (Family.OPEN_CONNECTIONS, Family.PROCESS_START)


_FAMILIES: Final = {family.value: family for family in Family}


class Direction(Enum):
    """Which side of the pod the proxy saw it on."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    NONE = ""


class Peer(Enum):
    """For transport families: the accepted socket (src) or the dialled one (dst)."""

    SRC = "src"
    DST = "dst"
    NONE = ""


@dataclass(frozen=True, slots=True)
class Destination:
    """Who an outbound series goes to, from its dst_ labels. Every field may be empty.

    workload: the owner of the endpoint's pod, None when the labels name none.
    """

    namespace: str = ""
    service: str = ""
    pod: str = ""
    workload: ResourceId | None = None


NO_DESTINATION: Final = Destination()


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series. success: of RESPONSES and EXCHANGES. le: upper bound of a bucket, ms.

    is_probe: answered by a probe route.

    peer_id: the other side's mesh identity. secured: mutual TLS with a verified peer. no_tls_reason: why not.
    client_ip: only where a proxy says it; Linkerd's never does.
    """

    family: Family
    direction: Direction
    peer: Peer
    target_ip: str
    target_port: int
    destination: Destination
    secured: bool
    peer_id: str
    no_tls_reason: str
    client_ip: str
    success: bool
    le: float
    is_probe: bool


def series_from_key(key: str) -> Series | None:
    """The series of an exposition key; None when its family is of no interest. Raises BadExposition."""
    if key.partition("{")[0] not in _FAMILIES:
        return None
    name, labels = parse_key(key)
    family = _FAMILIES[name]
    return Series(
        family=family,
        direction=_member(Direction, labels.get("direction", ""), Direction.NONE),
        peer=_member(Peer, labels.get("peer", ""), Peer.NONE),
        target_ip=labels.get("target_ip", ""),
        target_port=_integer(labels.get("target_port", "")),
        destination=_destination(labels),
        secured=labels.get("tls") == "true",
        peer_id=labels.get("server_id") or labels.get("client_id") or "",
        no_tls_reason=_no_tls_reason(labels),
        client_ip=labels.get("client_ip", ""),
        success=labels.get("classification") == "success" or labels.get("result") == "answered",
        le=_bound(labels.get("le", "")),
        is_probe=_is_builtin(labels, "route", "probe") or _is_builtin(labels, "authz", "probe"),
    )


def _is_builtin(labels: Mapping[str, str], prefix: str, name: str) -> bool:
    """Whether a policy object is the built-in one of that name, and no resource that happens to be called so."""
    return labels.get(f"{prefix}_kind") == "default" and labels.get(f"{prefix}_name") == name


def _no_tls_reason(labels: Mapping[str, str]) -> str:
    """Empty only when the series is secured, so that a reason nobody has heard of can never pass for security."""
    tls = labels.get("tls", "")
    if tls == "true":
        return ""
    return labels.get("no_tls_reason") or {"disabled": "disabled", "opaque": "tls_passed_through"}.get(tls, "unknown")


def _destination(labels: Mapping[str, str]) -> Destination:
    namespace = labels.get("dst_namespace", "")
    if not namespace:
        return NO_DESTINATION
    workload = None
    for kind in WORKLOAD_KINDS:
        # A Job's label is dst_k8s_job, because "job" means something else to Prometheus.
        if name := labels.get("dst_k8s_job" if kind == "job" else f"dst_{kind}"):
            workload = ResourceId(namespace, kind, name)
            break
    return Destination(namespace, labels.get("dst_service", ""), labels.get("dst_pod", ""), workload)


def _member(enum: type[_E], value: str, default: _E) -> _E:
    try:
        return enum(value)
    except ValueError:
        return default


def _integer(value: str) -> int:
    return int(value) if value.isascii() and value.isdigit() else 0


def _bound(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
