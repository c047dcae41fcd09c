"""Keeps the cluster as its objects ask for: watches, pure decisions, writes.

One informer per kind feeds the world; each change marks the objects whose answer it may alter; workers take marked
objects one at a time, ask the core what to do, and write. The answer of a write enters the world at once, so no
decision is ever made on a state older than our own writes, and no pod is made twice. A refused write is tried again
with back-off, and an Event on the object says why it waits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, assert_never

from weft_common.backoff import Backoff
from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.informer import Informer
from weft_common.kube.resource import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    EVENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    ObjectKey,
    Resource,
    key_of,
)
from weft_common.log import get_logger
from weft_common.tasks import forever

from weft_local.controllers.contents import empty_namespace
from weft_local.controllers.core import daemonset, deployment, endpoints, job, namespace, replicaset, statefulset
from weft_local.controllers.core.objects import text_from_time
from weft_local.controllers.core.plan import Action, Create, Delete, EmptyNamespace, Patch, Plan
from weft_local.controllers.core.world import Object, World, controller_of

WORKERS: Final = 4
RETRY_MIN_S: Final = 0.05
RETRY_MAX_S: Final = 15.0

_WORKLOADS: Final = {one.kind: one for one in (DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS, JOBS)}
_WATCHED: Final = (
    NAMESPACES,
    SERVICE_ACCOUNTS,
    CONFIG_MAPS,
    NODES,
    SERVICES,
    ENDPOINT_SLICES,
    ENDPOINTS,
    PODS,
    *_WORKLOADS.values(),
)
_DECIDE: Final[Mapping[Resource, Callable[[World, ObjectKey, datetime], Plan]]] = {
    DEPLOYMENTS: deployment.reconcile,
    REPLICA_SETS: replicaset.reconcile,
    STATEFUL_SETS: statefulset.reconcile,
    DAEMON_SETS: daemonset.reconcile,
    JOBS: job.reconcile,
}
_RECONCILED: Final = frozenset({NAMESPACES, SERVICES, *_WORKLOADS.values()})
_CONFIG_MAP_FIELDS: Final = f"metadata.name={namespace.ROOT_CA_NAME}"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """One object that a controller looks after."""

    resource: Resource
    key: ObjectKey


class Controllers:
    """All controllers over one API server. ca_pem: published in every namespace as kube-root-ca.crt."""

    def __init__(self, kube: KubeClient, ca_pem: str) -> None:
        self._kube = kube
        self._ca_pem = ca_pem
        self._world = World()
        self._marked: OrderedDict[Subject, None] = OrderedDict()
        self._running: set[Subject] = set()
        self._backoffs: dict[Subject, Backoff] = {}
        self._wakeups: dict[Subject, asyncio.TimerHandle] = {}
        self._wake_one = asyncio.Event()
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        informers = [
            Informer(
                self._kube,
                resource,
                _unchanged,
                _Sink(self, self._world, resource),
                field_selector=_CONFIG_MAP_FIELDS if resource is CONFIG_MAPS else "",
            )
            for resource in _WATCHED
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for informer in informers:
                    group.create_task(forever(f"watch {informer.resource.plural}", informer.run()))
                # Deciding on half a world would create what is merely not listed yet.
                for informer in informers:
                    await informer.synced.wait()
                self.synced.set()
                for number in range(WORKERS):
                    group.create_task(forever(f"controller worker {number}", self._take_turns()))
        finally:
            for handle in self._wakeups.values():
                handle.cancel()

    def changed(self, resource: Resource, obj: Object) -> None:
        """Mark everything whose answer may depend on this object, which is new, changed or gone."""
        key = key_of(obj)
        if resource in _RECONCILED:
            self._mark(Subject(resource, key))
        owner = controller_of(obj)
        if owner is not None and owner["kind"] in _WORKLOADS:
            self._mark_with_owners(Subject(_WORKLOADS[owner["kind"]], ObjectKey(key.namespace, owner["name"])))
        if resource is PODS:
            labels = obj["metadata"].get("labels") or {}
            for service in self._world.all(SERVICES, key.namespace):
                selector = service["spec"].get("selector")
                if selector and selector.items() <= labels.items():
                    self._mark(Subject(SERVICES, key_of(service)))
        elif resource in (ENDPOINT_SLICES, ENDPOINTS):
            name = key.name if resource is ENDPOINTS else (owner or {}).get("name")
            if name:
                self._mark(Subject(SERVICES, ObjectKey(key.namespace, name)))
        elif resource in (SERVICE_ACCOUNTS, CONFIG_MAPS):
            self._mark(Subject(NAMESPACES, ObjectKey("", key.namespace)))
        elif resource is NODES:
            for daemon_set in self._world.all(DAEMON_SETS):
                self._mark(Subject(DAEMON_SETS, key_of(daemon_set)))

    def _mark_with_owners(self, subject: Subject) -> None:
        self._mark(subject)
        found = self._world.get(subject.resource, subject.key)
        owner = controller_of(found) if found is not None else None
        if owner is not None and owner["kind"] in _WORKLOADS:
            self._mark(Subject(_WORKLOADS[owner["kind"]], ObjectKey(subject.key.namespace, owner["name"])))

    def _mark(self, subject: Subject) -> None:
        handle = self._wakeups.pop(subject, None)
        if handle is not None:
            handle.cancel()
        if subject not in self._marked:
            self._marked[subject] = None
            self._wake_one.set()

    async def _take_turns(self) -> None:
        while True:
            subject = await self._next()
            self._running.add(subject)
            try:
                await self._reconcile(subject)
            finally:
                self._running.discard(subject)
                # A mark set while it ran was passed over by the other workers.
                if subject in self._marked:
                    self._wake_one.set()

    async def _next(self) -> Subject:
        while True:
            for subject in self._marked:
                if subject not in self._running:
                    del self._marked[subject]
                    if self._marked:
                        self._wake_one.set()
                    return subject
            self._wake_one.clear()
            await self._wake_one.wait()

    async def _reconcile(self, subject: Subject) -> None:
        try:
            plan = self._plan(subject)
        except (KeyError, TypeError, ValueError) as error:
            # One object beyond understanding must not stop the others; its next change is another chance.
            _log.warning(
                "cannot act on an object",
                kind=subject.resource.kind,
                namespace=subject.key.namespace,
                name=subject.key.name,
                error=repr(error),
            )
            return
        try:
            for action in plan.actions:
                await self._do(action)
        except KubeError as error:
            backoff = self._backoffs.setdefault(subject, Backoff(RETRY_MIN_S, RETRY_MAX_S))
            wait_s = backoff.next_s()
            # A conflict or an overtaken create is settled by the watch event on its way.
            if error.status not in (404, 409):
                _log.warning(
                    "write refused, trying again",
                    kind=subject.resource.kind,
                    namespace=subject.key.namespace,
                    name=subject.key.name,
                    error=error.message,
                )
                await self._report(subject, error)
            self._look_again(subject, wait_s)
            return
        self._backoffs.pop(subject, None)
        if plan.look_again_in_s is not None:
            self._look_again(subject, plan.look_again_in_s)

    def _plan(self, subject: Subject) -> Plan:
        world, key, now = self._world, subject.key, datetime.now(UTC)
        decide = _DECIDE.get(subject.resource)
        if decide is not None:
            return decide(world, key, now)
        if subject.resource is SERVICES:
            return endpoints.reconcile(world, key)
        return namespace.reconcile(world, key.name, self._ca_pem)

    def _look_again(self, subject: Subject, wait_s: float) -> None:
        handle = self._wakeups.pop(subject, None)
        if handle is not None:
            handle.cancel()
        # A little late rather than a little early, or the core would find a fraction of a second left.
        self._wakeups[subject] = asyncio.get_running_loop().call_later(wait_s + 0.01, self._mark, subject)

    async def _do(self, action: Action) -> None:
        match action:
            case Create(resource, body):
                path = resource.path(body["metadata"].get("namespace"))
                self._learn(resource, await self._kube.create(path, body))
            case Patch(resource, key, body, subresource):
                path = resource.path(key.namespace, key.name, subresource or None)
                self._learn(resource, await self._kube.patch(path, body))
            case Delete(resource, key, uid):
                await self._delete(resource, key, uid)
            case EmptyNamespace(name):
                await empty_namespace(self._kube, name)
            case _:
                assert_never(action)

    async def _delete(self, resource: Resource, key: ObjectKey, uid: str) -> None:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            answer = await self._kube.delete(
                resource.path(key.namespace, key.name), {"propagationPolicy": "Background"}, options
            )
        except KubeError as error:
            if error.status not in (404, 409):
                raise
            self._forget(resource, key, uid)
            return
        metadata = answer.get("metadata") or {}
        if metadata.get("uid") == uid and metadata.get("deletionTimestamp"):
            self._learn(resource, answer)
        else:
            self._forget(resource, key, uid)

    def _learn(self, resource: Resource, obj: Object) -> None:
        if self._world.apply(resource, obj):
            self.changed(resource, obj)

    def _forget(self, resource: Resource, key: ObjectKey, uid: str) -> None:
        before = self._world.delete(resource, key, uid)
        if before is not None:
            self.changed(resource, before)

    async def _report(self, subject: Subject, error: KubeError) -> None:
        """Say on the object why it does not get what it asks for; the text itself is not worth a failure."""
        found = self._world.get(subject.resource, subject.key)
        if found is None or not subject.key.namespace:
            return
        now = text_from_time(datetime.now(UTC))
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{subject.key.name}.", "namespace": subject.key.namespace},
            "involvedObject": {
                "apiVersion": subject.resource.api_version,
                "kind": subject.resource.kind,
                "namespace": subject.key.namespace,
                "name": subject.key.name,
                "uid": found["metadata"]["uid"],
            },
            "type": "Warning",
            "reason": "FailedCreate",
            "message": error.message[:1024],
            "source": {"component": f"{subject.resource.kind.lower()}-controller"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._kube.create(EVENTS.path(subject.key.namespace), event)
        except KubeError as refused:
            _log.debug("event not written", error=refused.message)


class _Sink:
    """Passes what an informer sees into the world."""

    def __init__(self, controllers: Controllers, world: World, resource: Resource) -> None:
        self._controllers = controllers
        self._world = world
        self._resource = resource

    def apply(self, key: ObjectKey, obj: Object) -> None:
        if self._world.apply(self._resource, obj):
            self._controllers.changed(self._resource, obj)

    def delete(self, key: ObjectKey) -> None:
        before = self._world.delete(self._resource, key)
        if before is not None:
            self._controllers.changed(self._resource, before)

    def reset(self, objs: Mapping[ObjectKey, Object]) -> None:
        before = {key_of(obj): obj for obj in self._world.all(self._resource)}
        self._world.reset(self._resource, objs)
        for obj in (before | dict(objs)).values():
            self._controllers.changed(self._resource, obj)


def _unchanged(raw: Object) -> Object:
    return raw
