"""EndpointSlices and Endpoints: which pods stand behind a Service, and on which port of each.

One slice per combination of resolved ports. A slice holds all its endpoints: one machine runs far fewer pods than the
hundred at which a cluster would start another slice.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from weft_common.kube.resource import ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES, ObjectKey, key_of

from weft_local.controllers.core.objects import (
    content_hash,
    is_finished,
    is_ready,
    is_terminating,
    owned_by,
    ref,
)
from weft_local.controllers.core.plan import NOTHING, Action, Create, Delete, Patch, Plan
from weft_local.controllers.core.world import Object, World

SERVICE_LABEL: Final = "kubernetes.io/service-name"
HEADLESS_LABEL: Final = "service.kubernetes.io/headless"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
MANAGER: Final = "endpointslice-controller.k8s.io"


@dataclass(frozen=True, slots=True)
class _Port:
    name: str
    protocol: str
    port: int
    app_protocol: str | None

    def as_object(self, *, always_named: bool) -> Object:
        shown: Object = {"port": self.port, "protocol": self.protocol}
        if self.name or always_named:
            shown["name"] = self.name
        if self.app_protocol:
            shown["appProtocol"] = self.app_protocol
        return shown


def reconcile(world: World, key: ObjectKey) -> Plan:
    """Make the slices and the Endpoints object of a Service equal to what its selector finds now."""
    service = world.get(SERVICES, key)
    if service is None or is_terminating(service):
        return NOTHING
    spec = service["spec"]
    # Without a selector somebody else writes the endpoints.
    if not spec.get("selector") or spec.get("type") == "ExternalName":
        return NOTHING
    groups: dict[tuple[_Port, ...], list[Object]] = {}
    for pod in world.all(PODS, key.namespace):
        labels = pod["metadata"].get("labels") or {}
        if not spec["selector"].items() <= labels.items() or is_finished(pod) or not _address(pod):
            continue
        groups.setdefault(_resolved_ports(spec, pod), []).append(pod)
    return Plan((*_slice_actions(world, service, groups), *_endpoints_actions(world, service, groups)))


def _resolved_ports(spec: Mapping[str, Any], pod: Object) -> tuple[_Port, ...]:
    """Ports of the Service as this pod has them; a named port the pod lacks is left out."""
    found = []
    for port in spec.get("ports") or ():
        protocol = port.get("protocol", "TCP")
        number = _target(port, protocol, pod)
        if number is not None:
            found.append(_Port(port.get("name", ""), protocol, number, port.get("appProtocol")))
    return tuple(found)


def _target(port: Mapping[str, Any], protocol: str, pod: Object) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    sidecars = [one for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for container in [*pod["spec"]["containers"], *sidecars]:
        for declared in container.get("ports") or ():
            if declared.get("name") == target and declared.get("protocol", "TCP") == protocol:
                return int(declared["containerPort"])
    return int(target) if target.isdigit() else None


def _slice_actions(world: World, service: Object, groups: Mapping[tuple[_Port, ...], list[Object]]) -> list[Action]:
    metadata = service["metadata"]
    present = [
        one
        for one in world.children(ENDPOINT_SLICES, service)
        if (one["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER and not is_terminating(one)
    ]
    wanted: dict[str, Object] = {}
    # A Service that selects nobody still has one slice, which says so.
    for ports, pods in (groups or {(): []}).items():
        name = f"{metadata['name']}-{content_hash([metadata['uid'], *map(str, ports)])[:5]}"
        labels = {**(metadata.get("labels") or {}), SERVICE_LABEL: metadata["name"], MANAGED_BY: MANAGER}
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS_LABEL] = ""
        wanted[name] = {
            "apiVersion": ENDPOINT_SLICES.api_version,
            "kind": ENDPOINT_SLICES.kind,
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": labels,
                "ownerReferences": owned_by(SERVICES, service),
            },
            "addressType": "IPv4",
            "endpoints": [_endpoint(pod, service) for pod in pods],
            "ports": [port.as_object(always_named=True) for port in ports],
        }
    actions: list[Action] = []
    have = {key_of(one).name: one for one in present}
    # New slices come before old ones go, so that a change of ports never shows an empty Service.
    for name, slice_ in wanted.items():
        if name not in have:
            actions.append(Create(ENDPOINT_SLICES, slice_))
        elif difference := _difference(have[name], slice_, ("endpoints", "ports")):
            actions.append(Patch(ENDPOINT_SLICES, key_of(slice_), difference))
    actions += [Delete(ENDPOINT_SLICES, *ref(one)) for name, one in have.items() if name not in wanted]
    return actions


def _endpoint(pod: Object, service: Object) -> Object:
    serving = is_ready(pod)
    terminating = is_terminating(pod)
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Object = {
        "addresses": [_address(pod)],
        "conditions": {
            "ready": published or (serving and not terminating),
            "serving": published or serving,
            "terminating": terminating,
        },
        "targetRef": _target_ref(pod),
    }
    if node := pod["spec"].get("nodeName"):
        endpoint["nodeName"] = node
    if hostname := _hostname(pod, service):
        endpoint["hostname"] = hostname
    return endpoint


def _endpoints_actions(world: World, service: Object, groups: Mapping[tuple[_Port, ...], list[Object]]) -> list[Action]:
    """The older Endpoints object, which unmodified clients and `kubectl describe service` still read."""
    metadata = service["metadata"]
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    subsets = []
    for ports, pods in groups.items():
        ready: list[Object] = []
        not_ready: list[Object] = []
        for pod in pods:
            address: Object = {"ip": _address(pod), "targetRef": _target_ref(pod)}
            if node := pod["spec"].get("nodeName"):
                address["nodeName"] = node
            if hostname := _hostname(pod, service):
                address["hostname"] = hostname
            usable = published or (is_ready(pod) and not is_terminating(pod))
            (ready if usable else not_ready).append(address)
        subset: Object = {"ports": [port.as_object(always_named=False) for port in ports]}
        if ready:
            subset["addresses"] = ready
        if not_ready:
            subset["notReadyAddresses"] = not_ready
        subsets.append(subset)
    wanted: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {**(metadata.get("labels") or {}), MANAGED_BY: "endpoint-controller"},
            "ownerReferences": owned_by(SERVICES, service),
        },
        "subsets": subsets,
    }
    key = key_of(service)
    present = world.get(ENDPOINTS, key)
    if present is None:
        return [Create(ENDPOINTS, wanted)]
    difference = _difference(present, wanted, ("subsets",))
    return [Patch(ENDPOINTS, key, difference)] if difference else []


def _difference(have: Object, wanted: Object, fields: tuple[str, ...]) -> Object:
    """Merge patch of the given fields and of the labels; empty when there is none."""
    patch: Object = {name: wanted[name] for name in fields if (have.get(name) or []) != wanted[name]}
    labels = have["metadata"].get("labels") or {}
    if labels != wanted["metadata"]["labels"]:
        removed = dict.fromkeys(labels.keys() - wanted["metadata"]["labels"].keys())
        patch["metadata"] = {"labels": {**removed, **wanted["metadata"]["labels"]}}
    return patch


def _target_ref(pod: Object) -> Object:
    key = key_of(pod)
    return {"kind": "Pod", "namespace": key.namespace, "name": key.name, "uid": pod["metadata"]["uid"]}


def _hostname(pod: Object, service: Object) -> str:
    """The pod's own name under this Service's domain, for StatefulSets and their like."""
    spec = pod["spec"]
    return str(spec.get("hostname", "")) if spec.get("subdomain") == service["metadata"]["name"] else ""


def _address(pod: Object) -> str:
    """The pod's IPv4 address, empty while it has none."""
    address = str((pod.get("status") or {}).get("podIP") or "")
    return address if address and ipaddress.ip_address(address).version == 4 else ""
