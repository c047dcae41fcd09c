"""Services and endpoints as names see them: a value with apply, delete and reset per kind. No wire format, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from weft_common.kube.resource import ObjectKey

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Port:
    """name: empty for the only port of a service. protocol: lower case, as SRV names have it."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """cluster_ip: empty for a headless one. external_name: empty unless the type is ExternalName."""

    cluster_ip: str
    ports: tuple[Port, ...]
    external_name: str = ""
    publish_not_ready: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """hostname: the pod's, when it has one of its own in the service."""

    ip: str
    hostname: str
    ready: bool


@dataclass(frozen=True, slots=True)
class SliceEntry:
    """service: owner's name in the slice's namespace."""

    service: str
    ports: tuple[Port, ...]
    endpoints: tuple[Endpoint, ...]


class Table(Generic[T]):
    """Objects of one kind by key; an IndexSink. changed is called after every change."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.objects: dict[ObjectKey, T] = {}
        self._changed = changed

    def apply(self, key: ObjectKey, obj: T) -> None:
        """New or changed."""
        if self.objects.get(key) != obj:
            self.objects[key] = obj
            self._changed()

    def delete(self, key: ObjectKey) -> None:
        """Gone."""
        if self.objects.pop(key, None) is not None:
            self._changed()

    def reset(self, objs: Mapping[ObjectKey, T]) -> None:
        """This is all there is."""
        if self.objects != objs:
            self.objects = dict(objs)
            self._changed()


class NameIndex:
    """Everything that names resolve to."""

    def __init__(self) -> None:
        self.services: Table[ServiceEntry] = Table(self._forget)
        self.slices: Table[SliceEntry] = Table(self._forget)
        self._by_service: dict[ObjectKey, list[SliceEntry]] | None = None
        self._names_by_ip: dict[str, list[str]] | None = None

    def service(self, namespace: str, name: str) -> ServiceEntry | None:
        """None when there is no such service."""
        return self.services.objects.get(ObjectKey(namespace, name))

    def has_namespace(self, namespace: str) -> bool:
        """Whether a name ending there could have more below it."""
        return any(key.namespace == namespace for key in self.services.objects)

    def slices_of(self, namespace: str, name: str) -> list[SliceEntry]:
        """Endpoint slices of a service."""
        if self._by_service is None:
            self._by_service = {}
            for key, entry in self.slices.objects.items():
                self._by_service.setdefault(ObjectKey(key.namespace, entry.service), []).append(entry)
        return self._by_service.get(ObjectKey(namespace, name), [])

    def endpoints_of(self, namespace: str, name: str) -> list[Endpoint]:
        """Endpoints that a headless service's name stands for, each address once."""
        service = self.service(namespace, name)
        unready_too = service is not None and service.publish_not_ready
        found = {e.ip: e for s in self.slices_of(namespace, name) for e in s.endpoints if e.ready or unready_too}
        return list(found.values())

    def names_of(self, ip: str) -> list[str]:
        """`service.namespace` or `host.service.namespace` for an address."""
        if self._names_by_ip is None:
            names: dict[str, list[str]] = {}
            for key, service in self.services.objects.items():
                if service.cluster_ip:
                    names.setdefault(service.cluster_ip, []).append(f"{key.name}.{key.namespace}")
                    continue
                for endpoint in self.endpoints_of(key.namespace, key.name):
                    host = endpoint_label(endpoint)
                    names.setdefault(endpoint.ip, []).append(f"{host}.{key.name}.{key.namespace}")
            self._names_by_ip = names
        return self._names_by_ip.get(ip, [])

    def _forget(self) -> None:
        self._by_service = None
        self._names_by_ip = None


def endpoint_label(endpoint: Endpoint) -> str:
    """First label of an endpoint's own name: its hostname, else its address with dashes."""
    return endpoint.hostname or endpoint.ip.replace(".", "-")


def service_from_json(raw: Mapping[str, Any]) -> ServiceEntry:
    """Read a Service."""
    spec = raw.get("spec") or {}
    ip = spec.get("clusterIP") or ""
    return ServiceEntry(
        cluster_ip="" if ip == "None" else ip,
        ports=tuple(
            Port(p.get("name") or "", (p.get("protocol") or "TCP").lower(), int(p["port"]))
            for p in spec.get("ports") or ()
        ),
        external_name=spec.get("externalName", "") if spec.get("type") == "ExternalName" else "",
        publish_not_ready=bool(spec.get("publishNotReadyAddresses")),
    )


def slice_from_json(raw: Mapping[str, Any]) -> SliceEntry:
    """Read an EndpointSlice. Raises KeyError for one that belongs to no service, which no name needs."""
    return SliceEntry(
        service=raw["metadata"]["labels"]["kubernetes.io/service-name"],
        ports=tuple(
            Port(p.get("name") or "", (p.get("protocol") or "TCP").lower(), int(p["port"]))
            for p in raw.get("ports") or ()
            if p.get("port")
        ),
        endpoints=tuple(
            Endpoint(address, e.get("hostname") or "", (e.get("conditions") or {}).get("ready") is not False)
            for e in raw.get("endpoints") or ()
            for address in e.get("addresses") or ()
        ),
    )
