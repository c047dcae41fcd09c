"""Environment to settings, whole or not at all.

Owns the rules between variables (which need each other, which exclude each other). Every mistake of the environment
is reported in one run, each with variable, value and expected form; the process then exits 64.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from weft_proxy.core import variables as var
from weft_proxy.core.log_filter import DEFAULT_FILTER, LogFilter
from weft_proxy.core.settings import (
    BackoffSettings,
    ControlService,
    DiscoverySettings,
    Http2Settings,
    IdentitySettings,
    InboundSettings,
    KeepAlive,
    OutboundSettings,
    QueueSettings,
    Settings,
    SideSettings,
    StreamLimits,
    TapSettings,
    TraceSettings,
)
from weft_proxy.core.values import HostPort, SocketAddr, parse_attributes, parse_host_port

EXIT_CONFIG = 64
OTEL_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
DEFAULT_TRACE_SERVICE_NAME = "linkerd-proxy"
T = TypeVar("T")

_INBOUND_BACKOFF = BackoffSettings(100, 10_000, 0.1)
_OUTBOUND_BACKOFF = BackoffSettings(100, 60_000, 0.1)
_NOWHERE = parse_host_port("localhost.:1")
_SHOWN_VALUE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Mistake:
    variable: str
    value: str | None
    expected: str

    def __str__(self) -> str:
        shown = "unset" if self.value is None else repr(self.value[:_SHOWN_VALUE_CHARS])
        return f"{self.variable} is {shown}; expected {self.expected}"


class ConfigError(Exception):
    """The environment cannot be used; carries every mistake found."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(m) for m in mistakes))
        self.mistakes = mistakes


@dataclass(slots=True)
class _Reader:
    environ: Mapping[str, str]
    mistakes: list[Mistake] = field(default_factory=list)

    def get(self, variable: var.Variable[T]) -> T:
        text = self.environ.get(variable.full_name)
        if text is None or (not text.strip() and variable is not var.DESTINATION_PROFILE_SUFFIXES):
            return variable.default
        try:
            return variable.parse(text.strip())
        except ValueError:
            self.mistakes.append(Mistake(variable.full_name, text, variable.expected))
            return variable.default

    def reject(self, variable: var.Variable[T], expected: str) -> None:
        """Record a mistake, once per variable: a value that does not parse is not also called missing."""
        if all(m.variable != variable.full_name for m in self.mistakes):
            self.mistakes.append(Mistake(variable.full_name, self.environ.get(variable.full_name), expected))

    def required(self, variable: var.Variable[str | None], expected: str) -> str:
        text = self.get(variable)
        if not text:
            self.reject(variable, expected)
        return text or ""


def read_settings(environ: Mapping[str, str], cpus: int | None = None) -> Settings:
    """cpus: how many this process may use; None asks the system. Raises ConfigError with every mistake."""
    reader = _Reader(environ)
    get = reader.get
    outbound_backoff = _backoff(reader, var.OUTBOUND, _OUTBOUND_BACKOFF)
    ingress = get(var.INGRESS_MODE)
    no_headers = get(var.OUTBOUND_DISABLE_INFORMATIONAL_HEADERS)
    log_filter, log_json = _logging(reader)
    policy = get(var.INBOUND_DEFAULT_POLICY)
    networks = get(var.POLICY_CLUSTER_NETWORKS)
    if policy.needs_cluster_networks and not networks:
        reader.reject(var.POLICY_CLUSTER_NETWORKS, f"CIDRs, because INBOUND_DEFAULT_POLICY is {policy.value}")
    settings = Settings(
        identity_service=_service(reader, "identity", var.IDENTITY_SVC_ADDR, var.IDENTITY_SVC_NAME),
        destination_service=_service(reader, "destination", var.DESTINATION_SVC_ADDR, var.DESTINATION_SVC_NAME),
        policy_service=_service(reader, "policy", var.POLICY_SVC_ADDR, var.POLICY_SVC_NAME),
        identity=_identity(reader),
        inbound=InboundSettings(
            listen=get(var.INBOUND_LISTEN_ADDR),
            side=_side(
                reader,
                var.INBOUND,
                _backoff(reader, var.INBOUND, _INBOUND_BACKOFF),
                QueueSettings(get(var.INBOUND_HTTP_QUEUE_CAPACITY), get(var.INBOUND_HTTP_FAILFAST_TIMEOUT)),
                get(var.MAX_IDLE_CONNS_PER_ENDPOINT),
            ),
            ips=get(var.INBOUND_IPS),
            ports=get(var.INBOUND_PORTS),
            default_policy=policy,
            opaque_ports=get(var.INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION),
            cluster_networks=networks,
            gateway_suffixes=get(var.INBOUND_GATEWAY_SUFFIXES),
            authority_labels=get(var.INBOUND_METRICS_AUTHORITY_LABELS) == "unsafe",
            remote_ip_header=get(var.INBOUND_REMOTE_IP_HEADER),
        ),
        outbound=OutboundSettings(
            listen=_outbound_listen(reader),
            side=_side(
                reader,
                var.OUTBOUND,
                outbound_backoff,
                QueueSettings(get(var.OUTBOUND_HTTP_QUEUE_CAPACITY), get(var.OUTBOUND_HTTP_FAILFAST_TIMEOUT)),
                get(var.OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT),
            ),
            tcp_queue=QueueSettings(get(var.OUTBOUND_TCP_QUEUE_CAPACITY), get(var.OUTBOUND_TCP_FAILFAST_TIMEOUT)),
            ingress_mode=ingress,
            informational_headers=not (ingress if no_headers is None else no_headers),
            hostname_labels=get(var.OUTBOUND_METRICS_HOSTNAME_LABELS),
        ),
        discovery=DiscoverySettings(
            workload=reader.required(var.POLICY_WORKLOAD, "who asks for policy"),
            context=get(var.DESTINATION_CONTEXT) or "",
            profile_networks=get(var.DESTINATION_PROFILE_NETWORKS),
            profile_suffixes=get(var.DESTINATION_PROFILE_SUFFIXES),
            inbound_profile_wait_ms=get(var.DESTINATION_PROFILE_INITIAL_TIMEOUT),
            stream_limits=_stream_limits(reader),
        ),
        admin_listen=get(var.ADMIN_LISTEN_ADDR),
        http2_stream_window=get(var.HTTP2_INITIAL_STREAM_WINDOW_SIZE),
        http2_connection_window=get(var.HTTP2_INITIAL_CONNECTION_WINDOW_SIZE),
        worker_threads=_workers(reader, cpus or len(os.sched_getaffinity(0))),
        metrics_retain_idle_ms=get(var.METRICS_RETAIN_IDLE),
        shutdown_grace_ms=get(var.SHUTDOWN_GRACE_PERIOD),
        shutdown_endpoint=get(var.SHUTDOWN_ENDPOINT_ENABLED),
        log_filter=log_filter,
        log_json=log_json,
        access_log=get(var.ACCESS_LOG),
        tap=TapSettings(get(var.CONTROL_LISTEN_ADDR), tap_client) if (tap_client := get(var.TAP_SVC_NAME)) else None,
        trace=_trace(reader, environ),
    )
    if reader.mistakes:
        raise ConfigError(reader.mistakes)
    return settings


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Names under our prefix that mean nothing to us: most often a spelling mistake. Sorted."""
    known = {variable.full_name for variable in var.VARIABLES}
    return sorted(name for name in environ if name.startswith(var.PREFIX) and name not in known)


def _outbound_listen(reader: _Reader) -> tuple[SocketAddr, ...]:
    several, one = reader.get(var.OUTBOUND_LISTEN_ADDRS), reader.get(var.OUTBOUND_LISTEN_ADDR)
    return (one,) if several is None else several


def _service(
    reader: _Reader, name: str, address: var.Variable[HostPort | None], server_name: var.Variable[str | None]
) -> ControlService:
    addr, server = reader.get(address), reader.get(server_name)
    if addr is None:
        reader.reject(address, "host:port")
        return ControlService(name, _NOWHERE, "")
    if addr.is_loopback:
        return ControlService(name, addr, "")
    if not server:
        reader.reject(server_name, f"the identity of {addr.text}, because it is not loopback")
    return ControlService(name, addr, server or "")


def _trace(reader: _Reader, environ: Mapping[str, str]) -> TraceSettings | None:
    if not environ.get(var.TRACE_COLLECTOR_SVC_ADDR.full_name, "").strip():
        return None
    collector = _service(reader, "opentelemetry", var.TRACE_COLLECTOR_SVC_ADDR, var.TRACE_COLLECTOR_SVC_NAME)
    try:
        standard = parse_attributes(environ.get(OTEL_ATTRIBUTES, ""))
    except ValueError:
        standard = ()
        reader.mistakes.append(Mistake(OTEL_ATTRIBUTES, environ.get(OTEL_ATTRIBUTES), "key=value, comma separated"))
    return TraceSettings(
        collector=collector,
        service_name=reader.get(var.TRACE_SERVICE_NAME) or DEFAULT_TRACE_SERVICE_NAME,
        labels_path=reader.get(var.TRACE_ATTRIBUTES_PATH),
        attributes=(*reader.get(var.TRACE_EXTRA_ATTRIBUTES), *standard),
    )


def _identity(reader: _Reader) -> IdentitySettings:
    for gone in (var.IDENTITY_DISABLED, var.IDENTITY_SPIRE_SOCKET, var.IDENTITY_SPIRE_WORKLOAD_API_ADDRESS):
        if reader.get(gone):
            reader.reject(gone, "no value: a mesh identity comes from the identity service")
    pem = reader.required(var.IDENTITY_TRUST_ANCHORS, "trust anchors as PEM text")
    if pem and "-----BEGIN CERTIFICATE-----" not in pem:
        reader.reject(var.IDENTITY_TRUST_ANCHORS, "PEM text with at least one certificate (not a path)")
    minimum, maximum = reader.get(var.IDENTITY_MIN_REFRESH), reader.get(var.IDENTITY_MAX_REFRESH)
    if minimum > maximum:
        reader.reject(var.IDENTITY_MIN_REFRESH, "at most IDENTITY_MAX_REFRESH")
    return IdentitySettings(
        local_name=_local_name(reader),
        trust_anchors_pem=pem,
        trust_anchors_file=reader.get(var.IDENTITY_TRUST_ANCHORS_FILE),
        directory=reader.required(var.IDENTITY_DIR, "a folder for key.p8 and csr.der"),
        token_file=_token_file(reader),
        min_refresh_ms=minimum,
        max_refresh_ms=maximum,
    )


def _local_name(reader: _Reader) -> str:
    if name := reader.get(var.IDENTITY_LOCAL_NAME):
        return name
    server_id, server_name = reader.get(var.IDENTITY_SERVER_ID), reader.get(var.IDENTITY_SERVER_NAME)
    if not server_id and not server_name:
        reader.reject(var.IDENTITY_LOCAL_NAME, "own identity, <sa>.<ns>.serviceaccount.identity.linkerd.<domain>")
    elif server_id != server_name:
        reader.reject(var.IDENTITY_SERVER_NAME, "the same as IDENTITY_SERVER_ID")
    return server_id or ""


def _token_file(reader: _Reader) -> str:
    path = reader.required(var.IDENTITY_TOKEN_FILE, "the path of a token")
    if path:
        try:
            empty = not Path(path).read_bytes().strip()
        except OSError as error:
            reader.reject(var.IDENTITY_TOKEN_FILE, f"a readable token ({error.strerror})")
        else:
            if empty:
                reader.reject(var.IDENTITY_TOKEN_FILE, "a token (the file is empty)")
    return path


def _stream_limits(reader: _Reader) -> StreamLimits:
    chain = (var.CONTROL_STREAM_INITIAL_TIMEOUT, var.CONTROL_STREAM_IDLE_TIMEOUT, var.CONTROL_STREAM_LIFETIME)
    values = [reader.get(variable) for variable in chain]
    longest = 0
    for variable, value in zip(chain, values, strict=True):
        if value is not None and value < longest:
            reader.reject(variable, "at least as long as the limit before it (initial, idle, lifetime)")
        longest = max(longest, value or 0)
    return StreamLimits(*values)


def _backoff(reader: _Reader, side: var.SideVariables, default: BackoffSettings) -> BackoffSettings:
    minimum, maximum = reader.get(side.backoff_min), reader.get(side.backoff_max)
    jitter = reader.get(side.backoff_jitter)
    if minimum is None and maximum is None:
        if jitter is not None:
            reader.reject(side.backoff_jitter, "MIN and MAX to be set as well")
        return default
    if minimum is None or maximum is None:
        reader.reject(side.backoff_min if minimum is None else side.backoff_max, "MIN and MAX to be set together")
        return default
    if not 0 < minimum <= maximum:
        reader.reject(side.backoff_min, "above 0 and at most MAX")
        return default
    return BackoffSettings(minimum, maximum, jitter or 0.0)


def _side(
    reader: _Reader, side: var.SideVariables, backoff: BackoffSettings, queue: QueueSettings, max_idle: int
) -> SideSettings:
    get = reader.get
    counts = [get(side.http2_counts[part]) for part in var.HTTP2_COUNTS]
    stream_window, connection_window, streams, frame_size, header_list, resets, send_buffer = counts
    return SideSettings(
        listen_backlog=get(side.tcp_listen_backlog),
        connect_timeout_ms=get(side.connect_timeout),
        detect_timeout_ms=get(side.detect_timeout),
        discovery_idle_ms=get(side.discovery_idle),
        backoff=backoff,
        queue=queue,
        max_in_flight=get(side.max_in_flight),
        max_idle_conns_per_endpoint=max_idle,
        http1_pool_idle_ms=get(side.http1_pool_idle),
        accept_keepalive=KeepAlive(get(side.accept_keepalive), get(side.accept_user_timeout)),
        connect_keepalive=KeepAlive(get(side.connect_keepalive), get(side.connect_user_timeout)),
        server_http2=Http2Settings(
            keep_alive_interval_ms=get(side.http2_keep_alive_interval) or 0,
            keep_alive_timeout_ms=get(side.http2_keep_alive_timeout) or 0,
            initial_stream_window=stream_window,
            initial_connection_window=connection_window,
            adaptive_flow_control=get(side.http2_adaptive_flow_control),
            max_concurrent_streams=streams,
            max_frame_size=frame_size,
            max_header_list_size=header_list,
            max_pending_accept_reset_streams=resets,
            max_send_buf_size=send_buffer,
        ),
    )


def _logging(reader: _Reader) -> tuple[str, bool]:
    text = reader.get(var.LOG) or DEFAULT_FILTER
    try:
        LogFilter.parse(text)
    except ValueError as error:
        reader.reject(var.LOG, f"a log filter such as {DEFAULT_FILTER} ({error})")
    log_format = (reader.get(var.LOG_FORMAT) or "plain").lower()
    if log_format not in ("plain", "json"):
        reader.reject(var.LOG_FORMAT, "plain or json")
    return text, log_format == "json"


def _workers(reader: _Reader, cpus: int) -> int:
    fewest = reader.get(var.CORES_MIN) or reader.get(var.CORES) or 1
    ratio = reader.get(var.CORES_MAX_RATIO)
    limits = [limit for limit in (reader.get(var.CORES_MAX), ratio and max(1, round(cpus * ratio))) if limit]
    return max(1, min(cpus, max(fewest, min(limits, default=fewest))))
