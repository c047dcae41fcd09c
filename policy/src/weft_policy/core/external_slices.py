"""The EndpointSlices that external workloads need: Kubernetes writes those of pods alone.

Source: the Kubernetes contract, 5.3. As in Kubernetes' own controller, the endpoints of one slice share its ports and
its address family, so workloads that resolve a named port differently are in different slices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from weft_policy.core.objects import ExternalWorkload, Name

ENDPOINTS_PER_SLICE: Final = 100


@dataclass(frozen=True, slots=True)
class TargetPort:
    """A Service's port. target: a number, or the name of a port of the workload. app_protocol: None when unset."""

    name: str
    target: int | str
    app_protocol: str | None = None


@dataclass(frozen=True, slots=True)
class SelectingService:
    """A Service that finds its own endpoints. selector: never empty. families: IPv4, IPv6 or both. ports: TCP only."""

    name: Name
    uid: str
    selector: tuple[tuple[str, str], ...]
    ports: tuple[TargetPort, ...]
    families: tuple[str, ...] = ("IPv4",)
    is_headless: bool = False


@dataclass(frozen=True, slots=True)
class SlicePort:
    """A port of a slice, resolved."""

    name: str
    number: int
    app_protocol: str | None = None


@dataclass(frozen=True, slots=True)
class ExternalEndpoint:
    """hostname: for headless Services, else empty. zone: empty when unknown."""

    address: str
    workload: Name
    is_ready: bool
    zone: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class ExternalSlice:
    """What one slice should hold. endpoints: by name of their workload, at most ENDPOINTS_PER_SLICE."""

    family: str
    ports: tuple[SlicePort, ...]
    endpoints: tuple[ExternalEndpoint, ...]


def external_slices(service: SelectingService, workloads: Iterable[ExternalWorkload]) -> tuple[ExternalSlice, ...]:
    """Slices for the workloads that a Service selects. workloads: of its namespace.

    Left out: workloads without an address, and those that have none of the Service's ports.
    """
    found: defaultdict[tuple[str, tuple[SlicePort, ...]], list[ExternalEndpoint]] = defaultdict(list)
    for workload in sorted(workloads, key=lambda workload: workload.name):
        ports = _resolved(service, workload)
        if not ports or not set(service.selector) <= set(workload.labels):
            continue
        hostname = workload.name.name if service.is_headless else ""
        for address in workload.ips:
            endpoint = ExternalEndpoint(address, workload.name, workload.is_ready, workload.zone, hostname)
            found[_family(address), ports].append(endpoint)
    return tuple(
        ExternalSlice(family, ports, tuple(endpoints[start : start + ENDPOINTS_PER_SLICE]))
        for (family, ports), endpoints in sorted(found.items(), key=lambda item: repr(item[0]))
        if family in service.families
        for start in range(0, len(endpoints), ENDPOINTS_PER_SLICE)
    )


def _resolved(service: SelectingService, workload: ExternalWorkload) -> tuple[SlicePort, ...]:
    named = dict(workload.ports)
    numbers = (
        (port, port.target if isinstance(port.target, int) else named.get(port.target)) for port in service.ports
    )
    return tuple(SlicePort(port.name, number, port.app_protocol) for port, number in numbers if number)


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"
