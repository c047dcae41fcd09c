"""What the proxy's metrics may look like: names, types, labels and buckets as Linkerd's proxy has them.

Source: observability contract, sections 1.2 to 1.10. A label set is given as what must be there and what may be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TARGET: Final = frozenset({"target_addr", "target_ip", "target_port"})
SRV: Final = frozenset({"srv_group", "srv_kind", "srv_name", "srv_port"})
ROUTE_IN: Final = frozenset({"route_group", "route_kind", "route_name"})
AUTHZ: Final = frozenset({"authz_group", "authz_kind", "authz_name"})
PARENT_IN: Final = frozenset({"parent_group", "parent_kind", "parent_name", "parent_port"}) | ROUTE_IN
PARENT: Final = frozenset(f"parent_{part}" for part in ("group", "kind", "namespace", "name", "port", "section_name"))
ROUTE: Final = ROUTE_IN | {"route_namespace"}
BACKEND: Final = frozenset(f"backend_{part}" for part in ("group", "kind", "namespace", "name", "port", "section_name"))
TLS: Final = frozenset({"tls"})
MAY_TLS_IN: Final = frozenset({"client_id", "sni", "no_tls_reason"})
MAY_TLS_OUT: Final = frozenset({"server_id", "no_tls_reason"})
RESPONSE: Final = frozenset({"classification", "grpc_status", "error"})

LATENCY_MS: Final = tuple(float(digit * scale) for scale in (1, 10, 100, 1000, 10000) for digit in (1, 2, 3, 4, 5))
FRAMES: Final = (128.0, 1024.0, 10240.0)
FOUR: Final = (0.05, 0.5, 1.0, 10.0)
SEVEN: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0)
QUEUE: Final = (0.0005, 0.005, 0.05, 0.5, 1.0, 3.0)


@dataclass(frozen=True, slots=True)
class Family:
    """must and may: names of labels. prefix: labels beginning so may be there too. buckets: of a histogram."""

    type: str
    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    prefix: str | None = None
    buckets: tuple[float, ...] = ()

    def admits(self, labels: frozenset[str]) -> bool:
        """Whether a series may have these labels."""
        rest = labels - self.must - self.may
        return self.must <= labels and all(self.prefix is not None and name.startswith(self.prefix) for name in rest)


_IN = Family("counter", TARGET | TLS | SRV | ROUTE_IN | AUTHZ | {"direction"}, MAY_TLS_IN | {"authority"})
_OUT = Family("counter", TARGET | TLS | {"direction"}, MAY_TLS_OUT | {"authority"}, prefix="dst_")


def _response(of: Family) -> Family:
    return Family("counter", of.must | RESPONSE, of.may | {"status_code"}, of.prefix)


def _latency(of: Family) -> Family:
    return Family("histogram", of.must, of.may | {"status_code"}, of.prefix, LATENCY_MS)


# Families whose labels depend on the direction, which is a label.
BY_DIRECTION: Final = {
    "request": {"inbound": _IN, "outbound": _OUT},
    "response": {"inbound": _response(_IN), "outbound": _response(_OUT)},
    "response_latency_ms": {"inbound": _latency(_IN), "outbound": _latency(_OUT)},
}
# And on the side of the proxy, (direction, peer).
_SIDES: Final = {
    ("inbound", "src"): Family("", TARGET | TLS | SRV, MAY_TLS_IN),
    ("inbound", "dst"): Family("", TLS | {"no_tls_reason"}),
    ("outbound", "src"): Family("", TARGET | TLS | {"no_tls_reason"}),
    ("outbound", "dst"): Family("", TARGET | TLS, MAY_TLS_OUT | {"authority"}, prefix="dst_"),
}


def transport(kind: str, extra: frozenset[str] = frozenset()) -> dict[tuple[str, str], Family]:
    """A family of sockets by direction and peer."""
    both = frozenset({"direction", "peer"}) | extra
    return {side: Family(kind, of.must | both, of.may, of.prefix) for side, of in _SIDES.items()}


TRANSPORT: Final = {
    "tcp_open": transport("counter"),
    "tcp_open_connections": transport("gauge"),
    "tcp_read_bytes": transport("counter"),
    "tcp_write_bytes": transport("counter"),
    "tcp_close": transport("counter", frozenset({"errno"})),
}


def _x(kind: str) -> dict[str, Family]:
    inbound, route, backend = f"inbound_{kind}", f"outbound_{kind}_route", f"outbound_{kind}_route_backend"
    host = PARENT | ROUTE | {"hostname"}
    status = frozenset({f"{kind}_status", "error"})
    where = PARENT | ROUTE | BACKEND
    return {
        f"{inbound}_requests": Family("counter", PARENT_IN),
        f"{inbound}_request_frame_size_bytes": Family("histogram", PARENT_IN, buckets=FRAMES),
        f"{inbound}_response_frame_size_bytes": Family("histogram", PARENT_IN, buckets=FRAMES),
        f"{inbound}_request_duration_seconds": Family("histogram", PARENT_IN, buckets=SEVEN),
        f"{inbound}_response_duration_seconds": Family("histogram", PARENT_IN, buckets=FOUR),
        f"{inbound}_statuses": Family("counter", PARENT_IN | {"status"}),
        f"{route}_request_duration_seconds": Family("histogram", host, buckets=FOUR),
        f"{route}_request_statuses": Family("counter", host | status),
        f"{route}_request_frame_size_bytes": Family("histogram", host, buckets=FRAMES),
        f"{route}_retry_requests": Family("counter", host),
        f"{route}_retry_successes": Family("counter", host),
        f"{route}_retry_limit_exceeded": Family("counter", host),
        f"{route}_retry_overflow": Family("counter", host),
        f"{backend}_requests": Family("counter", where),
        f"{backend}_response_duration_seconds": Family("histogram", where, buckets=SEVEN),
        f"{backend}_response_statuses": Family("counter", where | status),
        f"{backend}_response_frame_size_bytes": Family("histogram", where, buckets=FRAMES),
    }


def _balancer(prefix: str, labels: frozenset[str]) -> dict[str, Family]:
    return {
        f"{prefix}_endpoints": Family("gauge", labels | {"endpoint_state"}),
        f"{prefix}_p2c_endpoints": Family("gauge", labels),
        f"{prefix}_p2c_updates": Family("counter", labels | {"op"}),
        f"{prefix}_queue_length": Family("gauge", labels),
        f"{prefix}_queue_requests": Family("counter", labels),
        f"{prefix}_queue_latency_seconds": Family("histogram", labels, buckets=QUEUE),
        f"{prefix}_queue_gate_open": Family("counter", labels),
        f"{prefix}_queue_gate_shut": Family("counter", labels),
        f"{prefix}_queue_gate_open_time_seconds": Family("gauge", labels),
        f"{prefix}_queue_gate_shut_time_seconds": Family("gauge", labels),
        f"{prefix}_queue_gate_timeout_seconds": Family("gauge", labels),
    }


_ROUTE: Final = Family("counter", frozenset({"direction", "dst"}), prefix="rt_")
_ADDR: Final = Family("counter", frozenset({"addr"}) | TLS, MAY_TLS_OUT)
_DETECT_S: Final = (0.001, 0.1)
FAMILIES: Final[dict[str, Family]] = {
    "route_request": _ROUTE,
    "route_response": _response(_ROUTE),
    "route_response_latency_ms": _latency(_ROUTE),
    "route_actual_request": _ROUTE,
    "route_actual_response": _response(_ROUTE),
    "route_retryable": Family("counter", _ROUTE.must, frozenset({"skipped"}), prefix="rt_"),
    **_x("http"),
    **_x("grpc"),
    **_balancer("outbound_http_balancer", PARENT | BACKEND),
    **_balancer("outbound_tcp_balancer", PARENT | BACKEND | {"logical", "concrete"}),
    "inbound_tcp_detect_http_duration_seconds": Family("histogram", SRV, buckets=_DETECT_S),
    "inbound_tcp_detect_http_results": Family("counter", SRV | {"result"}),
    "outbound_tcp_detect_http_duration_seconds": Family("histogram", PARENT, buckets=_DETECT_S),
    "outbound_tcp_detect_http_results": Family("counter", PARENT | {"result"}),
    "outbound_tcp_protocol_connections": Family("counter", PARENT | {"protocol"}),
    "inbound_tcp_transport_header_connections": Family(
        "counter", frozenset({"session_protocol", "target_port", "target_name", "client_id"})
    ),
    **_balancer("outbound_tls_balancer", frozenset({"concrete"})),
    **_balancer("control_identity_balancer", frozenset({"addr"})),
    **_balancer("control_destination_balancer", frozenset({"addr"})),
    **_balancer("control_policy_balancer", frozenset({"addr"})),
    **_balancer("opentelemetry_balancer", frozenset({"addr"})),
    "outbound_tcp_transfer_cost_bytes": Family("counter", frozenset({"op", "zone_locality"})),
    "outbound_tls_route_open": Family("counter", PARENT | ROUTE | {"hostname"}),
    "outbound_tls_route_close": Family("counter", PARENT | ROUTE | {"hostname", "error"}),
    "outbound_tcp_route_open": Family("counter", PARENT | ROUTE | {"target_ip", "target_port"}),
    "outbound_tcp_route_close": Family("counter", PARENT | ROUTE | {"target_ip", "target_port", "error"}),
    "inbound_http_authz_allow": Family("counter", TARGET | SRV | ROUTE_IN | AUTHZ | TLS, MAY_TLS_IN),
    "inbound_http_authz_deny": Family("counter", TARGET | SRV | ROUTE_IN | TLS, MAY_TLS_IN),
    "inbound_http_route_not_found": Family("counter", TARGET | SRV | TLS, MAY_TLS_IN),
    "inbound_tcp_authz_allow": Family("counter", TARGET | SRV | AUTHZ | TLS, MAY_TLS_IN),
    "inbound_tcp_authz_deny": Family("counter", TARGET | SRV | TLS, MAY_TLS_IN),
    "inbound_tcp_authz_terminate": Family("counter", TARGET | SRV | TLS, MAY_TLS_IN),
    "inbound_http_local_ratelimit": Family(
        "counter",
        TARGET | SRV | TLS | {"ratelimit_scope"},
        MAY_TLS_IN | {"ratelimit_group", "ratelimit_kind", "ratelimit_name"},
    ),
    "inbound_http_errors": Family("counter", TARGET | SRV | {"error"}),
    "inbound_tcp_errors": Family("counter", TARGET | {"error"}),
    "outbound_http_errors": Family("counter", frozenset({"error"})),
    "outbound_tcp_errors": Family("counter", TARGET | {"error"}),
    "control_identity_cert_expiration_timestamp_seconds": Family("gauge"),
    "control_identity_cert_refresh_timestamp_seconds": Family("gauge"),
    "control_identity_cert_refreshes": Family("counter", frozenset({"result"})),
    "control_request": _ADDR,
    "control_response": _response(_ADDR),
    "control_response_latency_ms": _latency(_ADDR),
    "control_dns_resolutions": Family("counter", frozenset({"client", "record_type", "result"})),
    "process_start_time_seconds": Family("gauge"),
    "process_clock_time_seconds": Family("gauge"),
    "process_uptime_seconds": Family("counter"),
    "process_cpu_seconds": Family("counter"),
    "process_virtual_memory_bytes": Family("gauge"),
    "process_resident_memory_bytes": Family("gauge"),
    "process_open_fds": Family("gauge"),
    "process_max_fds": Family("gauge"),
    "process_threads": Family("gauge"),
    "process_network_receive_bytes": Family("counter"),
    "process_network_transmit_bytes": Family("counter"),
    "proxy_build_info": Family("gauge", frozenset({"date", "git_sha", "profile", "vendor", "version"})),
    "rustls_info": Family(
        "gauge", frozenset({"tls_suites", "tls_kx_groups", "tls_rand", "tls_key_provider", "tls_fips"})
    ),
}
# Ours, beside Linkerd's.
OWN_PREFIX: Final = "weft_"


def family_of(name: str, labels: dict[str, str]) -> Family | None:
    """The family that a series belongs to, by its name without suffixes; None for one that is not in the contract."""
    if name in BY_DIRECTION:
        return BY_DIRECTION[name].get(labels.get("direction", ""))
    if name in TRANSPORT:
        return TRANSPORT[name].get((labels.get("direction", ""), labels.get("peer", "")))
    return FAMILIES.get(name)
