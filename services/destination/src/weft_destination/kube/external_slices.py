"""Writes the EndpointSlices of external workloads, while this replica holds the lease.

What they hold is decided in weft_policy.core.external_slices. Slices of other writers are never touched: ours carry our
label, and go with their Service through its owner reference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter
from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.informer import IndexSink
from weft_common.kube.lease import LeaseHolder
from weft_common.kube.resource import ENDPOINT_SLICES, ObjectKey
from weft_common.log import get_logger
from weft_policy.core.external_slices import ExternalSlice, SelectingService, TargetPort, external_slices
from weft_policy.core.index import ClusterIndex, Topic, TopicKind
from weft_policy.core.objects import Name, Service
from weft_policy.kube.parse import parse_service

from weft_destination.kube.leased_writes import LeasedWrites

Raw = dict[str, Any]

LEASE: Final = "linkerd-destination-endpoint-write"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
WRITER: Final = "linkerd-external-workloads-controller"
SERVICE_NAME: Final = "kubernetes.io/service-name"
# Kubernetes' own Services are not for workloads of users.
_LEFT_ALONE: Final = "kube-system"
_RECONCILE_S: Final = 60.0
# A fleet changes in many objects at once.
_SETTLE_S: Final = 0.2
_AWAITED: Final = frozenset({TopicKind.SERVICE, TopicKind.WORKLOAD})

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SeenService:
    """A Service as the index wants it, and as selectors do; selecting: None without a selector."""

    value: Service
    selecting: SelectingService | None


@dataclass(slots=True)
class SelectorBook:
    """Stands between the informer of Services and their table, and keeps what selects."""

    table: IndexSink[Service]
    rows: dict[ObjectKey, SelectingService] = field(default_factory=dict)

    def read(self, raw: Raw) -> SeenService:
        """For the informer to parse with."""
        return SeenService(parse_service(raw), selecting_from_raw(raw))

    def apply(self, key: ObjectKey, obj: SeenService) -> None:
        """An object is new or changed."""
        self._keep(key, obj.selecting)
        self.table.apply(key, obj.value)

    def delete(self, key: ObjectKey) -> None:
        """An object is gone."""
        self._keep(key, None)
        self.table.delete(key)

    def reset(self, objs: Mapping[ObjectKey, SeenService]) -> None:
        """This is everything."""
        self.rows = {key: obj.selecting for key, obj in objs.items() if obj.selecting is not None}
        self.table.reset({key: obj.value for key, obj in objs.items()})

    def _keep(self, key: ObjectKey, selecting: SelectingService | None) -> None:
        if selecting is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = selecting


def selecting_from_raw(raw: Raw) -> SelectingService | None:
    """None for a Service whose endpoints nobody looks for."""
    metadata, spec = raw["metadata"], raw.get("spec") or {}
    selector = spec.get("selector") or {}
    if not selector or spec.get("type") == "ExternalName" or metadata.get("namespace") == _LEFT_ALONE:
        return None
    ports = [port for port in spec.get("ports") or [] if (port.get("protocol") or "TCP") == "TCP"]
    return SelectingService(
        name=Name(metadata.get("namespace", ""), metadata["name"]),
        uid=metadata.get("uid", ""),
        selector=tuple(sorted(selector.items())),
        ports=tuple(
            TargetPort(port.get("name") or "", port.get("targetPort") or port["port"], port.get("appProtocol"))
            for port in ports
        ),
        families=tuple(spec.get("ipFamilies") or ("IPv4",)),
        is_headless=spec.get("clusterIP") == "None",
    )


@dataclass(frozen=True, slots=True)
class Write:
    """One request. path, body: None body deletes; a path of a collection creates."""

    method: str
    path: str
    body: Raw | None = None


def writes(wanted: Iterable[Raw], found: Iterable[Raw]) -> Iterator[Write]:
    """What turns the slices of one Service that are there into those that should be.

    A slice of the same family is changed rather than replaced: proxies then see a difference and no gap.
    """
    spare = list(found)
    missing = []
    for body in wanted:
        same = next((old for old in spare if _is_same(old, body)), None)
        if same is None:
            missing.append(body)
        else:
            spare.remove(same)
    for body in missing:
        namespace = body["metadata"]["namespace"]
        old = next((old for old in spare if old["addressType"] == body["addressType"]), None)
        if old is None:
            yield Write("POST", ENDPOINT_SLICES.path(namespace), body)
            continue
        spare.remove(old)
        # Its name and resource version stay, so a change by somebody else meanwhile is a conflict and looked at again.
        metadata = {**old["metadata"], **{k: v for k, v in body["metadata"].items() if k != "generateName"}}
        yield Write("PUT", _path(old), {**body, "metadata": metadata})
    for old in spare:
        yield Write("DELETE", _path(old))


def slice_body(service: SelectingService, piece: ExternalSlice) -> Raw:
    """The EndpointSlice to create."""
    namespace, name = service.name
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {
            "generateName": f"linkerd-external-{name}-",
            "namespace": namespace,
            "labels": {SERVICE_NAME: name, MANAGED_BY: WRITER},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": name,
                    "uid": service.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "addressType": piece.family,
        "ports": [
            {
                "name": port.name,
                "port": port.number,
                "protocol": "TCP",
                **({"appProtocol": port.app_protocol} if port.app_protocol else {}),
            }
            for port in piece.ports
        ],
        "endpoints": [
            {
                "addresses": [endpoint.address],
                "conditions": {"ready": endpoint.is_ready, "serving": endpoint.is_ready, "terminating": False},
                "targetRef": {
                    "kind": "ExternalWorkload",
                    "namespace": endpoint.workload.namespace,
                    "name": endpoint.workload.name,
                },
                **({"zone": endpoint.zone} if endpoint.zone else {}),
                **({"hostname": endpoint.hostname} if endpoint.hostname else {}),
            }
            for endpoint in piece.endpoints
        ],
    }


class ExternalSliceWriter:
    """Keeps the slices of external workloads as they should be. services: what selects."""

    def __init__(
        self,
        kube: KubeClient,
        index: ClusterIndex,
        services: SelectorBook,
        lease: LeaseHolder,
        registry: CollectorRegistry,
    ) -> None:
        self._kube = kube
        self._index = index
        self._services = services
        self._may_have_slices = True
        results = Counter(
            "weft_destination_external_slice_writes",
            "EndpointSlices of external workloads written, by result",
            ["result"],
            registry=registry,
        )
        self._writes = LeasedWrites(lease, _RECONCILE_S, _SETTLE_S, "a slice of external workloads", results)

    def refresh(self, topics: set[Topic]) -> None:
        """Look again soon when a Service, a slice or an external workload has changed."""
        if (self._may_have_slices or self._has_workloads()) and any(topic.kind in _AWAITED for topic in topics):
            self._writes.look_again()

    def wake_all(self) -> None:
        """Nobody waits for slices."""

    async def run(self) -> None:
        """Write until cancelled."""
        await self._writes.run(self._round)

    def _has_workloads(self) -> bool:
        return any(True for _ in self._index.external_workloads.names())

    async def _round(self) -> None:
        # Most clusters have none, and are not asked again.
        if not self._may_have_slices and not self._has_workloads():
            return
        try:
            found = await self._kube.list(ENDPOINT_SLICES.path(), {"labelSelector": f"{MANAGED_BY}={WRITER}"})
        except KubeError as error:
            _log.warning("cannot list the slices of external workloads", error=error.message)
            return
        self._may_have_slices = bool(found["items"])
        for write in list(self._pending(found["items"])):
            if not self._writes.are_allowed:
                return
            request = self._kube.request(write.method, write.path, body=write.body)
            if await self._writes.write(write.path, request):
                self._may_have_slices = True

    def _pending(self, found: list[Raw]) -> Iterator[Write]:
        there: defaultdict[Name, list[Raw]] = defaultdict(list)
        for raw in found:
            metadata = raw["metadata"]
            there[Name(metadata["namespace"], metadata["labels"].get(SERVICE_NAME, ""))].append(raw)
        wanted: defaultdict[Name, list[Raw]] = defaultdict(list)
        workloads = self._index.external_workloads
        for service in self._services.rows.values():
            named = (workloads.get(*name) for name in workloads.names_in(service.name.namespace))
            for piece in external_slices(service, (workload for workload in named if workload is not None)):
                wanted[service.name].append(slice_body(service, piece))
        for name in sorted({*there, *wanted}):
            yield from writes(wanted[name], there[name])


def _path(raw: Raw) -> str:
    return ENDPOINT_SLICES.path(raw["metadata"]["namespace"], raw["metadata"]["name"])


def _is_same(old: Raw, body: Raw) -> bool:
    metadata, wanted = old["metadata"], body["metadata"]
    return (
        all((old.get(part) or []) == body[part] for part in ("addressType", "ports", "endpoints"))
        and all((metadata.get("labels") or {}).get(name) == value for name, value in wanted["labels"].items())
        and metadata.get("ownerReferences") == wanted["ownerReferences"]
    )
