"""Which Server speaks about a port of a workload. Source: the Kubernetes contract, 3.4."""

from __future__ import annotations

from weft_policy.core.objects import ExternalWorkload, Pod
from weft_policy.core.policy_objects import Server, ServerProtocol
from weft_policy.core.policy_tables import PolicyTables, in_namespace


def server_for(tables: PolicyTables, workload: Pod | ExternalWorkload, port: int) -> Server | None:
    """The oldest Server that selects this port, by name among equals; later ones say nothing."""
    selecting = [
        server
        for server in in_namespace(tables.servers, workload.name.namespace)
        if _is_port(server.port, workload, port) and _selects(server, workload)
    ]
    return min(selecting, key=lambda server: (server.created, server.name), default=None)


def is_opaque_by_server(tables: PolicyTables, workload: Pod | ExternalWorkload, port: int) -> bool:
    """Whether the Server of a port says that it is opaque."""
    servers = in_namespace(tables.servers, workload.name.namespace)
    if not any(server.protocol is ServerProtocol.OPAQUE for server in servers):
        return False
    server = server_for(tables, workload, port)
    return server is not None and server.protocol is ServerProtocol.OPAQUE


def _selects(server: Server, workload: Pod | ExternalWorkload) -> bool:
    selector = server.pods if isinstance(workload, Pod) else server.workloads
    return selector is not None and selector.selects(workload.labels)


def _is_port(wanted: int | str, workload: Pod | ExternalWorkload, port: int) -> bool:
    named = workload.named_ports if isinstance(workload, Pod) else workload.ports
    return wanted == port if isinstance(wanted, int) else (wanted, port) in named
