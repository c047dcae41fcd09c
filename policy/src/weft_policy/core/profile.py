"""What a destination is: a Service, one endpoint, or nothing known. Source: the wire contract, 2.5."""

from __future__ import annotations

from dataclasses import dataclass

from weft_policy.core.endpoints import (
    BARE_ENDPOINT,
    Address,
    Endpoint,
    endpoint_at_address,
    instance_named,
    is_opaque_on,
)
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import AddressTarget, Refusal, RefusalCode, ServiceTarget
from weft_policy.core.objects import ExternalWorkload, Name, Pod, Service
from weft_policy.core.service_profiles import ServiceProfile


@dataclass(frozen=True, slots=True)
class ServiceProfileAnswer:
    """A defined port of a Service. profile: the ServiceProfile that speaks about it, None for the default."""

    authority: str
    service: Name
    port: int
    is_opaque: bool
    profile: ServiceProfile | None = None


@dataclass(frozen=True, slots=True)
class EndpointProfileAnswer:
    """One address, described as far as it is known."""

    address: Address
    endpoint: Endpoint
    is_opaque: bool


@dataclass(frozen=True, slots=True)
class UndefinedPort:
    """The Service exists and does not define the port; the outbound policy says what to do."""


ProfileAnswer = ServiceProfileAnswer | EndpointProfileAnswer | UndefinedPort | Refusal


def profile_of(
    index: ClusterIndex,
    mesh: Mesh,
    target: ServiceTarget | AddressTarget,
    client_zone: str,
    client_namespace: str = "",
) -> ProfileAnswer:
    """Say what a client at a zone will find at a target."""
    if isinstance(target, AddressTarget):
        return _profile_of_address(index, mesh, target, client_zone, client_namespace)
    if target.instance:
        instance = instance_named(index, mesh, target)
        if instance is None:
            return Refusal(RefusalCode.NOT_FOUND, f"{target.instance}.{mesh.authority_of(target.service)} has no pod")
        return _profile_of(index, mesh, instance, target.port, client_zone)
    service = index.services.get(*target.service)
    if service is None:
        # UNKNOWN, because NOT_FOUND would be final while a Service may yet be created.
        return Refusal(RefusalCode.UNKNOWN, f"service {mesh.authority_of(target.service)} does not exist")
    if service.is_external_name:
        name = mesh.authority_of(target.service)
        return Refusal(RefusalCode.INVALID_ARGUMENT, f"{name} is an ExternalName Service: it has no profile")
    return _profile_of_service(index, mesh, service, target.port, client_namespace)


def is_opaque_on_service(index: ClusterIndex, mesh: Mesh, service: Service, port: int) -> bool:
    """Whether a Service's port is opaque: its annotation, its namespace's, else the default list."""
    opaque_ports = index.opaque_ports_of(service.opaque_ports, service.name.namespace)
    return port in (mesh.default_opaque_ports if opaque_ports is None else opaque_ports)


def _profile_of_service(
    index: ClusterIndex, mesh: Mesh, service: Service, port: int, client_namespace: str
) -> ProfileAnswer:
    if service.port_named_by(port) is None:
        return UndefinedPort()
    authority = mesh.authority_of(service.name)
    # A client's namespace may hold its own view of a Service.
    own = index.profiles.get(client_namespace, authority) or index.profiles.get(service.name.namespace, authority)
    is_opaque = is_opaque_on_service(index, mesh, service, port)
    return ServiceProfileAnswer(authority, service.name, port, is_opaque, own)


def _profile_of_address(
    index: ClusterIndex, mesh: Mesh, target: AddressTarget, client_zone: str, client_namespace: str
) -> ProfileAnswer:
    services = index.services_at(target.ip)
    if len(services) > 1:
        names = ", ".join(mesh.authority_of(service.name) for service in services)
        return Refusal(RefusalCode.FAILED_PRECONDITION, f"{target.ip} is the address of {names}")
    if services:
        return _profile_of_service(index, mesh, services[0], target.port, client_namespace)
    pods = index.running_pods_at(target.ip)
    port = target.port
    if not pods:
        pods = index.running_pods_at_host_port(target.ip, target.port)
        port = next((_container_port(pod, target) for pod in pods), target.port)
    if len(pods) > 1:
        names = ", ".join("/".join(pod.name) for pod in pods)
        return Refusal(RefusalCode.FAILED_PRECONDITION, f"{target.ip}:{target.port} is the address of pods {names}")
    if pods:
        return _profile_of(index, mesh, pods[0], port, client_zone)
    workloads = index.workloads_at(target.ip)
    if len(workloads) > 1:
        names = ", ".join("/".join(workload.name) for workload in workloads)
        return Refusal(RefusalCode.FAILED_PRECONDITION, f"{target.ip} is the address of external workloads {names}")
    if workloads:
        return EndpointProfileAnswer(
            Address(target.ip, target.port),
            endpoint_at_address(index, mesh, workloads[0], target.port, client_zone),
            is_opaque_on(index, mesh, workloads[0], target.port),
        )
    is_opaque = target.port in mesh.default_opaque_ports
    return EndpointProfileAnswer(Address(target.ip, target.port), BARE_ENDPOINT, is_opaque)


def _container_port(pod: Pod, target: AddressTarget) -> int:
    return next(
        published.container_port
        for published in pod.host_ports
        if published.host_port == target.port and published.host_ip in ("", target.ip)
    )


def _profile_of(
    index: ClusterIndex, mesh: Mesh, behind: Pod | ExternalWorkload, port: int, client_zone: str
) -> ProfileAnswer:
    ips = [ip for ip in behind.ips if mesh.uses_ipv6 or ":" not in ip]
    if not ips:
        return Refusal(RefusalCode.NOT_FOUND, f"{'/'.join(behind.name)} has no address yet")
    # Always its own address: behind a node's port there is no inbound proxy port to dial.
    return EndpointProfileAnswer(
        Address(ips[0], port),
        endpoint_at_address(index, mesh, behind, port, client_zone),
        is_opaque_on(index, mesh, behind, port),
    )
