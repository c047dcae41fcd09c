"""Which ports carry bytes the proxy must not interpret: the annotation the injector writes, and its meaning.

Grammar: ports, inclusive ranges and names of ports, separated by commas. An empty value means none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from weft_injector.core.grammar import PortRange, port_items, port_range
from weft_injector.core.json_value import JsonObject, object_at, objects_at
from weft_injector.core.names import OPAQUE_PORTS
from weft_injector.core.pod import Pod


def pod_annotation(pod: Pod, namespace_annotations: Mapping[str, str], defaults: str) -> str | None:
    """What to write on a pod; None when it has its own or nothing applies."""
    if OPAQUE_PORTS in pod.annotations:
        return None
    if OPAQUE_PORTS in namespace_annotations:
        return namespace_annotations[OPAQUE_PORTS]
    ranges = _ranges(defaults)
    found = [port.number for c in pod.all_containers() for port in c.ports if _within(port.number, ranges)]
    return _joined(found)


def service_annotation(
    service: JsonObject, annotations: Mapping[str, str], namespace_annotations: Mapping[str, str], defaults: str
) -> str | None:
    """What to write on a Service; None when it has its own or nothing applies. annotations: the Service's own."""
    if OPAQUE_PORTS in annotations:
        return None
    if OPAQUE_PORTS in namespace_annotations:
        return namespace_annotations[OPAQUE_PORTS]
    ranges = _ranges(defaults)
    found = []
    for port in objects_at(object_at(service, "spec"), "ports", "spec"):
        number, target = port.get("port"), port.get("targetPort")
        if not isinstance(number, int):
            continue
        # A named target says nothing about a number; 0 is how some clients write "unset".
        compared = number if target in {None, 0, ""} else target
        if isinstance(compared, int) and _within(compared, ranges):
            found.append(number)
    return _joined(found)


def resolved(value: str, pod: Pod) -> str:
    """The annotation's value with names of container ports as numbers. Items that mean nothing are left out."""
    numbers = {port.name: port.number for c in pod.all_containers() for port in c.ports if port.name}
    items = []
    for item in port_items(value):
        if item in numbers:
            items.append(str(numbers[item]))
            continue
        try:
            items.append(str(port_range(item)))
        except ValueError:
            continue
    return ",".join(items)


def _ranges(value: str) -> tuple[PortRange, ...]:
    ranges = []
    for item in port_items(value):
        try:
            ranges.append(port_range(item))
        except ValueError:
            continue
    return tuple(ranges)


def _within(number: int, ranges: Sequence[PortRange]) -> bool:
    return any(number in item for item in ranges)


def _joined(found: Sequence[int]) -> str | None:
    return ",".join(str(number) for number in found) if found else None
