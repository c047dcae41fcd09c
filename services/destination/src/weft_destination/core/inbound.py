"""Who may reach a port of a workload when no policy object speaks about it. Source: the wire contract, 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from weft_destination.core.index import ClusterIndex
from weft_destination.core.mesh import EVERYWHERE, IpNetwork, Mesh
from weft_destination.core.names import Refusal, RefusalCode
from weft_destination.core.objects import DefaultPolicy, Name, Pod


@dataclass(frozen=True, slots=True)
class Authorization:
    """Clients from these networks may connect. needs_identity: any mesh identity, else anybody."""

    networks: tuple[IpNetwork, ...]
    needs_identity: bool


@dataclass(frozen=True, slots=True)
class InboundServer:
    """One port. authorization: None denies everybody. probe_paths: paths that kubelets may GET, sorted."""

    policy: DefaultPolicy
    is_opaque: bool
    authorization: Authorization | None
    probe_paths: tuple[str, ...]


InboundAnswer = InboundServer | Refusal

_AUTHENTICATED = {
    DefaultPolicy.ALL_UNAUTHENTICATED: DefaultPolicy.ALL_AUTHENTICATED,
    DefaultPolicy.CLUSTER_UNAUTHENTICATED: DefaultPolicy.CLUSTER_AUTHENTICATED,
}


def inbound_server_of(index: ClusterIndex, mesh: Mesh, workload: Name, port: int) -> InboundAnswer:
    """The server on a port of a meshed pod. NOT_FOUND for anything else: the proxy asks again."""
    pod = index.pods.get(*workload)
    if pod is None or not pod.mesh:
        return Refusal(RefusalCode.NOT_FOUND, f"unknown server: no meshed pod {workload.namespace}/{workload.name}")
    opaque_ports = index.opaque_ports_of(pod.opaque_ports, workload.namespace)
    policy = default_policy_for(index, mesh, pod, port)
    return InboundServer(
        policy=policy,
        is_opaque=opaque_ports is not None and port in opaque_ports,
        authorization=authorization_of(policy, mesh),
        probe_paths=tuple(sorted({path for probed, path in pod.probes if probed == port})),
    )


def default_policy_for(index: ClusterIndex, mesh: Mesh, pod: Pod, port: int) -> DefaultPolicy:
    """The pod's annotation, else its namespace's, else the cluster's; identity forced where the pod asks for it."""
    namespace = index.namespaces.get("", pod.name.namespace)
    policy = pod.default_policy or (namespace.default_policy if namespace else None) or mesh.default_policy
    return _AUTHENTICATED.get(policy, policy) if port in pod.require_identity_ports else policy


def authorization_of(policy: DefaultPolicy, mesh: Mesh) -> Authorization | None:
    """What a default policy permits."""
    match policy:
        case DefaultPolicy.ALL_UNAUTHENTICATED | DefaultPolicy.AUDIT:
            return Authorization(EVERYWHERE, needs_identity=False)
        case DefaultPolicy.ALL_AUTHENTICATED:
            return Authorization(EVERYWHERE, needs_identity=True)
        case DefaultPolicy.CLUSTER_UNAUTHENTICATED:
            return Authorization(mesh.cluster_networks, needs_identity=False)
        case DefaultPolicy.CLUSTER_AUTHENTICATED:
            return Authorization(mesh.cluster_networks, needs_identity=True)
        case DefaultPolicy.DENY:
            return None
        case _:
            assert_never(policy)
