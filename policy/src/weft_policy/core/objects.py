"""Cluster objects as values: only the fields that an answer can depend on.

A field that no answer needs is left out on purpose: two versions of an object that differ elsewhere are equal here, and
an update between them wakes nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, NamedTuple

from weft_policy.core.ports import NO_PORTS, PortSet


class Name(NamedTuple):
    """Namespace and name; the namespace is empty for cluster-scoped kinds."""

    namespace: str
    name: str


@unique
class DefaultPolicy(Enum):
    """Who may reach a port that no policy object speaks about. The value is the annotation's word."""

    ALL_UNAUTHENTICATED = "all-unauthenticated"
    ALL_AUTHENTICATED = "all-authenticated"
    CLUSTER_UNAUTHENTICATED = "cluster-unauthenticated"
    CLUSTER_AUTHENTICATED = "cluster-authenticated"
    DENY = "deny"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """name: empty when the port has none. app_protocol: None when unset."""

    port: int
    name: str = ""
    app_protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """cluster_ips: without the None of headless Services. ports: TCP only. opaque_ports: None without annotation.

    annotations: those of retries, timeouts and load balancing, sorted pairs.
    """

    name: Name
    cluster_ips: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    is_external_name: bool = False
    is_node_local: bool = False
    opaque_ports: PortSet | None = None
    annotations: tuple[tuple[str, str], ...] = ()

    def port_named_by(self, number: int) -> ServicePort | None:
        """The defined port with this number."""
        return next((port for port in self.ports if port.port == number), None)


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    """One ready endpoint. pod, workload: what stands behind it, if anything does. zone_hints: None when unset."""

    addresses: tuple[str, ...]
    pod: Name | None = None
    workload: Name | None = None
    hostname: str = ""
    zone: str = ""
    zone_hints: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """An EndpointSlice. service: whom it belongs to. ports: (name, number). endpoints: ready ones, slice order.

    is_ipv6: every address is of that family; otherwise none is.
    """

    name: Name
    service: Name
    ports: tuple[tuple[str, int], ...] = ()
    endpoints: tuple[SliceEndpoint, ...] = ()
    is_ipv6: bool = False


@dataclass(frozen=True, slots=True)
class ProxyPorts:
    """Where a pod's own proxy listens. admin, control: None when the proxy does not say.

    is_linkerds: its image is Linkerd's, so it knows nothing that Weft adds.
    """

    inbound: int
    admin: int | None = None
    control: int | None = None
    is_linkerds: bool = False


@dataclass(frozen=True, slots=True)
class HostPort:
    """A container port published on the node. host_ip: empty for every address of the node."""

    host_ip: str
    host_port: int
    container_port: int


@dataclass(frozen=True, slots=True)
class Owner:
    """What made a pod. kind: as in the API, such as ReplicaSet."""

    kind: str
    name: str


GRPC_HEALTH_PATH: Final = "/grpc.health.v1.Health/Check"
"""What a kubelet's gRPC probe calls; always a POST. Source: grpc/grpc, doc/health-checking.md."""


@dataclass(frozen=True, slots=True)
class Pod:
    """mesh: the control-plane namespace of its label, empty when unmeshed. probes: sorted (port, path), where
    GRPC_HEALTH_PATH stands for a gRPC probe.

    opaque_ports, default_policy: None without annotation. ips: empty until assigned. labels: sorted pairs.
    named_ports: (name, number) of TCP container ports; a name may stand for several.
    """

    name: Name
    ips: tuple[str, ...] = ()
    host_ip: str = ""
    is_host_network: bool = False
    is_running: bool = True
    service_account: str = "default"
    node: str = ""
    mesh: str = ""
    pod_template_hash: str = ""
    owner: Owner | None = None
    proxy: ProxyPorts | None = None
    host_ports: tuple[HostPort, ...] = ()
    probes: tuple[tuple[int, str], ...] = ()
    opaque_ports: PortSet | None = None
    skip_inbound_ports: PortSet = NO_PORTS
    require_identity_ports: PortSet = NO_PORTS
    default_policy: DefaultPolicy | None = None
    labels: tuple[tuple[str, str], ...] = ()
    named_ports: frozenset[tuple[str, int]] = frozenset()


DEFAULT_INBOUND_PORT: Final = 4143


@dataclass(frozen=True, slots=True)
class ExternalWorkload:
    """A meshed process outside the cluster. identity: a SPIFFE URI or a DNS name. ports: (name, number).

    inbound_port: where its proxy listens. opaque_ports, default_policy: None without annotation. labels: sorted pairs.
    """

    name: Name
    ips: tuple[str, ...] = ()
    identity: str = ""
    server_name: str = ""
    ports: tuple[tuple[str, int], ...] = ()
    inbound_port: int = DEFAULT_INBOUND_PORT
    is_ready: bool = False
    owner: Owner | None = None
    zone: str = ""
    opaque_ports: PortSet | None = None
    default_policy: DefaultPolicy | None = None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Namespace:
    """Defaults for what lives in it; None without annotation."""

    name: str
    opaque_ports: PortSet | None = None
    default_policy: DefaultPolicy | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """zone: empty when unlabelled."""

    name: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """deployment: empty when no Deployment owns it."""

    name: Name
    deployment: str = ""
