"""The meshed pods of the cluster, kept in step by an informer: who has which address, and what each was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weft_common.kube.client import KubeClient
from weft_common.kube.informer import Informer
from weft_common.kube.resource import PODS, ObjectKey

from weft_identity.core.proxies import MeshedPod, meshed_pod

_NOBODY: frozenset[str] = frozenset()


@dataclass(slots=True)
class MeshedPods:
    """Implements FindPods, and is the index of an Informer."""

    _pods: dict[ObjectKey, MeshedPod] = field(default_factory=dict, init=False)
    _by_uid: dict[str, MeshedPod] = field(default_factory=dict, init=False)
    _at: dict[str, frozenset[str]] = field(default_factory=dict, init=False)

    def by_uid(self, uid: str) -> MeshedPod | None:
        return self._by_uid.get(uid)

    def at(self, address: str) -> frozenset[str]:
        return self._at.get(address, _NOBODY)

    def all(self) -> list[MeshedPod]:
        """In no order."""
        return list(self._pods.values())

    def apply(self, key: ObjectKey, obj: MeshedPod | None) -> None:
        self.delete(key)
        if obj is None:
            return
        self._pods[key] = obj
        self._by_uid[obj.uid] = obj
        for address in obj.addresses:
            self._at[address] = self.at(address) | {obj.uid}

    def delete(self, key: ObjectKey) -> None:
        gone = self._pods.pop(key, None)
        if gone is None:
            return
        self._by_uid.pop(gone.uid, None)
        for address in gone.addresses:
            left = self.at(address) - {gone.uid}
            if left:
                self._at[address] = left
            else:
                self._at.pop(address, None)

    def reset(self, objs: Mapping[ObjectKey, MeshedPod | None]) -> None:
        self._pods.clear()
        self._by_uid.clear()
        self._at.clear()
        for key, obj in objs.items():
            self.apply(key, obj)


def pods_informer(kube: KubeClient, pods: MeshedPods, control_plane_namespace: str) -> Informer[MeshedPod | None]:
    """Follows the pods that carry a proxy of this control plane."""
    selector = f"linkerd.io/control-plane-ns={control_plane_namespace}"
    return Informer(kube, PODS, meshed_pod, pods, label_selector=selector)
