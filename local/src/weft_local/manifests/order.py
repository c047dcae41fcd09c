"""In which order objects are written, so that each finds what it needs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final, TypeVar

T = TypeVar("T")

# Kinds in one row may be written side by side.
STAGES: Final = (
    ("Namespace",),
    ("CustomResourceDefinition",),
    ("ServiceAccount", "PriorityClass", "ResourceQuota", "LimitRange"),
    ("Secret", "ConfigMap", "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding", "PersistentVolume"),
    ("PersistentVolumeClaim", "Service", "NetworkPolicy"),
    # Anything not named elsewhere, custom resources among them.
    (),
    ("Pod", "ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"),
    # A webhook before the pods that serve it would refuse them.
    ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"),
)
_STAGE_OF: Final = {kind: number for number, kinds in enumerate(STAGES) for kind in kinds}
_OTHERS: Final = STAGES.index(())


def stage_of(kind: str) -> int:
    """Smaller is earlier."""
    return _STAGE_OF.get(kind, _OTHERS)


def in_stages(objects: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Objects in groups to be written one after the other; the given order is kept inside each."""
    ordered = sorted(objects, key=_stage)
    return [list(group) for _, group in groupby(ordered, key=_stage)]


def _stage(obj: dict[str, Any]) -> int:
    return stage_of(str(obj.get("kind")))
