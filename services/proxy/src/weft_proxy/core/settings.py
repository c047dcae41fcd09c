"""The whole configuration of one proxy, typed. Built by `config`, read by everything else. Durations are in ms."""

from dataclasses import dataclass

from weft_proxy.core.values import AccessLogFormat, DefaultPolicy, HostPort, IpAddress, IpNetwork, PortRange, SocketAddr


@dataclass(frozen=True, slots=True)
class ControlService:
    """One control-plane service. `server_name` is empty for loopback, which speaks without TLS."""

    name: str
    address: HostPort
    server_name: str


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    min_ms: int
    max_ms: int
    jitter_ratio: float


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How long to listen to a control stream; None listens for ever. Loopback streams have no limits (wire.md 2.2)."""

    initial_ms: int | None
    idle_ms: int | None
    lifetime_ms: int | None


@dataclass(frozen=True, slots=True)
class KeepAlive:
    keepalive_ms: int | None
    user_timeout_ms: int | None


@dataclass(frozen=True, slots=True)
class QueueSettings:
    capacity: int
    failfast_ms: int


@dataclass(frozen=True, slots=True)
class Http2Settings:
    """Zero leaves the library's default."""

    keep_alive_interval_ms: int
    keep_alive_timeout_ms: int
    initial_stream_window: int
    initial_connection_window: int
    adaptive_flow_control: bool
    max_concurrent_streams: int
    max_frame_size: int
    max_header_list_size: int
    max_pending_accept_reset_streams: int
    max_send_buf_size: int


@dataclass(frozen=True, slots=True)
class SideSettings:
    """What the inbound and the outbound side each have."""

    listen_backlog: int
    """0 leaves the engine's own."""
    connect_timeout_ms: int
    detect_timeout_ms: int
    discovery_idle_ms: int
    backoff: BackoffSettings
    queue: QueueSettings
    max_in_flight: int
    max_idle_conns_per_endpoint: int
    http1_pool_idle_ms: int
    accept_keepalive: KeepAlive
    connect_keepalive: KeepAlive
    server_http2: Http2Settings


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    local_name: str
    trust_anchors_pem: str
    trust_anchors_file: str | None
    directory: str
    token_file: str
    min_refresh_ms: int
    max_refresh_ms: int


@dataclass(frozen=True, slots=True)
class InboundSettings:
    listen: SocketAddr
    side: SideSettings
    ips: tuple[IpAddress, ...]
    ports: tuple[int, ...]
    default_policy: DefaultPolicy
    opaque_ports: tuple[PortRange, ...]
    cluster_networks: tuple[IpNetwork, ...]
    gateway_suffixes: tuple[str, ...]
    authority_labels: bool
    remote_ip_header: bool


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    listen: tuple[SocketAddr, ...]
    side: SideSettings
    tcp_queue: QueueSettings
    """Of connections that stay bytes; `side.queue` is of requests."""
    ingress_mode: bool
    informational_headers: bool
    hostname_labels: bool


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    workload: str
    context: str
    profile_networks: tuple[IpNetwork, ...]
    profile_suffixes: tuple[str, ...]
    inbound_profile_wait_ms: int
    stream_limits: StreamLimits


@dataclass(frozen=True, slots=True)
class TapSettings:
    """client: the one identity that may tap over the network; loopback may always."""

    listen: SocketAddr
    client: str


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """attributes: of the resource, the later of two with one key wins. labels_path: a downward-API file of labels."""

    collector: ControlService
    service_name: str
    labels_path: str | None
    attributes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Settings:
    identity_service: ControlService
    destination_service: ControlService
    policy_service: ControlService
    identity: IdentitySettings
    inbound: InboundSettings
    outbound: OutboundSettings
    discovery: DiscoverySettings
    admin_listen: SocketAddr
    http2_stream_window: int
    http2_connection_window: int
    worker_threads: int
    metrics_retain_idle_ms: int
    shutdown_grace_ms: int
    shutdown_endpoint: bool
    log_filter: str
    log_json: bool
    access_log: AccessLogFormat | None
    tap: TapSettings | None
    trace: TraceSettings | None

    @property
    def control_services(self) -> tuple[ControlService, ControlService, ControlService]:
        return self.identity_service, self.destination_service, self.policy_service

    @property
    def tunnels(self) -> tuple[ControlService, ...]:
        """Every service that Python calls through the engine."""
        return self.control_services if self.trace is None else (*self.control_services, self.trace.collector)
