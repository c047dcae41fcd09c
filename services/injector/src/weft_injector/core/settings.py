"""The settings one injection works with, and how the values of the `linkerd-config` ConfigMap fill them.

One flat frozen value, so that an annotation is "this field, that parser" (see overrides.py). Durations, quantities and
port lists stay in the text form that the proxy and Kubernetes read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from weft_injector.core import grammar
from weft_injector.core.json_value import NOTHING, Json, JsonObject, object_at, objects_at

DEFAULT_CLUSTER_NETWORKS: Final = "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"
DEFAULT_OPAQUE_PORTS: Final = "25,587,3306,4444,5432,6379,9300,11211"
HTTP2_KEEP_ALIVE: Final = (
    ("INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "10s"),
    ("INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT", "3s"),
    ("OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "10s"),
    ("OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT", "3s"),
)


class BadValues(ValueError):
    """The chart values cannot be used; no pod can be injected until they are put right."""


class BadSetting(ValueError):
    """A pod or namespace asks for something that must not be ignored; this pod is refused."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image and when to pull it."""

    name: str
    version: str
    pull_policy: str = "IfNotPresent"

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, slots=True)
class Tracing:
    """OpenTelemetry export of the proxy."""

    protocol: str
    service_name: str
    collector_address: str
    collector_identity: str
    attributes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """Defaults are those of the charts. Empty text means unset."""

    control_plane_namespace: str = "linkerd"
    cluster_domain: str = "cluster.local"
    trust_domain: str = "cluster.local"
    cluster_networks: str = DEFAULT_CLUSTER_NETWORKS
    cni_enabled: bool = False
    disable_ipv6: bool = True
    token_projection: bool = True

    image_name: str = "weft/proxy"
    image_version: str = "0.1.0"
    image_pull_policy: str = "IfNotPresent"
    debug_image_name: str = "weft/debug"
    debug_image_version: str = "0.1.0"
    debug_image_pull_policy: str = "IfNotPresent"
    debug_sidecar: bool = False

    admin_port: int = 4191
    control_port: int = 4190
    inbound_port: int = 4143
    outbound_port: int = 4140
    uid: int = 2102
    gid: int = -1

    native_sidecar: bool = True
    await_ready: bool = True
    wait_before_exit_s: int = 0
    shutdown_grace_period: str = ""
    shutdown_endpoint: bool = False
    ingress: bool = False
    gateway: bool = False

    log_level: str = "warn,linkerd=info,hickory=error"
    log_format: str = "plain"
    log_http_headers: str = "off"
    access_log: str = ""
    viz_namespace: str = ""
    """Where metrics-api runs, which may tap proxies; empty: nobody may."""
    tap_disabled: bool = False
    hostname_labels: bool = False

    external_profiles: bool = False
    opaque_ports: str = DEFAULT_OPAQUE_PORTS
    require_identity_ports: str = ""
    default_inbound_policy: str = "all-unauthenticated"

    inbound_connect_timeout: str = "100ms"
    outbound_connect_timeout: str = "1000ms"
    inbound_discovery_idle: str = "90s"
    outbound_discovery_idle: str = "5s"
    inbound_detect_forever: bool = False
    outbound_detect_forever: bool = False
    stream_initial_timeout: str = "3s"
    stream_idle_timeout: str = "5m"
    stream_lifetime: str = "1h"
    tuning: tuple[tuple[str, str], ...] = HTTP2_KEEP_ALIVE
    """Protocol parameters: variable name without the prefix, and value."""

    cpu_request: str = ""
    cpu_limit: str = ""
    memory_request: str = ""
    memory_limit: str = ""
    ephemeral_storage_request: str = ""
    ephemeral_storage_limit: str = ""
    workers_min: int = 1
    workers_max: int = 0
    """0: as many as the proxy finds right."""
    workers_max_ratio: float = 0
    """Share of the node's CPUs; 0: unset."""

    security_context: JsonObject = field(default_factory=dict)
    """Used verbatim when not empty."""
    liveness_probe: JsonObject = field(default_factory=lambda: {"initialDelaySeconds": 10, "timeoutSeconds": 1})
    readiness_probe: JsonObject = field(default_factory=lambda: {"initialDelaySeconds": 2, "timeoutSeconds": 1})
    startup_probe: JsonObject = field(
        default_factory=lambda: {"initialDelaySeconds": 0, "periodSeconds": 1, "failureThreshold": 120}
    )
    additional_env: tuple[JsonObject, ...] = ()
    tracing: Tracing | None = None

    iptables_mode: str = "nft"
    skip_inbound_ports: str = "4567,4568"
    skip_outbound_ports: str = "4567,4568"
    skip_subnets: str = ""
    close_wait_s: int = 0
    init_as_root: bool = False
    init_privileged: bool = False
    init_uid: int = 65534
    init_gid: int = 65534
    init_log_level: str = ""
    init_log_format: str = ""
    xtables_volume: str = "linkerd-proxy-init-xtables-lock"
    xtables_path: str = "/run"

    validator_connect_addr: str = ""
    validator_listen_addr: str = ""
    validator_timeout: str = "10s"
    validator_log_level: str = "debug"
    validator_log_format: str = "plain"

    @property
    def image(self) -> Image:
        """Of the proxy, its init container and the validator."""
        return Image(self.image_name, self.image_version, self.image_pull_policy)

    @property
    def debug_image(self) -> Image:
        """Of the debug container."""
        return Image(self.debug_image_name, self.debug_image_version, self.debug_image_pull_policy)


Read = Callable[[Json], Any]


def _text(value: Json) -> str:
    # Helm lets people write 5432 or 25,587; both are port lists.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected text, found {type(value).__name__}")
    return str(value)


def _flag(value: Json) -> bool:
    return value if isinstance(value, bool) else grammar.boolean(_text(value))


def _number(value: Json) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return grammar.integer(_text(value))


def _ratio(value: Json) -> float:
    return 0 if value in {"", 0} else grammar.ratio(_text(value))


def _object(value: Json) -> JsonObject:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping, found {type(value).__name__}")
    return value


def _parsed(parse: Callable[[str], str]) -> Read:
    def read(value: Json) -> str:
        text = _text(value)
        return parse(text) if text else ""

    return read


# Path in the values, field, reader. An absent or null value keeps the default, as Helm has it.
VALUES: Final[tuple[tuple[str, str, Read], ...]] = (
    ("controlPlaneNamespace", "control_plane_namespace", _text),
    ("vizNamespace", "viz_namespace", _text),
    ("clusterDomain", "cluster_domain", _text),
    ("clusterNetworks", "cluster_networks", _parsed(grammar.networks)),
    ("cniEnabled", "cni_enabled", _flag),
    ("disableIPv6", "disable_ipv6", _flag),
    ("identity.serviceAccountTokenProjection", "token_projection", _flag),
    ("proxy.image.name", "image_name", _text),
    ("proxy.image.version", "image_version", _text),
    ("proxy.image.pullPolicy", "image_pull_policy", _text),
    ("debugContainer.image.name", "debug_image_name", _text),
    ("debugContainer.image.version", "debug_image_version", _text),
    ("debugContainer.image.pullPolicy", "debug_image_pull_policy", _text),
    ("proxy.ports.admin", "admin_port", _number),
    ("proxy.ports.control", "control_port", _number),
    ("proxy.ports.inbound", "inbound_port", _number),
    ("proxy.ports.outbound", "outbound_port", _number),
    ("proxy.uid", "uid", _number),
    ("proxy.gid", "gid", _number),
    ("proxy.nativeSidecar", "native_sidecar", _flag),
    ("proxy.await", "await_ready", _flag),
    ("proxy.waitBeforeExitSeconds", "wait_before_exit_s", _number),
    ("proxy.shutdownGracePeriod", "shutdown_grace_period", _parsed(grammar.duration)),
    ("proxy.enableShutdownEndpoint", "shutdown_endpoint", _flag),
    ("proxy.logLevel", "log_level", _text),
    ("proxy.logFormat", "log_format", _text),
    ("proxy.logHTTPHeaders", "log_http_headers", _text),
    ("proxy.accessLog", "access_log", _text),
    ("proxy.metrics.hostnameLabels", "hostname_labels", _flag),
    ("proxy.enableExternalProfiles", "external_profiles", _flag),
    ("proxy.opaquePorts", "opaque_ports", _text),
    ("proxy.requireIdentityOnInboundPorts", "require_identity_ports", _text),
    ("proxy.defaultInboundPolicy", "default_inbound_policy", _text),
    ("proxy.inboundConnectTimeout", "inbound_connect_timeout", _parsed(grammar.duration)),
    ("proxy.outboundConnectTimeout", "outbound_connect_timeout", _parsed(grammar.duration)),
    ("proxy.inboundDiscoveryCacheUnusedTimeout", "inbound_discovery_idle", _parsed(grammar.duration)),
    ("proxy.outboundDiscoveryCacheUnusedTimeout", "outbound_discovery_idle", _parsed(grammar.duration)),
    ("proxy.disableInboundProtocolDetectTimeout", "inbound_detect_forever", _flag),
    ("proxy.disableOutboundProtocolDetectTimeout", "outbound_detect_forever", _flag),
    ("proxy.control.streams.initialTimeout", "stream_initial_timeout", _parsed(grammar.duration)),
    ("proxy.control.streams.idleTimeout", "stream_idle_timeout", _parsed(grammar.duration)),
    ("proxy.control.streams.lifetime", "stream_lifetime", _parsed(grammar.duration)),
    ("proxy.resources.cpu.request", "cpu_request", _parsed(grammar.quantity)),
    ("proxy.resources.cpu.limit", "cpu_limit", _parsed(grammar.quantity)),
    ("proxy.resources.memory.request", "memory_request", _parsed(grammar.quantity)),
    ("proxy.resources.memory.limit", "memory_limit", _parsed(grammar.quantity)),
    ("proxy.resources.ephemeral-storage.request", "ephemeral_storage_request", _parsed(grammar.quantity)),
    ("proxy.resources.ephemeral-storage.limit", "ephemeral_storage_limit", _parsed(grammar.quantity)),
    ("proxy.runtime.workers.minimum", "workers_min", _number),
    ("proxy.runtime.workers.maximum", "workers_max", _number),
    ("proxy.runtime.workers.maximumCPURatio", "workers_max_ratio", _ratio),
    ("proxy.securityContext", "security_context", _object),
    ("proxy.livenessProbe", "liveness_probe", _object),
    ("proxy.readinessProbe", "readiness_probe", _object),
    ("proxy.startupProbe", "startup_probe", _object),
    ("proxyInit.iptablesMode", "iptables_mode", _text),
    ("proxyInit.ignoreInboundPorts", "skip_inbound_ports", _parsed(grammar.port_list)),
    ("proxyInit.ignoreOutboundPorts", "skip_outbound_ports", _parsed(grammar.port_list)),
    ("proxyInit.skipSubnets", "skip_subnets", _parsed(grammar.networks)),
    ("proxyInit.closeWaitTimeoutSecs", "close_wait_s", _number),
    ("proxyInit.runAsRoot", "init_as_root", _flag),
    ("proxyInit.privileged", "init_privileged", _flag),
    ("proxyInit.runAsUser", "init_uid", _number),
    ("proxyInit.runAsGroup", "init_gid", _number),
    ("proxyInit.logLevel", "init_log_level", _text),
    ("proxyInit.logFormat", "init_log_format", _text),
    ("proxyInit.xtMountPath.name", "xtables_volume", _text),
    ("proxyInit.xtMountPath.mountPath", "xtables_path", _text),
    ("networkValidator.connectAddr", "validator_connect_addr", _text),
    ("networkValidator.listenAddr", "validator_listen_addr", _text),
    ("networkValidator.timeout", "validator_timeout", _text),
    ("networkValidator.logLevel", "validator_log_level", _text),
    ("networkValidator.logFormat", "validator_log_format", _text),
)

# Fields whose empty value in the chart means "the default": images above all.
_EMPTY_KEEPS_DEFAULT: Final = frozenset(
    {
        "image_name",
        "image_version",
        "image_pull_policy",
        "debug_image_name",
        "debug_image_version",
        "debug_image_pull_policy",
        "iptables_mode",
    }
)


def settings_from_values(values: JsonObject) -> MeshSettings:
    """Settings from chart values: the key `values` of ConfigMap linkerd-config. Raises BadValues with every mistake."""
    fields: dict[str, Any] = {}
    mistakes: list[str] = []
    for path, name, read in VALUES:
        try:
            value = _at(values, path)
            if value is not None and not (value == "" and name in _EMPTY_KEEPS_DEFAULT):
                fields[name] = read(value)
        except ValueError as error:
            mistakes.append(f"{path}: {error}")
    if mistakes:
        raise BadValues("; ".join(mistakes))
    settings: MeshSettings = replace(MeshSettings(), **fields)
    if settings.iptables_mode not in {"nft", "legacy"}:
        raise BadValues(f"proxyInit.iptablesMode: expected nft or legacy, found {settings.iptables_mode!r}")
    proxy = object_at(values, "proxy")
    return replace(
        settings,
        trust_domain=_text(values.get("identityTrustDomain") or settings.cluster_domain),
        tuning=tuple(_tuning(proxy)) or HTTP2_KEEP_ALIVE,
        additional_env=objects_at(proxy, "additionalEnv", "proxy"),
        tracing=_tracing(object_at(proxy, "tracing", "proxy"), settings),
    )


def _at(values: JsonObject, path: str) -> Json:
    *parents, last = path.split(".")
    for key in parents:
        values = object_at(values, key)
    return values.get(last)


def _tuning(proxy: JsonObject) -> list[tuple[str, str]]:
    """proxy.<in|outbound>.<scope>.<protocol>.<parameter> as variables in upper snake case."""
    variables = []
    for side in ("inbound", "outbound"):
        for scope, protocols in object_at(proxy, side, "proxy").items():
            for protocol, parameters in _object(protocols).items():
                for parameter, value in _object(parameters).items():
                    name = "_".join(_upper_snake(part) for part in (side, scope, protocol, parameter))
                    variables.append((name, _text(value)))
    return variables


def _upper_snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def _tracing(tracing: JsonObject, settings: MeshSettings) -> Tracing | None:
    if tracing.get("enabled") is not True:
        return None
    collector = object_at(tracing, "collector", "proxy.tracing")
    account = object_at(collector, "meshIdentity", "proxy.tracing.collector") or NOTHING
    domain = f"serviceaccount.identity.{settings.control_plane_namespace}.{settings.trust_domain}"
    return Tracing(
        protocol=_text(tracing.get("protocol") or "opentelemetry"),
        service_name=_text(tracing.get("traceServiceName") or "linkerd-proxy"),
        collector_address=_text(collector.get("endpoint") or ""),
        collector_identity=f"{account.get('serviceAccountName')}.{account.get('namespace')}.{domain}",
        attributes=tuple(
            sorted((name, _text(value)) for name, value in object_at(tracing, "labels", "proxy.tracing").items())
        ),
    )
