"""Which endpoints a target has for a client, and how to speak to each. Source: the wire contract, 2.4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, unique
from typing import Final, NamedTuple, assert_never

from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import Refusal, RefusalCode, ServiceTarget
from weft_policy.core.objects import ExternalWorkload, Name, Pod, Service, Slice, SliceEndpoint
from weft_policy.core.servers import is_opaque_by_server

DEFAULT_WEIGHT: Final = 10_000


class Address(NamedTuple):
    """Where an endpoint listens; ip in canonical spelling."""

    ip: str
    port: int


@unique
class ProtocolHint(Enum):
    """What the proxy at an endpoint understands beyond the application's protocol."""

    NONE = "none"
    H2 = "h2"
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to speak to one address. labels: sorted pairs. identity: None for plaintext; a DNS name or a SPIFFE URI.

    server_name: what to ask for in the TLS handshake; empty for the identity.

    inbound_port: dial this port of the same address with a transport header; None dials the address itself.
    is_meshed: a proxy that takes our HTTP/2 parameters stands behind it.
    """

    labels: tuple[tuple[str, str], ...] = ()
    identity: str | None = None
    server_name: str = ""
    hint: ProtocolHint = ProtocolHint.NONE
    inbound_port: int | None = None
    is_meshed: bool = False


BARE_ENDPOINT: Final = Endpoint()


@dataclass(frozen=True, slots=True)
class EndpointSet:
    """A target's endpoints. service: whom the set labels name. exists: whether the Service does."""

    service: Name
    exists: bool
    endpoints: Mapping[Address, Endpoint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Locality:
    """Where the client is, as far as endpoints of a Service depend on it. node: only set for node-local Services."""

    zone: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    address: Address
    endpoint: SliceEndpoint
    behind: Pod | ExternalWorkload | None


def locality_for(index: ClusterIndex, service: Name, client_node: str) -> Locality:
    """Forget what the answer will not depend on, so that clients share answers."""
    found = index.services.get(*service)
    return Locality(index.zone_of(client_node), client_node if found and found.is_node_local else "")


def endpoints_of(index: ClusterIndex, mesh: Mesh, target: ServiceTarget, locality: Locality) -> EndpointSet | Refusal:
    """The endpoints of a target. A Service that does not exist gives an empty set."""
    service = index.services.get(*target.service)
    if service is None:
        return EndpointSet(target.service, exists=False)
    if service.is_external_name:
        name = mesh.authority_of(target.service)
        return Refusal(RefusalCode.INVALID_ARGUMENT, f"{name} is an ExternalName Service: it has no endpoints")
    candidates = list(_candidates(index, mesh, service, target))
    if service.is_node_local:
        candidates = [
            found for found in candidates if isinstance(found.behind, Pod) and found.behind.node == locality.node
        ]
    candidates = _near(candidates, locality.zone)
    return EndpointSet(
        target.service,
        exists=True,
        endpoints={
            found.address: _endpoint(index, mesh, found.address.port, found.behind, found.endpoint.zone, locality.zone)
            for found in candidates
        },
    )


def endpoint_at_address(
    index: ClusterIndex, mesh: Mesh, behind: Pod | ExternalWorkload, port: int, client_zone: str
) -> Endpoint:
    """How to speak to one port of what was found by its address; labelled with its namespace too."""
    found = _endpoint(index, mesh, port, behind, "", client_zone)
    return replace(found, labels=tuple(sorted((*found.labels, ("namespace", behind.name.namespace)))))


def is_opaque_on(index: ClusterIndex, mesh: Mesh, behind: Pod | ExternalWorkload, port: int) -> bool:
    """Whether a pod or workload treats a port as opaque: its annotation, its namespace's, else the default list; or its
    Server."""
    opaque_ports = index.opaque_ports_of(behind.opaque_ports, behind.name.namespace)
    if port in (mesh.default_opaque_ports if opaque_ports is None else opaque_ports):
        return True
    return is_opaque_by_server(index.policy, behind, port)


def instance_named(index: ClusterIndex, mesh: Mesh, target: ServiceTarget) -> Pod | ExternalWorkload | None:
    """What stands behind `<instance>.<service>`."""
    service = index.services.get(*target.service)
    if service is None:
        return None
    return next((found.behind for found in _candidates(index, mesh, service, target) if found.behind), None)


def _candidates(index: ClusterIndex, mesh: Mesh, service: Service, target: ServiceTarget) -> Iterator[_Candidate]:
    """Once for each address, and once for each pod: as IPv6 where it has both families."""
    slices = [piece for piece in index.slices_of(service.name) if mesh.uses_ipv6 or not piece.is_ipv6]
    seen: set[Name] = set()
    for is_ipv6 in (True, False):
        pieces = [piece for piece in slices if piece.is_ipv6 is is_ipv6]
        found = list(_candidates_in(index, service, target, pieces))
        yield from (each for each in found if each.behind is None or each.behind.name not in seen)
        seen.update(each.behind.name for each in found if each.behind is not None)


def _candidates_in(
    index: ClusterIndex, service: Service, target: ServiceTarget, pieces: list[Slice]
) -> Iterator[_Candidate]:
    defined = service.port_named_by(target.port)
    for piece in pieces:
        # A number the Service does not define is taken as the port of the pods themselves.
        port = dict(piece.ports).get(defined.name) if defined else target.port
        if port is None:
            continue
        for endpoint in piece.endpoints:
            if target.instance and endpoint.hostname != target.instance:
                continue
            behind: Pod | ExternalWorkload | None = None
            if endpoint.pod:
                behind = index.pods.get(*endpoint.pod)
            elif endpoint.workload:
                behind = index.external_workloads.get(*endpoint.workload)
            if (endpoint.pod or endpoint.workload) and behind is None:
                # Its identity is unknown until it arrives, and its arrival re-makes this answer.
                continue
            for ip in endpoint.addresses:
                yield _Candidate(Address(ip, port), endpoint, behind)


def _near(candidates: list[_Candidate], zone: str) -> list[_Candidate]:
    """Those hinted for the zone; all of them when any has no hints, or when none would be left."""
    if any(found.endpoint.zone_hints is None for found in candidates):
        return candidates
    return [found for found in candidates if zone in (found.endpoint.zone_hints or ())] or candidates


def _endpoint(
    index: ClusterIndex,
    mesh: Mesh,
    port: int,
    behind: Pod | ExternalWorkload | None,
    slice_zone: str,
    client_zone: str,
) -> Endpoint:
    match behind:
        case None:
            return BARE_ENDPOINT
        case ExternalWorkload():
            return _endpoint_of_workload(index, mesh, port, behind, slice_zone or behind.zone, client_zone)
        case Pod():
            return _endpoint_of_pod(index, mesh, port, behind, slice_zone, client_zone)
        case _:
            assert_never(behind)


def _endpoint_of_workload(
    index: ClusterIndex, mesh: Mesh, port: int, workload: ExternalWorkload, zone: str, client_zone: str
) -> Endpoint:
    labels = {"external_workload": workload.name.name, "zone": zone, "zone_locality": _locality(zone, client_zone)}
    if workload.owner is not None:
        labels[workload.owner.kind.lower()] = workload.owner.name
    opaque = is_opaque_on(index, mesh, workload, port)
    return Endpoint(
        labels=tuple(sorted(labels.items())),
        identity=workload.identity,
        server_name=workload.server_name,
        hint=ProtocolHint.OPAQUE if opaque else ProtocolHint.H2 if mesh.upgrades_to_h2 else ProtocolHint.NONE,
        inbound_port=workload.inbound_port if opaque or mesh.uses_transport_header else None,
        is_meshed=True,
    )


def _endpoint_of_pod(
    index: ClusterIndex, mesh: Mesh, port: int, pod: Pod, slice_zone: str, client_zone: str
) -> Endpoint:
    zone = slice_zone or index.zone_of(pod.node)
    labels = _labels(index, pod, zone, client_zone)
    if not pod.mesh or port in pod.skip_inbound_ports:
        return Endpoint(labels=labels)
    opaque = is_opaque_on(index, mesh, pod, port)
    return Endpoint(
        labels=labels,
        identity=(
            mesh.identity_of(Name(pod.name.namespace, pod.service_account))
            if pod.mesh == mesh.control_plane_namespace
            else None
        ),
        hint=ProtocolHint.OPAQUE if opaque else ProtocolHint.H2 if mesh.upgrades_to_h2 else ProtocolHint.NONE,
        inbound_port=_transport_port(mesh, pod, port, opaque),
        is_meshed=True,
    )


def _transport_port(mesh: Mesh, pod: Pod, port: int, opaque: bool) -> int | None:
    # The proxy's own servers do not sit behind its inbound port.
    if pod.proxy is None or port in (pod.proxy.admin, pod.proxy.control):
        return None
    return pod.proxy.inbound if opaque or mesh.uses_transport_header else None


def _labels(index: ClusterIndex, pod: Pod, zone: str, client_zone: str) -> tuple[tuple[str, str], ...]:
    labels = {
        "pod": pod.name.name,
        "serviceaccount": pod.service_account,
        "zone": zone,
        "zone_locality": _locality(zone, client_zone),
    }
    if pod.mesh:
        labels["control_plane_ns"] = pod.mesh
    if pod.pod_template_hash:
        labels["pod_template_hash"] = pod.pod_template_hash
    if pod.owner is not None:
        kind, name = owner_label(index, pod)
        labels[kind] = name
    return tuple(sorted(labels.items()))


def _locality(zone: str, client_zone: str) -> str:
    if not zone or not client_zone:
        return "unknown"
    return "local" if zone == client_zone else "remote"


def owner_label(index: ClusterIndex, pod: Pod) -> tuple[str, str]:
    """What people call the pod's owner: the Deployment, not its ReplicaSet; the pod itself when it has none."""
    if pod.owner is None:
        return "pod", pod.name.name
    kind, name = pod.owner.kind.lower(), pod.owner.name
    if kind == "replicaset":
        found = index.replica_sets.get(pod.name.namespace, name)
        if found and found.deployment:
            return "deployment", found.deployment
    # "job" is what Prometheus calls the scrape job.
    return ("k8s_job" if kind == "job" else kind), name
