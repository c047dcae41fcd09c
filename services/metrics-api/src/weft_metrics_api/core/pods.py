"""Pods as metrics see them: owner, address, proxy, and the index that finds one by name, by address or by owner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from weft_metrics_api.core.resources import WORKLOAD_KINDS, ResourceId

DEFAULT_ADMIN_PORT: Final = 4191


class PodKey(NamedTuple):
    """Same shape as an informer's key."""

    namespace: str
    name: str


class OwnerRef(NamedTuple):
    """The controller of an object: lower-case kind and name, in the object's own namespace."""

    kind: str
    name: str


class Phase(Enum):
    """Of a pod. ACTIVE: pending or running, and not being deleted."""

    ACTIVE = "active"
    FAILED = "failed"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod. uid tells a recreated pod of the same name apart.

    ip: empty until assigned. admin_port: of its proxy, None without one. identity: its mesh identity, empty without.
    """

    key: PodKey
    uid: str
    ip: str
    phase: Phase
    owner: OwnerRef | None
    admin_port: int | None
    identity: str
    is_meshed: bool
    host_ip: str = ""
    tap_port: int | None = None
    """Where its proxy shows requests; None when nobody may look."""

    @property
    def is_tappable(self) -> bool:
        """Whether its proxy can be asked what it sees."""
        return self.is_meshed and self.tap_port is not None and bool(self.ip) and self.phase is Phase.ACTIVE

    @property
    def is_scrapable(self) -> bool:
        """Whether its proxy can be asked for metrics."""
        return self.is_meshed and self.admin_port is not None and bool(self.ip) and self.phase is Phase.ACTIVE


class Directory:
    """Everything known about the cluster. Written by the watches, read by queries; one task owns both.

    owners: controller of each ReplicaSet and Job, keyed by (namespace, kind, name); absent when it has none.
    known: workloads and services that exist, whether or not they have pods.
    """

    def __init__(self) -> None:
        self.pods: dict[PodKey, Pod] = {}
        self.owners: dict[ResourceId, OwnerRef] = {}
        self.known: dict[str, set[PodKey]] = {}

    def workloads_of(self, pod: Pod) -> tuple[ResourceId, ...]:
        """The owners of a pod, nearest first: its ReplicaSet, then its Deployment. Empty for a bare pod."""
        chain: list[ResourceId] = []
        owner = pod.owner
        while owner is not None and owner.kind in WORKLOAD_KINDS:
            resource = ResourceId(pod.key.namespace, owner.kind, owner.name)
            if resource in chain:
                break
            chain.append(resource)
            owner = self.owners.get(resource)
        return tuple(chain)

    def workload_of(self, pod: Pod) -> ResourceId:
        """The outermost owner; the pod itself when it has none."""
        chain = self.workloads_of(pod)
        return chain[-1] if chain else ResourceId(pod.key.namespace, "pod", pod.key.name)

    def resource_of(self, pod: Pod, kind: str) -> ResourceId | None:
        """What a pod counts for when rows are of this kind; None when nothing of the kind owns it."""
        if kind == "pod":
            return ResourceId(pod.key.namespace, "pod", pod.key.name)
        if kind == "namespace":
            return ResourceId("", "namespace", pod.key.namespace)
        return next((resource for resource in self.workloads_of(pod) if resource.kind == kind), None)

    def by_ip(self) -> dict[str, Pod]:
        """Live pods by address. An address that several share tells nothing and is left out."""
        found: dict[str, Pod] = {}
        shared: set[str] = set()
        for pod in self.pods.values():
            if not pod.ip or pod.phase is not Phase.ACTIVE:
                continue
            if pod.ip in found:
                shared.add(pod.ip)
            found[pod.ip] = pod
        for ip in shared:
            del found[ip]
        return found

    def scrapable(self) -> list[Pod]:
        """Pods whose proxies can be asked, in name order."""
        return [pod for _, pod in sorted(self.pods.items()) if pod.is_scrapable]
