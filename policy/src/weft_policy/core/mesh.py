"""What is true of the whole mesh and configured once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from weft_policy.core.objects import DefaultPolicy, Name
from weft_policy.core.ports import PortSet

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_OPAQUE_PORTS: Final = PortSet.of((25, 587, 3306, 4444, 5432, 6379, 9300, 11211))
DEFAULT_CLUSTER_NETWORKS: Final[tuple[IpNetwork, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
)
EVERYWHERE: Final[tuple[IpNetwork, ...]] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@dataclass(frozen=True, slots=True)
class Mesh:
    """uses_transport_header: meshed endpoints are dialled at their inbound port with a header naming the real one.

    uses_ipv6: endpoints of that family are told, and preferred where a pod has both.
    global_egress_namespace: its egress networks govern clients of namespaces that have none of their own.
    requires_reference_grants: Gateway API routes may name Services of other namespaces only where a grant says so.
    """

    cluster_domain: str = "cluster.local"
    trust_domain: str = "cluster.local"
    control_plane_namespace: str = "linkerd"
    cluster_networks: tuple[IpNetwork, ...] = DEFAULT_CLUSTER_NETWORKS
    probe_networks: tuple[IpNetwork, ...] = EVERYWHERE
    default_opaque_ports: PortSet = DEFAULT_OPAQUE_PORTS
    default_policy: DefaultPolicy = DefaultPolicy.ALL_UNAUTHENTICATED
    upgrades_to_h2: bool = True
    uses_transport_header: bool = True
    uses_ipv6: bool = False
    global_egress_namespace: str = "linkerd-egress"
    requires_reference_grants: bool = True

    def identity_of(self, service_account: Name) -> str:
        """The mesh identity of a service account."""
        namespace, name = service_account
        return f"{name}.{namespace}.serviceaccount.identity.{self.control_plane_namespace}.{self.trust_domain}"

    def authority_of(self, service: Name) -> str:
        """A Service's fully qualified name."""
        return f"{service.name}.{service.namespace}.svc.{self.cluster_domain}"

    def is_inside(self, ip: str) -> bool:
        """Whether an address belongs to the cluster's networks."""
        address = ipaddress.ip_address(ip)
        return any(address in network for network in self.cluster_networks)
