"""Namespaces and owners: from informers when they have them, from the API server when they do not yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.informer import Informer
from weft_common.kube.resource import JOBS, NAMESPACES, REPLICA_SETS, ObjectKey, Resource

from weft_injector.core.json_value import object_at, text_map_at
from weft_injector.core.owner import Owner, direct_owner, is_followed, root_owner
from weft_injector.core.pod import OwnerReference, Pod, owners_from_json

T = TypeVar("T")
_FOLLOWED: Final = {"replicaset": REPLICA_SETS, "job": JOBS}


@dataclass(frozen=True, slots=True)
class KindIndex(Generic[T]):
    """The last known state of one kind, keyed by namespace and name."""

    objects: dict[ObjectKey, T] = field(default_factory=dict)

    def apply(self, key: ObjectKey, obj: T) -> None:
        """An object is new or changed."""
        self.objects[key] = obj

    def delete(self, key: ObjectKey) -> None:
        """An object is gone."""
        self.objects.pop(key, None)

    def reset(self, objs: Mapping[ObjectKey, T]) -> None:
        """This is the whole state now."""
        self.objects.clear()
        self.objects.update(objs)


class Cluster:
    """What the webhook asks the cluster. Run every informer of `informers` beside it."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._namespaces: KindIndex[dict[str, str]] = KindIndex()
        self._owners: dict[str, KindIndex[tuple[OwnerReference, ...]]] = {kind: KindIndex() for kind in _FOLLOWED}
        self.informers: tuple[Informer[Any], ...] = (
            Informer(kube, NAMESPACES, _annotations, self._namespaces),
            *(Informer(kube, resource, _owners, self._owners[kind]) for kind, resource in _FOLLOWED.items()),
        )

    def missing(self) -> list[str]:
        """What has not been listed yet, in words."""
        return [f"{i.resource.plural} are not listed yet" for i in self.informers if not i.synced.is_set()]

    async def namespace_annotations(self, name: str) -> Mapping[str, str]:
        """Raises KubeError when it is unknown here and cannot be fetched."""
        known = self._namespaces.objects.get(ObjectKey("", name))
        return known if known is not None else _annotations(await self._kube.get(NAMESPACES.path(name=name)))

    async def owner_of(self, pod: Pod, namespace: str) -> Owner:
        """The workload a pod belongs to. Raises KubeError when its owner cannot be fetched."""
        owner = direct_owner(pod)
        if not is_followed(owner):
            return owner
        return root_owner(owner, await self._owners_of(_FOLLOWED[owner.kind], owner, namespace))

    async def _owners_of(self, resource: Resource, owner: Owner, namespace: str) -> tuple[OwnerReference, ...]:
        known = self._owners[owner.kind].objects.get(ObjectKey(namespace, owner.name))
        if known is not None:
            return known
        try:
            return _owners(await self._kube.get(resource.path(namespace, owner.name)))
        except KubeError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            # Deleted meanwhile: the pod goes soon too, and its direct owner names it well enough.
            return ()


def _annotations(raw: dict[str, Any]) -> dict[str, str]:
    return text_map_at(object_at(raw, "metadata"), "annotations", "metadata")


def _owners(raw: dict[str, Any]) -> tuple[OwnerReference, ...]:
    return owners_from_json(object_at(raw, "metadata"))
