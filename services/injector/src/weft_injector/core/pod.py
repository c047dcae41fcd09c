"""What injection needs to know of a pod, read once from its JSON.

The rest of the object is never looked at and never rewritten: the patch only adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from weft_injector.core.json_value import JsonObject, object_at, objects_at, text_at, text_map_at, texts_at

SERVICE_ACCOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A declared port. name: empty when it has none."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Container:
    """service_account_mount: its mount of the default token, as in the pod. probe_ports: of HTTP probes, numeric."""

    name: str
    image: str
    ports: tuple[ContainerPort, ...]
    probe_ports: tuple[int, ...]
    service_account_mount: JsonObject | None
    capabilities_added: tuple[str, ...]
    capabilities_dropped: tuple[str, ...]
    declares_capabilities: bool


@dataclass(frozen=True, slots=True)
class OwnerReference:
    """Who made an object."""

    api_version: str
    kind: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod or a pod template. has_*: whether the object has the field at all, which the patch must create first."""

    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...]
    owners: tuple[OwnerReference, ...]
    host_network: bool
    automounts_token: bool
    has_metadata: bool
    has_volumes: bool

    def all_containers(self) -> Iterator[Container]:
        """Init containers first, each list in its order."""
        return chain(self.init_containers, self.containers)


def pod_from_json(raw: JsonObject) -> Pod:
    """Read a Pod, or a template that has the same shape. Raises Malformed naming the field."""
    metadata, spec = object_at(raw, "metadata"), object_at(raw, "spec")
    return Pod(
        name=text_at(metadata, "name", "metadata") or text_at(metadata, "generateName", "metadata"),
        namespace=text_at(metadata, "namespace", "metadata"),
        labels=text_map_at(metadata, "labels", "metadata"),
        annotations=text_map_at(metadata, "annotations", "metadata"),
        containers=_containers(spec, "containers"),
        init_containers=_containers(spec, "initContainers"),
        owners=owners_from_json(metadata),
        host_network=spec.get("hostNetwork") is True,
        automounts_token=spec.get("automountServiceAccountToken") is not False,
        has_metadata=bool(metadata),
        has_volumes=bool(spec.get("volumes")),
    )


def owners_from_json(metadata: JsonObject) -> tuple[OwnerReference, ...]:
    """The owner references of any object's metadata."""
    return tuple(
        OwnerReference(
            text_at(owner, "apiVersion"), text_at(owner, "kind"), text_at(owner, "name"), text_at(owner, "uid")
        )
        for owner in objects_at(metadata, "ownerReferences", "metadata")
    )


def _containers(spec: JsonObject, key: str) -> tuple[Container, ...]:
    return tuple(
        _container(raw, f"spec.{key}[{position}]") for position, raw in enumerate(objects_at(spec, key, "spec"))
    )


def _container(raw: JsonObject, path: str) -> Container:
    capabilities = object_at(object_at(raw, "securityContext", path), "capabilities", path)
    mounts = objects_at(raw, "volumeMounts", path)
    return Container(
        name=text_at(raw, "name", path),
        image=text_at(raw, "image", path),
        ports=tuple(_ports(raw, path)),
        probe_ports=tuple(_probe_ports(raw, path)),
        service_account_mount=next((m for m in mounts if m.get("mountPath") == SERVICE_ACCOUNT_PATH), None),
        capabilities_added=texts_at(capabilities, "add", path),
        capabilities_dropped=texts_at(capabilities, "drop", path),
        declares_capabilities=bool(capabilities),
    )


def _ports(raw: JsonObject, path: str) -> Iterator[ContainerPort]:
    for declared in objects_at(raw, "ports", path):
        number = declared.get("containerPort")
        if isinstance(number, int):
            yield ContainerPort(text_at(declared, "name", path), number, text_at(declared, "protocol", path) or "TCP")


def _probe_ports(raw: JsonObject, path: str) -> Iterator[int]:
    for probe in ("readinessProbe", "livenessProbe"):
        number = object_at(object_at(raw, probe, path), "httpGet", path).get("port")
        if isinstance(number, int):
            yield number
