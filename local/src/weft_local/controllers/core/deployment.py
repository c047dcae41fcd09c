"""Deployment: rolls from one ReplicaSet to the next, as `kubectl rollout` expects it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from weft_common.kube.resource import DEPLOYMENTS, PODS, REPLICA_SETS, ObjectKey, key_of

from weft_local.controllers.core.objects import (
    available_in_s,
    changed,
    count_or_percent,
    is_active,
    is_finished,
    is_ready,
    is_terminating,
    owned_by,
    ref,
    template_hash,
    time_from_text,
    with_condition,
)
from weft_local.controllers.core.plan import NOTHING, Action, Create, Delete, Patch, Plan
from weft_local.controllers.core.world import Object, World

HASH_LABEL: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
# kubectl keeps the whole manifest here; a copy on each ReplicaSet would only mislead.
_NOT_COPIED: Final = {"kubectl.kubernetes.io/last-applied-configuration", REVISION}
_DEFAULT_DEADLINE_S: Final = 600
_DEFAULT_HISTORY: Final = 10


@dataclass(frozen=True, slots=True)
class _Generation:
    """One ReplicaSet and its pods. wanted: spec.replicas. waits: seconds to availability, of each ready pod."""

    obj: Object
    wanted: int
    active: int
    alive: int
    ready: int
    waits: tuple[float, ...]

    @property
    def available(self) -> int:
        return self.waits.count(0.0)

    @property
    def key(self) -> ObjectKey:
        return key_of(self.obj)


def reconcile(world: World, key: ObjectKey, now: datetime) -> Plan:
    """One step of a rollout; each step's effects come back as changes and lead to the next."""
    deployment = world.get(DEPLOYMENTS, key)
    if deployment is None or is_terminating(deployment):
        return NOTHING
    spec = deployment["spec"]
    generations = _generations(world, deployment, now)
    wanted_hash = template_hash(spec["template"])
    new = next((one for one in generations if _hash_of(one.obj) == wanted_hash), None)
    old = [one for one in generations if one is not new]

    actions: list[Action] = []
    if new is None and not spec.get("paused"):
        first = _first_replicas(spec, old)
        revision = str(1 + max((_revision(one.obj) for one in generations), default=0))
        actions.append(Create(REPLICA_SETS, _replica_set(deployment, wanted_hash, first, revision)))
        actions += _revision_patch(deployment, revision)
        # A Recreate waits with the new pods until the old ones have gone; so their removal starts now.
        if _is_recreate(spec):
            actions += [_scale(one, 0) for one in old if one.wanted]
    elif new is not None:
        newest = max((_revision(one.obj) for one in old), default=0)
        revision = str(max(_revision(new.obj), newest + 1))
        if str(_revision(new.obj)) != revision:
            actions.append(Patch(REPLICA_SETS, new.key, {"metadata": {"annotations": {REVISION: revision}}}))
        actions += _revision_patch(deployment, revision)
        actions += [
            _scale(one, replicas) for one, replicas in _scaling(spec, new, old).values() if replicas != one.wanted
        ]
        actions += _history_to_drop(spec, old)

    status, deadline_in_s = _status(deployment, new, generations, now)
    if changed(deployment, status):
        actions.append(Patch(DEPLOYMENTS, key, {"status": status}, "status"))
    waits = [wait for one in generations for wait in one.waits if wait]
    if deadline_in_s is not None:
        waits.append(deadline_in_s)
    return Plan(tuple(actions), min(waits, default=None))


def _generations(world: World, deployment: Object, now: datetime) -> list[_Generation]:
    min_ready_s = int(deployment["spec"].get("minReadySeconds", 0))
    found = []
    for replica_set in world.children(REPLICA_SETS, deployment):
        if is_terminating(replica_set):
            continue
        pods = world.children(PODS, replica_set)
        active = [pod for pod in pods if is_active(pod)]
        waits = (available_in_s(pod, min_ready_s, now) for pod in active)
        found.append(
            _Generation(
                obj=replica_set,
                wanted=int(replica_set["spec"].get("replicas", 1)),
                active=len(active),
                alive=sum(not is_finished(pod) for pod in pods),
                ready=sum(is_ready(pod) for pod in active),
                waits=tuple(wait for wait in waits if wait is not None),
            )
        )
    return found


def _scaling(spec: Mapping[str, Any], new: _Generation, old: list[_Generation]) -> dict[str, tuple[_Generation, int]]:
    """ReplicaSet name to (it, the replicas it should have now). Source: Kubernetes, Deployment strategy."""
    desired = int(spec.get("replicas", 1))
    scaled = {one.key.name: (one, one.wanted) for one in (new, *old)}

    def give(one: _Generation, replicas: int) -> None:
        scaled[one.key.name] = (one, replicas)

    if spec.get("paused"):
        if not any(one.wanted for one in old):
            give(new, desired)
        return scaled
    if _is_recreate(spec):
        for one in old:
            give(one, 0)
        give(new, new.wanted if any(one.alive for one in old) else desired)
        return scaled

    surge, unavailable = _limits(spec, desired)
    total = new.wanted + sum(one.wanted for one in old)
    give(new, min(desired, new.wanted + max(0, desired + surge - total)))
    not_yet_available = max(0, new.wanted - new.available)
    may_go = total - (desired - unavailable) - not_yet_available
    available = new.available + sum(one.available for one in old)
    healthy_may_go = available - (desired - unavailable)
    for one in sorted(old, key=lambda each: _revision(each.obj)):
        # Pods that serve nobody go first, whatever the limit on available ones says.
        broken = min(max(0, one.wanted - one.available), max(0, may_go))
        healthy = min(one.available, one.wanted - broken, max(0, healthy_may_go), max(0, may_go - broken))
        may_go -= broken + healthy
        healthy_may_go -= healthy
        give(one, one.wanted - broken - healthy)
    return scaled


def _first_replicas(spec: Mapping[str, Any], old: list[_Generation]) -> int:
    desired = int(spec.get("replicas", 1))
    if _is_recreate(spec):
        return 0 if any(one.alive for one in old) else desired
    surge, _ = _limits(spec, desired)
    return max(0, min(desired, desired + surge - sum(one.wanted for one in old)))


def _limits(spec: Mapping[str, Any], desired: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods, never both 0."""
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    surge = count_or_percent(rolling.get("maxSurge"), "25%", desired, round_up=True)
    unavailable = count_or_percent(rolling.get("maxUnavailable"), "25%", desired, round_up=False)
    return surge, unavailable if surge or unavailable else 1


def _is_recreate(spec: Mapping[str, Any]) -> bool:
    return (spec.get("strategy") or {}).get("type") == "Recreate"


def _replica_set(deployment: Object, hash_: str, replicas: int, revision: str) -> Object:
    spec, metadata = deployment["spec"], deployment["metadata"]
    template = spec["template"]
    labels = {**(template.get("metadata") or {}).get("labels", {}), HASH_LABEL: hash_}
    selector = dict(spec.get("selector") or {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: hash_}
    annotations = {name: text for name, text in (metadata.get("annotations") or {}).items() if name not in _NOT_COPIED}
    return {
        "apiVersion": REPLICA_SETS.api_version,
        "kind": REPLICA_SETS.kind,
        "metadata": {
            "name": f"{metadata['name']}-{hash_}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {**annotations, REVISION: revision},
            "ownerReferences": owned_by(DEPLOYMENTS, deployment),
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": int(spec.get("minReadySeconds", 0)),
            "selector": selector,
            "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
        },
    }


def _status(
    deployment: Object, new: _Generation | None, generations: list[_Generation], now: datetime
) -> tuple[Object, float | None]:
    """The status, and seconds until the progress deadline when one is running."""
    spec, before = deployment["spec"], deployment.get("status") or {}
    desired = int(spec.get("replicas", 1))
    total = sum(one.active for one in generations)
    available = sum(one.available for one in generations)
    updated = new.active if new is not None else 0
    _, unavailable_allowed = _limits(spec, desired)
    counts: Object = {
        "observedGeneration": deployment["metadata"].get("generation", 1),
        "replicas": total or None,
        "updatedReplicas": updated or None,
        "readyReplicas": sum(one.ready for one in generations) or None,
        "availableReplicas": available or None,
        "unavailableReplicas": max(0, max(total, desired) - available) or None,
    }
    is_available = available >= desired - (0 if _is_recreate(spec) else unavailable_allowed)
    conditions = with_condition(
        before.get("conditions") or (),
        "Available",
        is_available,
        "MinimumReplicasAvailable" if is_available else "MinimumReplicasUnavailable",
        f"Deployment {'has' if is_available else 'does not have'} minimum availability.",
        now,
    )
    name = deployment["metadata"]["name"]
    if new is None:
        message = f'Created new replica set "{name}-{template_hash(spec["template"])}"'
        conditions = with_condition(conditions, "Progressing", True, "NewReplicaSetCreated", message, now)
        return {**counts, "conditions": conditions}, None
    shown = f'ReplicaSet "{new.key.name}"'
    if updated == desired and total == desired and available >= desired:
        message = f"{shown} has successfully progressed."
        conditions = with_condition(conditions, "Progressing", True, "NewReplicaSetAvailable", message, now)
        return {**counts, "conditions": conditions}, None
    progressing: Mapping[str, Any] = next((one for one in conditions if one["type"] == "Progressing"), {})
    moved = any(
        before.get(field) != counts[field] for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    deadline_s = int(spec.get("progressDeadlineSeconds", _DEFAULT_DEADLINE_S))
    since = now if moved else time_from_text(progressing.get("lastUpdateTime")) or now
    left_s = deadline_s - (now - since).total_seconds()
    # A rollout that has timed out stays so until it moves again.
    timed_out = not moved and progressing.get("reason") == "ProgressDeadlineExceeded"
    if timed_out or left_s <= 0:
        message = f"{shown} has timed out progressing."
        conditions = with_condition(conditions, "Progressing", False, "ProgressDeadlineExceeded", message, now)
        return {**counts, "conditions": conditions}, None
    message = f"{shown} is progressing."
    if moved:
        # A fresh condition restarts the deadline.
        conditions = [one for one in conditions if one["type"] != "Progressing"]
    conditions = with_condition(conditions, "Progressing", True, "ReplicaSetUpdated", message, now)
    return {**counts, "conditions": conditions}, left_s


def _revision_patch(deployment: Object, revision: str) -> list[Action]:
    if (deployment["metadata"].get("annotations") or {}).get(REVISION) == revision:
        return []
    return [Patch(DEPLOYMENTS, key_of(deployment), {"metadata": {"annotations": {REVISION: revision}}})]


def _history_to_drop(spec: Mapping[str, Any], old: list[_Generation]) -> list[Action]:
    idle = sorted((one for one in old if not one.wanted and not one.alive), key=lambda one: _revision(one.obj))
    surplus = len(idle) - int(spec.get("revisionHistoryLimit", _DEFAULT_HISTORY))
    return [Delete(REPLICA_SETS, *ref(one.obj)) for one in idle[: max(0, surplus)]]


def _scale(one: _Generation, replicas: int) -> Patch:
    return Patch(REPLICA_SETS, one.key, {"spec": {"replicas": replicas}})


def _hash_of(replica_set: Object) -> str:
    labels: Mapping[str, str] = replica_set["metadata"].get("labels") or {}
    return labels.get(HASH_LABEL, "")


def _revision(replica_set: Object) -> int:
    return int((replica_set["metadata"].get("annotations") or {}).get(REVISION, 0))
