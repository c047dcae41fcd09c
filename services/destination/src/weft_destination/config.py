"""Settings of the destination service: one table, environment to typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from weft_common.settings import Setting, boolean, choice, duration, networks, port, port_ranges, read_settings, text
from weft_policy.core.mesh import DEFAULT_CLUSTER_NETWORKS, DEFAULT_OPAQUE_PORTS, EVERYWHERE, Mesh
from weft_policy.core.objects import DefaultPolicy
from weft_policy.core.ports import PortSet

DEFAULT_SNAPSHOT_TTL: Final = timedelta(hours=24)


def _port_set(value: str) -> PortSet:
    return PortSet(tuple((ports.start, ports.stop - 1) for ports in port_ranges(value)))


def _default_policy(value: str) -> DefaultPolicy:
    try:
        return DefaultPolicy(value)
    except ValueError as error:
        raise ValueError(f"expected one of {', '.join(policy.value for policy in DefaultPolicy)}") from error


def _positive_duration(value: str) -> timedelta:
    found = duration(value)
    if not found:
        raise ValueError("expected a duration above 0, such as 24h")
    return found


TABLE: Final[tuple[Setting[Any], ...]] = (
    Setting("WEFT_GRPC_PORT", port, 8086, "Port of the Destination API."),
    Setting("WEFT_POLICY_PORT", port, 8090, "Port of the inbound and outbound policy APIs."),
    Setting("WEFT_ADMIN_PORT", port, 9996, "Port of /live, /ready and /metrics."),
    Setting("WEFT_CLUSTER_DOMAIN", text, "cluster.local", "DNS suffix of Services."),
    Setting("WEFT_TRUST_DOMAIN", text, "", "Last part of identities; empty for the cluster domain."),
    Setting("WEFT_CONTROL_PLANE_NAMESPACE", text, "linkerd", "Namespace of the control plane; part of identities."),
    Setting(
        "WEFT_CLUSTER_NETWORKS",
        networks,
        DEFAULT_CLUSTER_NETWORKS,
        "CIDRs of pods and Services; addresses outside are reached directly.",
    ),
    Setting(
        "WEFT_DEFAULT_OPAQUE_PORTS",
        _port_set,
        DEFAULT_OPAQUE_PORTS,
        "Ports and a-b ranges that are opaque where no annotation speaks.",
    ),
    Setting(
        "WEFT_DEFAULT_INBOUND_POLICY",
        _default_policy,
        DefaultPolicy.ALL_UNAUTHENTICATED,
        "Who may reach a port that no policy speaks about.",
    ),
    Setting("WEFT_PROBE_NETWORKS", networks, EVERYWHERE, "CIDRs that may call declared HTTP probes unauthenticated."),
    Setting("WEFT_ENABLE_H2_UPGRADE", boolean, True, "Carry HTTP/1 between proxies as HTTP/2."),
    Setting(
        "WEFT_OUTBOUND_TRANSPORT_MODE",
        choice("transport-header", "transparent"),
        "transport-header",
        "transport-header: dial meshed peers at their inbound port; transparent: only for opaque ports.",
    ),
    Setting("WEFT_ENABLE_IPV6", boolean, False, "Tell of IPv6 endpoints, and prefer them where a pod has both."),
    Setting(
        "WEFT_GLOBAL_EGRESS_NETWORK_NAMESPACE",
        text,
        "linkerd-egress",
        "Whose egress networks govern clients of namespaces that have none.",
    ),
    Setting(
        "WEFT_REFERENCE_GRANTS",
        choice("required", "ignored"),
        "required",
        "required: Gateway API routes need a ReferenceGrant for backends of other namespaces; ignored: as in Linkerd.",
    ),
    Setting("WEFT_REDIS_URL", text, "", "Redis for endpoint snapshots, see docs/redis.md; empty keeps none."),
    Setting("WEFT_SNAPSHOT_TTL", _positive_duration, DEFAULT_SNAPSHOT_TTL, "How long an unchanged snapshot is kept."),
    Setting("WEFT_LOG_LEVEL", text, "info", "debug, info, warning or error."),
    Setting("WEFT_LOG_FORMAT", choice("json", "console"), "json", "json or console."),
)


@dataclass(frozen=True, slots=True)
class DestinationSettings:
    """Everything the process is told. mesh: what answers depend on."""

    grpc_port: int
    policy_port: int
    admin_port: int
    mesh: Mesh
    redis_url: str
    snapshot_ttl: timedelta
    log_level: str
    log_format: Literal["json", "console"]


def settings_from_environ(environ: Mapping[str, str]) -> DestinationSettings:
    """Raises SettingsError listing every mistake."""
    values = read_settings(TABLE, environ)
    mesh = Mesh(
        cluster_domain=values["WEFT_CLUSTER_DOMAIN"],
        trust_domain=values["WEFT_TRUST_DOMAIN"] or values["WEFT_CLUSTER_DOMAIN"],
        control_plane_namespace=values["WEFT_CONTROL_PLANE_NAMESPACE"],
        cluster_networks=values["WEFT_CLUSTER_NETWORKS"],
        probe_networks=values["WEFT_PROBE_NETWORKS"],
        default_opaque_ports=values["WEFT_DEFAULT_OPAQUE_PORTS"],
        default_policy=values["WEFT_DEFAULT_INBOUND_POLICY"],
        upgrades_to_h2=values["WEFT_ENABLE_H2_UPGRADE"],
        uses_ipv6=values["WEFT_ENABLE_IPV6"],
        global_egress_namespace=values["WEFT_GLOBAL_EGRESS_NETWORK_NAMESPACE"],
        requires_reference_grants=values["WEFT_REFERENCE_GRANTS"] == "required",
        uses_transport_header=values["WEFT_OUTBOUND_TRANSPORT_MODE"] == "transport-header",
    )
    return DestinationSettings(
        grpc_port=values["WEFT_GRPC_PORT"],
        policy_port=values["WEFT_POLICY_PORT"],
        admin_port=values["WEFT_ADMIN_PORT"],
        mesh=mesh,
        redis_url=values["WEFT_REDIS_URL"],
        snapshot_ttl=values["WEFT_SNAPSHOT_TTL"],
        log_level=values["WEFT_LOG_LEVEL"],
        log_format=values["WEFT_LOG_FORMAT"],
    )
