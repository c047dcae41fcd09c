"""Which server answers on a port of a workload, and whom it admits. Source: the wire contract, 3."""

from __future__ import annotations

from dataclasses import dataclass

from weft_policy.core.authorization import (
    POLICY_GROUP,
    Authorization,
    Source,
    default_authorizations,
    default_source,
    server_authorizations,
)
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import Refusal, RefusalCode
from weft_policy.core.objects import DefaultPolicy, Name, Pod
from weft_policy.core.policy_objects import Server, ServerProtocol
from weft_policy.core.policy_tables import PolicyTables, in_namespace


@dataclass(frozen=True, slots=True)
class InboundServer:
    """One port. No authorizations deny everybody. probe_paths: paths that kubelets may GET, sorted."""

    source: Source
    protocol: ServerProtocol
    authorizations: tuple[Authorization, ...]
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
    probe_paths = tuple(sorted({path for probed, path in pod.probes if probed == port}))
    server = server_for(index.policy, pod, port)
    if server is not None:
        return InboundServer(
            source=Source(POLICY_GROUP, "server", server.name.name),
            protocol=server.protocol,
            authorizations=server_authorizations(index.policy, mesh, server),
            probe_paths=probe_paths,
        )
    opaque_ports = index.opaque_ports_of(pod.opaque_ports, workload.namespace)
    is_opaque = opaque_ports is not None and port in opaque_ports
    policy = default_policy_for(index, mesh, pod, port)
    return InboundServer(
        source=default_source(policy),
        protocol=ServerProtocol.OPAQUE if is_opaque else ServerProtocol.DETECT,
        authorizations=default_authorizations(policy, mesh),
        probe_paths=probe_paths,
    )


def server_for(tables: PolicyTables, pod: Pod, port: int) -> Server | None:
    """The oldest Server that selects this port of the pod, by name among equals; later ones say nothing."""
    selecting = [
        server
        for server in in_namespace(tables.servers, pod.name.namespace)
        if server.pods is not None and server.pods.selects(pod.labels) and _is_port(server.port, pod, port)
    ]
    return min(selecting, key=lambda server: (server.created, server.name), default=None)


def default_policy_for(index: ClusterIndex, mesh: Mesh, pod: Pod, port: int) -> DefaultPolicy:
    """The pod's annotation, else its namespace's, else the cluster's; identity forced where the pod asks for it."""
    namespace = index.namespaces.get("", pod.name.namespace)
    policy = pod.default_policy or (namespace.default_policy if namespace else None) or mesh.default_policy
    return _AUTHENTICATED.get(policy, policy) if port in pod.require_identity_ports else policy


def _is_port(wanted: int | str, pod: Pod, port: int) -> bool:
    return wanted == port if isinstance(wanted, int) else (wanted, port) in pod.named_ports
