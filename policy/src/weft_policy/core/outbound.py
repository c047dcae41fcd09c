"""How a client should send to a target: protocol, backend, resilience. Source: the wire contract, 2.6."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import AddressTarget, Refusal, RefusalCode, ServiceTarget
from weft_policy.core.objects import Name, Service, ServicePort
from weft_policy.core.profile import is_opaque_on_service
from weft_policy.core.resilience import Resilience, resilience_from_annotations


@unique
class OutboundProtocol(Enum):
    """What a client's proxy should expect on connections to a Service port."""

    DETECT = "detect"
    OPAQUE = "opaque"
    HTTP1 = "http1"
    HTTP2 = "http2"


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """Balance over a Service. authority: what to resolve for its endpoints, without port."""

    service: Name
    authority: str
    port: int
    protocol: OutboundProtocol
    resilience: Resilience


@dataclass(frozen=True, slots=True)
class ForbiddenPort:
    """The Service does not define the port: nothing may be sent to it."""

    service: Name
    port: int


@dataclass(frozen=True, slots=True)
class OutsideCluster:
    """Forward to the address itself."""

    ip: str
    port: int


OutboundAnswer = ServicePolicy | ForbiddenPort | OutsideCluster | Refusal


def outbound_policy_of(index: ClusterIndex, mesh: Mesh, target: ServiceTarget | AddressTarget) -> OutboundAnswer:
    """The policy for a target. NOT_FOUND tells the proxy to make its own, from the profile or the address."""
    if isinstance(target, ServiceTarget):
        service = None if target.instance else index.services.get(*target.service)
        if service is None:
            return Refusal(RefusalCode.NOT_FOUND, f"no service {mesh.authority_of(target.service)}")
        return _policy_of_service(index, mesh, service, target.port)
    services = index.services_at(target.ip)
    if services:
        return _policy_of_service(index, mesh, services[0], target.port)
    if mesh.is_inside(target.ip):
        return Refusal(RefusalCode.NOT_FOUND, f"no service has the address {target.ip}")
    return OutsideCluster(target.ip, target.port)


def protocol_of(port: ServicePort, *, is_opaque: bool) -> OutboundProtocol:
    """appProtocol beats the opaque-ports annotation; a word we do not know means bytes we do not understand."""
    match port.app_protocol:
        case None:
            return OutboundProtocol.OPAQUE if is_opaque else OutboundProtocol.DETECT
        case "http":
            return OutboundProtocol.HTTP1
        case "kubernetes.io/h2c":
            return OutboundProtocol.HTTP2
        case _:
            return OutboundProtocol.OPAQUE


def _policy_of_service(index: ClusterIndex, mesh: Mesh, service: Service, port: int) -> OutboundAnswer:
    defined = service.port_named_by(port)
    if defined is None:
        return ForbiddenPort(service.name, port)
    is_opaque = is_opaque_on_service(index, mesh, service, port)
    return ServicePolicy(
        service=service.name,
        authority=mesh.authority_of(service.name),
        port=port,
        protocol=protocol_of(defined, is_opaque=is_opaque),
        resilience=resilience_from_annotations(dict(service.annotations)),
    )
