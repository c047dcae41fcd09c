"""Which object a pod belongs to in people's eyes: the Deployment rather than its ReplicaSet.

Asks for one lookup at a time and does none itself: `next_owner` says whom to fetch, the shell fetches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from weft_injector.core.names import LABELLED_OWNER_KINDS, PROXY_OWNER_PREFIX
from weft_injector.core.pod import OwnerReference, Pod

_FOLLOWED: Final = frozenset({"replicaset", "job"})
_ABOVE_REPLICA_SET: Final = frozenset({"job", "statefulset", "daemonset", "deployment"})


@dataclass(frozen=True, slots=True)
class Owner:
    """kind: lower case. reference: None for a pod that stands for itself."""

    kind: str
    name: str
    reference: OwnerReference | None = None

    def label(self) -> tuple[str, str] | None:
        """Label of the injected pod, None for kinds that have none."""
        # The webhook finds a CronJob above a Job and, as upstream, does not name it; a manifest is its own owner.
        named = LABELLED_OWNER_KINDS if self.reference is not None else LABELLED_OWNER_KINDS | {"cronjob"}
        if self.kind not in named:
            return None
        return PROXY_OWNER_PREFIX + self.kind, self.name


def direct_owner(pod: Pod) -> Owner:
    """The pod's one owner; the pod itself when it has none or several."""
    if len(pod.owners) != 1:
        return Owner("pod", pod.name)
    return _owner(pod.owners[0])


def is_followed(owner: Owner) -> bool:
    """Whether the owner's own owner matters, so that it must be fetched."""
    return owner.kind in _FOLLOWED


def root_owner(owner: Owner, owners_of_owner: Sequence[OwnerReference]) -> Owner:
    """One level up when that is a workload people know."""
    if len(owners_of_owner) != 1:
        return owner
    above = _owner(owners_of_owner[0])
    if owner.kind == "replicaset" and above.kind not in _ABOVE_REPLICA_SET:
        return owner
    return above


def _owner(reference: OwnerReference) -> Owner:
    return Owner(reference.kind.lower(), reference.name, reference)
