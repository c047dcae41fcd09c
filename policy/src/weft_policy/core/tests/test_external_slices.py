"""Which slices external workloads get."""

from __future__ import annotations

from dataclasses import replace

from weft_policy.core.external_slices import (
    ENDPOINTS_PER_SLICE,
    SelectingService,
    SlicePort,
    TargetPort,
    external_slices,
)
from weft_policy.core.objects import ExternalWorkload, Name

SERVICE = SelectingService(Name("shop", "legacy"), "u1", (("app", "legacy"),), (TargetPort("http", 8080),))


def workload(name: str, *ips: str, app: str = "legacy", ready: bool = True, port: int = 8080) -> ExternalWorkload:
    labels = (("app", app), ("zone", "a"))
    ports = (("web", port),)
    return ExternalWorkload(Name("shop", name), ips, ports=ports, is_ready=ready, zone="a", labels=labels)


def test_a_selected_workload_is_an_endpoint_with_its_zone_and_readiness() -> None:
    (piece,) = external_slices(SERVICE, [workload("vm", "192.0.2.1", ready=False), workload("x", "192.0.2.2", app="x")])
    assert (piece.family, piece.ports) == ("IPv4", (SlicePort("http", 8080),))
    (endpoint,) = piece.endpoints
    assert (endpoint.address, endpoint.workload, endpoint.zone) == ("192.0.2.1", Name("shop", "vm"), "a")
    assert not endpoint.is_ready
    assert endpoint.hostname == ""


def test_workloads_without_addresses_or_ports_are_left_out() -> None:
    by_name = replace(SERVICE, ports=(TargetPort("http", "admin"),))
    assert external_slices(SERVICE, [workload("vm")]) == ()
    assert external_slices(by_name, [workload("vm", "192.0.2.1")]) == ()


def test_a_named_port_that_differs_divides_the_slices() -> None:
    by_name = replace(SERVICE, ports=(TargetPort("http", "web"),))
    found = external_slices(by_name, [workload("a", "192.0.2.1"), workload("b", "192.0.2.2", port=9090)])
    numbers = {endpoint.workload.name: piece.ports[0].number for piece in found for endpoint in piece.endpoints}
    assert numbers == {"a": 8080, "b": 9090}


def test_each_family_of_the_service_has_slices_of_its_own() -> None:
    both = workload("vm", "192.0.2.1", "2001:db8::1")
    assert [piece.family for piece in external_slices(SERVICE, [both])] == ["IPv4"]
    dual = replace(SERVICE, families=("IPv4", "IPv6"))
    assert [piece.family for piece in external_slices(dual, [both])] == ["IPv4", "IPv6"]


def test_slices_are_cut_and_headless_endpoints_are_named() -> None:
    many = [workload(f"vm-{number:03}", f"192.0.2.{number}") for number in range(ENDPOINTS_PER_SLICE + 1)]
    full, rest = external_slices(replace(SERVICE, is_headless=True), many)
    assert len(full.endpoints) == ENDPOINTS_PER_SLICE
    assert [endpoint.hostname for endpoint in rest.endpoints] == ["vm-100"]
