"""Follows pods, their owners and the other objects that rows are named after, into one Directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from weft_common.kube.client import KubeClient
from weft_common.kube.informer import Informer
from weft_common.kube.resource import (
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    STATEFUL_SETS,
    ObjectKey,
    Resource,
)

from weft_metrics_api.core.pods import Directory, OwnerRef, Pod, PodKey
from weft_metrics_api.core.resources import ResourceId
from weft_metrics_api.kube.parse import owner_from, pod_from

OWNERS: Final = (REPLICA_SETS, JOBS)
NAMED: Final = (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS, SERVICES, NAMESPACES)


class PodSink:
    """Pods into the directory, except those of ignored namespaces."""

    def __init__(self, directory: Directory, ignored_namespaces: frozenset[str]) -> None:
        self._pods = directory.pods
        self._ignored = ignored_namespaces

    def apply(self, key: ObjectKey, obj: Pod) -> None:
        """A pod is new or changed."""
        if key.namespace not in self._ignored:
            self._pods[obj.key] = obj

    def delete(self, key: ObjectKey) -> None:
        """A pod is gone."""
        self._pods.pop(PodKey(*key), None)

    def reset(self, objs: Mapping[ObjectKey, Pod]) -> None:
        """These are all pods."""
        self._pods.clear()
        for key, obj in objs.items():
            self.apply(key, obj)


class OwnerSink:
    """Controllers of ReplicaSets and Jobs, and their names as workloads of their own."""

    def __init__(self, directory: Directory, kind: str) -> None:
        self._owners = directory.owners
        self._kind = kind

    def apply(self, key: ObjectKey, obj: OwnerRef | None) -> None:
        """An owner is new or changed."""
        resource = ResourceId(key.namespace, self._kind, key.name)
        if obj is None:
            self._owners.pop(resource, None)
        else:
            self._owners[resource] = obj

    def delete(self, key: ObjectKey) -> None:
        """An owner is gone."""
        self._owners.pop(ResourceId(key.namespace, self._kind, key.name), None)

    def reset(self, objs: Mapping[ObjectKey, OwnerRef | None]) -> None:
        """These are all owners of the kind."""
        for resource in [resource for resource in self._owners if resource.kind == self._kind]:
            del self._owners[resource]
        for key, obj in objs.items():
            self.apply(key, obj)


class NameSink:
    """Names of objects that have a row even without pods."""

    def __init__(self, directory: Directory, kind: str, ignored_namespaces: frozenset[str]) -> None:
        self._names = directory.known.setdefault(kind, set())
        self._ignored = ignored_namespaces

    def apply(self, key: ObjectKey, obj: None) -> None:
        """An object is new or changed."""
        if key.namespace not in self._ignored and key.name not in self._ignored:
            self._names.add(PodKey(*key))

    def delete(self, key: ObjectKey) -> None:
        """An object is gone."""
        self._names.discard(PodKey(*key))

    def reset(self, objs: Mapping[ObjectKey, None]) -> None:
        """These are all objects of the kind."""
        self._names.clear()
        for key in objs:
            self.apply(key, None)


class ClusterWatches:
    """The informers of one Directory. `needed` must have synced before any row is right; the others only add names."""

    def __init__(
        self,
        kube: KubeClient,
        directory: Directory,
        control_plane_namespace: str,
        ignored_namespaces: frozenset[str],
    ) -> None:
        def parse_pod(raw: dict[str, Any]) -> Pod:
            return pod_from(raw, control_plane_namespace)

        pods = Informer(kube, PODS, parse_pod, PodSink(directory, ignored_namespaces))
        owners = [Informer(kube, kind, owner_from, OwnerSink(directory, _name(kind))) for kind in OWNERS]
        names = [Informer(kube, kind, _nothing, NameSink(directory, _name(kind), ignored_namespaces)) for kind in NAMED]
        self.needed: Sequence[Informer[Any]] = (pods, owners[0])
        self.all: Sequence[Informer[Any]] = (pods, *owners, *names)

    def missing(self) -> list[str]:
        """What has not been listed yet, in words."""
        return [
            f"{informer.resource.plural} are not listed yet" for informer in self.needed if not informer.synced.is_set()
        ]

    def stale(self) -> list[str]:
        """Plurals of what cannot be followed now."""
        return [informer.resource.plural for informer in self.needed if informer.stale]


def _name(resource: Resource) -> str:
    return resource.kind.lower()


def _nothing(_: dict[str, Any]) -> None:
    return None
