"""Writes the status of routes, egress networks and rate limits, while this replica holds the lease.

What to say is decided in weft_policy.core.status; what the objects say now is noted as they pass by, so that only
differences are written. Entries of other controllers are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter
from weft_common.kube.client import KubeClient
from weft_common.kube.informer import IndexSink
from weft_common.kube.lease import LeaseHolder
from weft_common.kube.resource import ObjectKey, Resource
from weft_policy.core.index import STATUS_TOPIC, ClusterIndex, Topic
from weft_policy.core.mesh import Mesh
from weft_policy.core.route_tables import POLICY_GROUP
from weft_policy.core.routes import ParentKind, ParentRef
from weft_policy.core.status import (
    CONTROLLER,
    Condition,
    ParentStatus,
    egress_status,
    rate_limit_status,
    route_status,
)

from weft_destination.kube.leased_writes import LeasedWrites

T = TypeVar("T")
Raw = dict[str, Any]

LEASE: Final = "policy-controller-write"
_RECONCILE_S: Final = 10.0
_SETTLE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Written:
    """What an object's status says now. resource: the version it was read in."""

    resource: Resource
    generation: int
    status: Raw


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """An object's value, and what its status says."""

    value: T
    written: Written


@dataclass(slots=True)
class StatusBook(Generic[T]):
    """Stands between an informer and a table, and keeps what statuses say."""

    resource: Resource
    parse: Callable[[Raw], T]
    table: IndexSink[T]
    rows: dict[ObjectKey, Written] = field(default_factory=dict)

    def read(self, raw: Raw) -> Seen[T]:
        """For the informer to parse with."""
        version = str(raw["apiVersion"]).rpartition("/")[2]
        resource = Resource(self.resource.group, version, self.resource.plural, self.resource.kind)
        generation = int(raw["metadata"].get("generation") or 0)
        return Seen(self.parse(raw), Written(resource, generation, raw.get("status") or {}))

    def apply(self, key: ObjectKey, obj: Seen[T]) -> None:
        """An object is new or changed."""
        self.rows[key] = obj.written
        self.table.apply(key, obj.value)

    def delete(self, key: ObjectKey) -> None:
        """An object is gone."""
        self.rows.pop(key, None)
        self.table.delete(key)

    def reset(self, objs: Mapping[ObjectKey, Seen[T]]) -> None:
        """This is everything."""
        self.rows = {key: obj.written for key, obj in objs.items()}
        self.table.reset({key: obj.value for key, obj in objs.items()})


@dataclass(frozen=True, slots=True)
class Patch:
    """One status to write."""

    path: str
    body: Raw


class StatusWriter:
    """One writer of every status. books: of the kinds that have one."""

    def __init__(
        self,
        kube: KubeClient,
        index: ClusterIndex,
        mesh: Mesh,
        lease: LeaseHolder,
        books: tuple[StatusBook[Any], ...],
        registry: CollectorRegistry,
    ) -> None:
        self._kube = kube
        self._index = index
        self._mesh = mesh
        self._books = books
        patches = Counter(
            "weft_destination_status_patches", "Statuses written, by result", ["result"], registry=registry
        )
        self._writes = LeasedWrites(lease, _RECONCILE_S, _SETTLE_S, "a status", patches)

    def refresh(self, topics: set[Topic]) -> None:
        """Look again soon when something that statuses tell has changed."""
        if STATUS_TOPIC in topics:
            self._writes.look_again()

    def wake_all(self) -> None:
        """Nobody waits for statuses."""

    async def run(self) -> None:
        """Write until cancelled."""
        await self._writes.run(self._round)

    async def _round(self) -> None:
        for patch in list(self._pending()):
            if not self._writes.are_allowed:
                return
            request = self._kube.patch(patch.path, patch.body, params={"fieldManager": CONTROLLER})
            await self._writes.write(patch.path, request)

    def _pending(self) -> Iterator[Patch]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for book in self._books:
            for key, written in book.rows.items():
                wanted = self._wanted(written, key, now)
                if wanted is not None and not _says(written.status, wanted):
                    path = written.resource.path(key.namespace, key.name, "status")
                    yield Patch(path, {"status": wanted})

    def _wanted(self, written: Written, key: ObjectKey, now: str) -> Raw | None:
        """The status as it should be; None where there is nothing to say."""
        routes, resource = self._index.routes, written.resource
        if resource.kind == "EgressNetwork":
            network = routes.egress_networks.get(*key)
            return None if network is None else _with_condition(written, egress_status(self._mesh, network), now)
        if resource.kind == "HTTPLocalRateLimitPolicy":
            limit = self._index.policy.rate_limits.get(*key)
            if limit is None:
                return None
            target = {"group": POLICY_GROUP, "kind": "Server", "namespace": key.namespace, "name": limit.server}
            condition = rate_limit_status(self._index.policy, limit)
            return {**_with_condition(written, condition, now), "targetRef": target}
        route = routes.named(resource.group, resource.kind, key)
        if route is None:
            return None
        return _route_status(written, route_status(self._index, self._mesh, route), now)


def _route_status(written: Written, wanted: tuple[ParentStatus, ...], now: str) -> Raw | None:
    found = written.status.get("parents") or []
    others = [entry for entry in found if entry.get("controllerName") != CONTROLLER]
    own = {_key(entry["parentRef"]): entry for entry in found if entry.get("controllerName") == CONTROLLER}
    if not wanted and not own:
        return None
    entries = []
    for status in wanted:
        parent_ref = _parent_ref(status.ref)
        before = own.get(_key(parent_ref), {}).get("conditions") or []
        entries.append(
            {
                "parentRef": parent_ref,
                "controllerName": CONTROLLER,
                "conditions": [_condition(found, before, written.generation, now) for found in status.conditions],
            }
        )
    return {"parents": [*others, *entries]}


def _with_condition(written: Written, condition: Condition, now: str) -> Raw:
    before = written.status.get("conditions") or []
    return {"conditions": [_condition(condition, before, written.generation, now)]}


def _condition(condition: Condition, before: list[Raw], generation: int, now: str) -> Raw:
    status = "True" if condition.holds else "False"
    old = next((found for found in before if found.get("type") == condition.type), {})
    return {
        "type": condition.type,
        "status": status,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == status else now,
    }


def _parent_ref(ref: ParentRef) -> Raw:
    kind, name = ref.parent
    group = "core" if kind is ParentKind.SERVICE else POLICY_GROUP
    written: Raw = {"group": group, "kind": kind.value, "namespace": name.namespace, "name": name.name}
    if ref.port is not None:
        written["port"] = ref.port
    if ref.section:
        written["sectionName"] = ref.section
    return written


def _key(parent_ref: Raw) -> tuple[object, ...]:
    return tuple(parent_ref.get(name) for name in ("group", "kind", "namespace", "name", "port", "sectionName"))


def _says(status: Raw, wanted: Raw) -> bool:
    return all(status.get(name) == value for name, value in wanted.items())
