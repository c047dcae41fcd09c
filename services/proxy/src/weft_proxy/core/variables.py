"""The table of LINKERD2_PROXY_* variables: name, form, default, meaning (wire.md 6).

Owns every name and default once; `--help` and `config` read it. Decides nothing about combinations of variables.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from weft_proxy.core import values as v

PREFIX = "LINKERD2_PROXY_"
T = TypeVar("T")

DURATION_FORM = "a duration such as 250ms, 3s, 5m, 1h, or 0"
_COUNT_FORM = "a whole number"


# Not slotted: Python 3.11 cannot note the type argument on a frozen, slotted generic.
@dataclass(frozen=True)
class Variable(Generic[T]):
    """One variable; `name` is without the prefix, and `default` is also what an empty text gives."""

    name: str
    parse: Callable[[str], T]
    expected: str
    default: T
    help: str

    @property
    def full_name(self) -> str:
        return PREFIX + self.name


_TABLE: list[Variable[Any]] = []


def _add(variable: Variable[T]) -> Variable[T]:
    _TABLE.append(variable)
    return variable


def _text(name: str, help_: str) -> Variable[str | None]:
    return _add(Variable[str | None](name, v.parse_text, "text", None, help_))


def _flag(name: str, help_: str, *, default: bool = False) -> Variable[bool]:
    return _add(Variable(name, v.parse_bool, "true or false", default, help_))


def _count(name: str, default: int, help_: str) -> Variable[int]:
    return _add(Variable(name, v.parse_count, _COUNT_FORM, default, help_))


def _duration(name: str, default_ms: int, help_: str) -> Variable[int]:
    return _add(Variable(name, v.parse_duration_ms, DURATION_FORM, default_ms, help_))


def _maybe_duration(name: str, help_: str) -> Variable[int | None]:
    return _add(Variable[int | None](name, v.parse_duration_ms, DURATION_FORM, None, help_))


def _host_port(name: str, help_: str) -> Variable[v.HostPort | None]:
    return _add(Variable[v.HostPort | None](name, v.parse_host_port, "host:port", None, help_))


def _addr(name: str, default: str, help_: str) -> Variable[v.SocketAddr]:
    return _add(Variable(name, v.parse_socket_addr, "ip:port", v.parse_socket_addr(default), help_))


IDENTITY_SVC_ADDR = _host_port("IDENTITY_SVC_ADDR", "certificate authority")
IDENTITY_SVC_NAME = _text("IDENTITY_SVC_NAME", "its identity; needed unless the address is loopback")
DESTINATION_SVC_ADDR = _host_port("DESTINATION_SVC_ADDR", "destination service")
DESTINATION_SVC_NAME = _text("DESTINATION_SVC_NAME", "its identity; needed unless the address is loopback")
POLICY_SVC_ADDR = _host_port("POLICY_SVC_ADDR", "policy service")
POLICY_SVC_NAME = _text("POLICY_SVC_NAME", "its identity; needed unless the address is loopback")
POLICY_WORKLOAD = _text("POLICY_WORKLOAD", "who asks for policy, sent verbatim")
DESTINATION_CONTEXT = _text("DESTINATION_CONTEXT", "who asks for endpoints, sent verbatim")

IDENTITY_DIR = _text("IDENTITY_DIR", "folder of key.p8 and csr.der; made when absent and writable")
IDENTITY_TOKEN_FILE = _text("IDENTITY_TOKEN_FILE", "service-account token, read again for every certificate")
IDENTITY_TRUST_ANCHORS = _text("IDENTITY_TRUST_ANCHORS", "trust bundle as PEM text, not a path")
IDENTITY_TRUST_ANCHORS_FILE = _text("IDENTITY_TRUST_ANCHORS_FILE", "mounted trust bundle, followed while running")
IDENTITY_LOCAL_NAME = _text("IDENTITY_LOCAL_NAME", "own identity")
IDENTITY_SERVER_ID = _text("IDENTITY_SERVER_ID", "own identity, with IDENTITY_SERVER_NAME, instead of LOCAL_NAME")
IDENTITY_SERVER_NAME = _text("IDENTITY_SERVER_NAME", "own TLS server name; must equal IDENTITY_SERVER_ID")
IDENTITY_MIN_REFRESH = _duration("IDENTITY_MIN_REFRESH", 10_000, "shortest wait between certificates")
IDENTITY_MAX_REFRESH = _duration("IDENTITY_MAX_REFRESH", 86_400_000, "longest wait between certificates")
IDENTITY_SPIRE_WORKLOAD_API_ADDRESS = _text("IDENTITY_SPIRE_WORKLOAD_API_ADDRESS", "not supported; an error if set")
IDENTITY_SPIRE_SOCKET = _text("IDENTITY_SPIRE_SOCKET", "not supported; an error if set")
IDENTITY_DISABLED = _text("IDENTITY_DISABLED", "no longer supported; an error if set")

OUTBOUND_LISTEN_ADDR = _addr("OUTBOUND_LISTEN_ADDR", "127.0.0.1:4140", "outbound listener; LISTEN_ADDRS wins")
OUTBOUND_LISTEN_ADDRS = _add(
    Variable[tuple[v.SocketAddr, ...] | None](
        "OUTBOUND_LISTEN_ADDRS", v.parse_socket_addrs, "one or two ip:port", None, "outbound listeners"
    )
)
INBOUND_LISTEN_ADDR = _addr("INBOUND_LISTEN_ADDR", "0.0.0.0:4143", "inbound listener")
CONTROL_LISTEN_ADDR = _addr("CONTROL_LISTEN_ADDR", "0.0.0.0:4190", "tap listener")
ADMIN_LISTEN_ADDR = _addr("ADMIN_LISTEN_ADDR", "127.0.0.1:4191", "admin listener")

INBOUND_IPS = _add(
    Variable[tuple[v.IpAddress, ...]]("INBOUND_IPS", v.parse_ips, "IP addresses, comma separated", (), "own addresses")
)
INBOUND_PORTS = _add(
    Variable[tuple[int, ...]]("INBOUND_PORTS", v.parse_ports, "ports, comma separated", (), "ports watched from start")
)
INBOUND_DEFAULT_POLICY = _add(
    Variable(
        "INBOUND_DEFAULT_POLICY",
        v.parse_default_policy,
        "one of " + ", ".join(p.value for p in v.DefaultPolicy),
        v.DefaultPolicy.ALL_UNAUTHENTICATED,
        "what ports admit until the policy service answers",
    )
)
INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION = _add(
    Variable[tuple[v.PortRange, ...]](
        "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
        v.parse_port_ranges,
        "ports and ranges, comma separated",
        (),
        "ports whose default policy is opaque",
    )
)
POLICY_CLUSTER_NETWORKS = _add(
    Variable[tuple[v.IpNetwork, ...]](
        "POLICY_CLUSTER_NETWORKS", v.parse_networks, "CIDRs, comma separated", (), "needed by cluster-* and audit"
    )
)
DESTINATION_PROFILE_NETWORKS = _add(
    Variable[tuple[v.IpNetwork, ...]](
        "DESTINATION_PROFILE_NETWORKS", v.parse_networks, "CIDRs, comma separated", (), "addresses that get profiles"
    )
)
DESTINATION_PROFILE_SUFFIXES = _add(
    Variable[tuple[str, ...]](
        "DESTINATION_PROFILE_SUFFIXES",
        v.parse_names,
        "DNS suffixes, comma separated",
        ("svc.cluster.local.",),
        "names that get profiles",
    )
)
DESTINATION_PROFILE_INITIAL_TIMEOUT = _duration(
    "DESTINATION_PROFILE_INITIAL_TIMEOUT", 500, "longest wait of an inbound profile"
)
CONTROL_STREAM_INITIAL_TIMEOUT = _maybe_duration("CONTROL_STREAM_INITIAL_TIMEOUT", "wait for a first message")
CONTROL_STREAM_IDLE_TIMEOUT = _maybe_duration("CONTROL_STREAM_IDLE_TIMEOUT", "longest silence of a control stream")
CONTROL_STREAM_LIFETIME = _maybe_duration("CONTROL_STREAM_LIFETIME", "age at which control streams reconnect")
INBOUND_GATEWAY_SUFFIXES = _add(
    Variable[tuple[str, ...]](
        "INBOUND_GATEWAY_SUFFIXES", v.parse_names, "DNS suffixes, comma separated", (), "names to act as a gateway for"
    )
)
INGRESS_MODE = _flag("INGRESS_MODE", "route by request authority instead of original destination")
OUTBOUND_DISABLE_INFORMATIONAL_HEADERS = _add(
    Variable[bool | None](
        "OUTBOUND_DISABLE_INFORMATIONAL_HEADERS",
        v.parse_bool,
        "true or false",
        None,
        "no l5d-proxy-* headers; unset: as INGRESS_MODE",
    )
)


@dataclass(frozen=True, slots=True)
class SideVariables:
    """The variables that exist for the inbound and for the outbound side."""

    tcp_listen_backlog: Variable[int]
    accept_keepalive: Variable[int | None]
    accept_user_timeout: Variable[int | None]
    connect_keepalive: Variable[int | None]
    connect_user_timeout: Variable[int | None]
    connect_timeout: Variable[int]
    backoff_min: Variable[int | None]
    backoff_max: Variable[int | None]
    backoff_jitter: Variable[float | None]
    detect_timeout: Variable[int]
    discovery_idle: Variable[int]
    max_in_flight: Variable[int]
    http1_pool_idle: Variable[int]
    http2_keep_alive_interval: Variable[int | None]
    http2_keep_alive_timeout: Variable[int | None]
    http2_adaptive_flow_control: Variable[bool]
    http2_counts: dict[str, Variable[int]]


HTTP2_COUNTS = (
    "INITIAL_STREAM_WINDOW_SIZE",
    "INITIAL_CONNECTION_WINDOW_SIZE",
    "MAX_CONCURRENT_STREAMS",
    "MAX_FRAME_SIZE",
    "MAX_HEADER_LIST_SIZE",
    "MAX_PENDING_ACCEPT_RESET_STREAMS",
    "MAX_SEND_BUF_SIZE",
)


def _side(side: str, connect_timeout_ms: int, discovery_idle_ms: int) -> SideVariables:
    jitter = Variable[float | None](
        f"{side}_CONNECT_EXP_BACKOFF_JITTER", v.parse_ratio, "a number from 0", None, "jitter as a share of the wait"
    )
    return SideVariables(
        tcp_listen_backlog=_count(f"{side}_TCP_LISTEN_BACKLOG", 0, "accept backlog; 0: the system's"),
        accept_keepalive=_maybe_duration(f"{side}_ACCEPT_KEEPALIVE", "TCP keepalive of accepted connections"),
        accept_user_timeout=_maybe_duration(f"{side}_ACCEPT_USER_TIMEOUT", "TCP_USER_TIMEOUT of accepted connections"),
        connect_keepalive=_maybe_duration(f"{side}_CONNECT_KEEPALIVE", "TCP keepalive of opened connections"),
        connect_user_timeout=_maybe_duration(f"{side}_CONNECT_USER_TIMEOUT", "TCP_USER_TIMEOUT of opened connections"),
        connect_timeout=_duration(f"{side}_CONNECT_TIMEOUT", connect_timeout_ms, "longest TCP connect"),
        backoff_min=_maybe_duration(f"{side}_CONNECT_EXP_BACKOFF_MIN", "first reconnect wait; set with MAX"),
        backoff_max=_maybe_duration(f"{side}_CONNECT_EXP_BACKOFF_MAX", "longest reconnect wait; set with MIN"),
        backoff_jitter=_add(jitter),
        detect_timeout=_duration(f"{side}_DETECT_TIMEOUT", 10_000, "longest wait for a protocol to show"),
        discovery_idle=_duration(f"{side}_DISCOVERY_IDLE_TIMEOUT", discovery_idle_ms, "life of an unused lookup"),
        max_in_flight=_count(f"{side}_MAX_IN_FLIGHT", 100_000, "requests at once before shedding"),
        http1_pool_idle=_duration(f"{side}_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT", 3_000, "life of an idle connection"),
        http2_keep_alive_interval=_maybe_duration(f"{side}_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "HTTP/2 server pings"),
        http2_keep_alive_timeout=_maybe_duration(f"{side}_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT", "wait for a ping's answer"),
        http2_adaptive_flow_control=_flag(f"{side}_SERVER_HTTP2_ADAPTIVE_FLOW_CONTROL", "let HTTP/2 windows grow"),
        http2_counts={
            part: _count(f"{side}_SERVER_HTTP2_{part}", 0, "HTTP/2 server tuning; 0: the library's")
            for part in HTTP2_COUNTS
        },
    )


INBOUND = _side("INBOUND", 300, 90_000)
OUTBOUND = _side("OUTBOUND", 1_000, 5_000)

MAX_IDLE_CONNS_PER_ENDPOINT = _count("MAX_IDLE_CONNS_PER_ENDPOINT", 10_000, "inbound HTTP/1 pool")
OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT = _count("OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT", 10_000, "outbound HTTP/1 pool")
INBOUND_HTTP_QUEUE_CAPACITY = _count("INBOUND_HTTP_QUEUE_CAPACITY", 10_000, "requests that may wait per port")
INBOUND_HTTP_FAILFAST_TIMEOUT = _duration("INBOUND_HTTP_FAILFAST_TIMEOUT", 1_000, "longest such wait")
OUTBOUND_HTTP_QUEUE_CAPACITY = _count("OUTBOUND_HTTP_QUEUE_CAPACITY", 10_000, "requests that may wait per balancer")
OUTBOUND_HTTP_FAILFAST_TIMEOUT = _duration("OUTBOUND_HTTP_FAILFAST_TIMEOUT", 3_000, "longest such wait")
OUTBOUND_TCP_QUEUE_CAPACITY = _count("OUTBOUND_TCP_QUEUE_CAPACITY", 10_000, "connections that may wait per balancer")
OUTBOUND_TCP_FAILFAST_TIMEOUT = _duration("OUTBOUND_TCP_FAILFAST_TIMEOUT", 3_000, "longest such wait")
HTTP2_INITIAL_STREAM_WINDOW_SIZE = _count("HTTP2_INITIAL_STREAM_WINDOW_SIZE", 65_535, "HTTP/2 client window, bytes")
HTTP2_INITIAL_CONNECTION_WINDOW_SIZE = _count(
    "HTTP2_INITIAL_CONNECTION_WINDOW_SIZE", 1_048_576, "HTTP/2 client connection window, bytes"
)

TAP_SVC_NAME = _text("TAP_SVC_NAME", "identity that may tap")
SHUTDOWN_GRACE_PERIOD = _duration("SHUTDOWN_GRACE_PERIOD", 120_000, "longest drain")
SHUTDOWN_ENDPOINT_ENABLED = _flag("SHUTDOWN_ENDPOINT_ENABLED", "serve POST /shutdown to loopback clients")
METRICS_RETAIN_IDLE = _duration("METRICS_RETAIN_IDLE", 600_000, "life of an idle metric series")
OUTBOUND_METRICS_HOSTNAME_LABELS = _flag("OUTBOUND_METRICS_HOSTNAME_LABELS", "hostname label in route metrics")
INBOUND_METRICS_AUTHORITY_LABELS = _text("INBOUND_METRICS_AUTHORITY_LABELS", "`unsafe` adds the authority label")
INBOUND_REMOTE_IP_HEADER = _flag(
    "INBOUND_REMOTE_IP_HEADER", "tell the application the client's address in l5d-remote-ip"
)
LOG = _text("LOG", "log filter; unset: warn,linkerd=info,hickory=error")
LOG_FORMAT = _text("LOG_FORMAT", "plain or json; unset: plain")
ACCESS_LOG = _add(
    Variable[v.AccessLogFormat | None](
        "ACCESS_LOG", v.parse_access_log, "apache or json", None, "a line on stderr per inbound request"
    )
)
TRACE_COLLECTOR_SVC_ADDR = _host_port("TRACE_COLLECTOR_SVC_ADDR", "OpenTelemetry collector (OTLP over gRPC)")
TRACE_COLLECTOR_SVC_NAME = _text("TRACE_COLLECTOR_SVC_NAME", "its identity; needed unless the address is loopback")
TRACE_SERVICE_NAME = _text("TRACE_SERVICE_NAME", "service.name of spans; unset: linkerd-proxy")
TRACE_ATTRIBUTES_PATH = _text("TRACE_ATTRIBUTES_PATH", "file of pod labels that become resource attributes")
TRACE_EXTRA_ATTRIBUTES = _add(
    Variable[tuple[tuple[str, str], ...]](
        "TRACE_EXTRA_ATTRIBUTES", v.parse_attributes, "key=value, one a line", (), "more resource attributes"
    )
)
CORES = _add(Variable[int | None]("CORES", v.parse_count, _COUNT_FORM, None, "worker threads"))
CORES_MIN = _add(Variable[int | None]("CORES_MIN", v.parse_count, _COUNT_FORM, None, "fewest worker threads"))
CORES_MAX = _add(Variable[int | None]("CORES_MAX", v.parse_count, _COUNT_FORM, None, "most worker threads"))
CORES_MAX_RATIO = _add(
    Variable[float | None]("CORES_MAX_RATIO", v.parse_ratio, "a number from 0", None, "workers as a share of the CPUs")
)

for _name, _help in (
    ("INBOUND_PORTS_REQUIRE_IDENTITY", "set by the injector for the policy service; not used"),
    ("INBOUND_PORTS_REQUIRE_TLS", "set by the injector for the policy service; not used"),
    ("TRACE_ANNOTATIONS_PATH", "set by the injector for older proxies; not used"),
    ("TRACE_PROTOCOL", "set by the injector; spans are always OTLP"),
    ("DNS_MIN_TTL", "shortest life of a DNS answer; names are resolved for each new connection, so not used"),
    ("DNS_MAX_TTL", "longest life of a DNS answer; not used, as above"),
):
    _text(_name, _help)

VARIABLES: tuple[Variable[Any], ...] = tuple(_TABLE)
