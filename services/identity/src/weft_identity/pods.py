"""The pods of the cluster, kept in step by informers: who has which address, and what each meshed one was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from weft_common.kube.client import KubeClient
from weft_common.kube.informer import Informer
from weft_common.kube.resource import PODS, ObjectKey

from weft_identity.core.proxies import BarePod, MeshedPod, bare_pod, meshed_pod

CONTROL_PLANE_LABEL: Final = "linkerd.io/control-plane-ns"
_NOBODY: Final[frozenset[str]] = frozenset()


class Addresses:
    """Uids of pods by address; several share their node's."""

    def __init__(self) -> None:
        self._at: dict[str, frozenset[str]] = {}

    def at(self, address: str) -> frozenset[str]:
        return self._at.get(address, _NOBODY)

    def add(self, pod: MeshedPod | BarePod) -> None:
        for address in pod.addresses:
            self._at[address] = self.at(address) | {pod.uid}

    def remove(self, pod: MeshedPod | BarePod) -> None:
        for address in pod.addresses:
            left = self.at(address) - {pod.uid}
            if left:
                self._at[address] = left
            else:
                self._at.pop(address, None)

    def clear(self) -> None:
        self._at.clear()


@dataclass(slots=True)
class MeshedPods:
    """The index of an Informer."""

    _pods: dict[ObjectKey, MeshedPod] = field(default_factory=dict, init=False)
    _by_uid: dict[str, MeshedPod] = field(default_factory=dict, init=False)
    _addresses: Addresses = field(default_factory=Addresses, init=False)

    def by_uid(self, uid: str) -> MeshedPod | None:
        return self._by_uid.get(uid)

    def at(self, address: str) -> frozenset[str]:
        return self._addresses.at(address)

    def all(self) -> list[MeshedPod]:
        """In no order."""
        return list(self._pods.values())

    def apply(self, key: ObjectKey, obj: MeshedPod | None) -> None:
        self.delete(key)
        if obj is None:
            return
        self._pods[key] = obj
        self._by_uid[obj.uid] = obj
        self._addresses.add(obj)

    def delete(self, key: ObjectKey) -> None:
        gone = self._pods.pop(key, None)
        if gone is None:
            return
        self._by_uid.pop(gone.uid, None)
        self._addresses.remove(gone)

    def reset(self, objs: Mapping[ObjectKey, MeshedPod | None]) -> None:
        self._pods.clear()
        self._by_uid.clear()
        self._addresses.clear()
        for key, obj in objs.items():
            self.apply(key, obj)


@dataclass(slots=True)
class BarePods:
    """The index of an Informer over the pods without a proxy of ours, from where a stolen token may be sent as well."""

    _pods: dict[ObjectKey, BarePod] = field(default_factory=dict, init=False)
    _addresses: Addresses = field(default_factory=Addresses, init=False)

    def at(self, address: str) -> frozenset[str]:
        return self._addresses.at(address)

    def apply(self, key: ObjectKey, obj: BarePod | None) -> None:
        self.delete(key)
        if obj is not None:
            self._pods[key] = obj
            self._addresses.add(obj)

    def delete(self, key: ObjectKey) -> None:
        if gone := self._pods.pop(key, None):
            self._addresses.remove(gone)

    def reset(self, objs: Mapping[ObjectKey, BarePod | None]) -> None:
        self._pods.clear()
        self._addresses.clear()
        for key, obj in objs.items():
            self.apply(key, obj)


@dataclass(frozen=True, slots=True)
class ClusterPods:
    """Implements FindPods."""

    meshed: MeshedPods
    bare: BarePods

    def by_uid(self, uid: str) -> MeshedPod | None:
        return self.meshed.by_uid(uid)

    def at(self, address: str) -> frozenset[str]:
        return self.meshed.at(address) | self.bare.at(address)


def pods_informer(kube: KubeClient, pods: MeshedPods, control_plane_namespace: str) -> Informer[MeshedPod | None]:
    """Follows the pods that carry a proxy of this control plane."""
    return Informer(kube, PODS, meshed_pod, pods, label_selector=f"{CONTROL_PLANE_LABEL}={control_plane_namespace}")


def bare_pods_informer(kube: KubeClient, pods: BarePods, control_plane_namespace: str) -> Informer[BarePod | None]:
    """Follows all others."""
    return Informer(kube, PODS, bare_pod, pods, label_selector=f"{CONTROL_PLANE_LABEL}!={control_plane_namespace}")
