"""ReplicaSet: as many pods of one template as asked for."""

from __future__ import annotations

from datetime import datetime

from weft_common.kube.resource import PODS, REPLICA_SETS, ObjectKey, key_of

from weft_local.controllers.core.objects import (
    available_in_s,
    changed,
    is_active,
    is_ready,
    is_terminating,
    pod_from_template,
    ref,
)
from weft_local.controllers.core.plan import NOTHING, Action, Create, Delete, Patch, Plan
from weft_local.controllers.core.world import Object, World


def reconcile(world: World, key: ObjectKey, now: datetime) -> Plan:
    """Create or delete pods, then write the counts."""
    replica_set = world.get(REPLICA_SETS, key)
    if replica_set is None or is_terminating(replica_set):
        return NOTHING
    spec = replica_set["spec"]
    pods = [pod for pod in world.children(PODS, replica_set) if is_active(pod)]
    wanted = int(spec.get("replicas", 1))
    actions: list[Action] = []
    if len(pods) < wanted:
        body = pod_from_template(spec["template"], key.namespace, REPLICA_SETS, replica_set)
        body["metadata"]["generateName"] = f"{key.name}-"
        actions += [Create(PODS, body)] * (wanted - len(pods))
    elif len(pods) > wanted:
        actions += [Delete(PODS, *ref(pod)) for pod in sorted(pods, key=_keep_rank)[: len(pods) - wanted]]

    waits = [available_in_s(pod, int(spec.get("minReadySeconds", 0)), now) for pod in pods]
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    status = {
        "replicas": len(pods),
        "fullyLabeledReplicas": sum(labels.items() <= (pod["metadata"].get("labels") or {}).items() for pod in pods)
        or None,
        "readyReplicas": sum(is_ready(pod) for pod in pods) or None,
        "availableReplicas": waits.count(0.0) or None,
        "observedGeneration": replica_set["metadata"].get("generation", 1),
    }
    if changed(replica_set, status):
        actions.append(Patch(REPLICA_SETS, key, {"status": status}, "status"))
    return Plan(tuple(actions), min((wait for wait in waits if wait), default=None))


def _keep_rank(pod: Object) -> tuple[bool, bool, str, str]:
    """Smaller goes first: unassigned, then not ready, then the youngest."""
    created = pod["metadata"].get("creationTimestamp", "")
    # Invert the digits of the time: strings cannot be negated, and younger must sort first.
    inverted = "".join(chr(0x7F - ord(letter)) for letter in created)
    return bool(pod["spec"].get("nodeName")), is_ready(pod), inverted, key_of(pod).name
