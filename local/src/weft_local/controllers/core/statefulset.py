"""StatefulSet: numbered pods with stable names, started and stopped in order.

A claim of `volumeClaimTemplates` becomes an emptyDir: this machine has no storage provisioner, so the data lives as
long as the pod.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from weft_common.kube.resource import PODS, STATEFUL_SETS, ObjectKey, key_of

from weft_local.controllers.core.objects import (
    available_in_s,
    changed,
    is_finished,
    is_ready,
    is_terminating,
    pod_from_template,
    ref,
    template_hash,
)
from weft_local.controllers.core.plan import NOTHING, Action, Create, Delete, Patch, Plan
from weft_local.controllers.core.world import Object, World

REVISION_LABEL: Final = "controller-revision-hash"
NAME_LABEL: Final = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL: Final = "apps.kubernetes.io/pod-index"


def reconcile(world: World, key: ObjectKey, now: datetime) -> Plan:
    """One step: the lowest missing pod, or the highest surplus one, or the highest outdated one."""
    stateful_set = world.get(STATEFUL_SETS, key)
    if stateful_set is None or is_terminating(stateful_set):
        return NOTHING
    spec = stateful_set["spec"]
    first = int((spec.get("ordinals") or {}).get("start", 0))
    wanted = range(first, first + int(spec.get("replicas", 1)))
    pods = {_ordinal(pod): pod for pod in world.children(PODS, stateful_set)}
    revision = template_hash(spec["template"])
    min_ready_s = int(spec.get("minReadySeconds", 0))
    waits = {ordinal: available_in_s(pod, min_ready_s, now) for ordinal, pod in pods.items()}

    actions = _pod_actions(stateful_set, wanted, pods, waits, revision)
    live = {ordinal: pod for ordinal, pod in pods.items() if not is_terminating(pod)}
    updated = sum(_revision(pod) == revision for pod in live.values())
    before = stateful_set.get("status") or {}
    rolled_out = updated == len(live) == len(wanted) and all(is_ready(pod) for pod in live.values())
    current = revision if rolled_out else before.get("currentRevision") or f"{key.name}-{revision}"
    current = current if current.startswith(f"{key.name}-") else f"{key.name}-{current}"
    status: dict[str, Any] = {
        "replicas": len(pods),
        "readyReplicas": sum(is_ready(pod) for pod in pods.values()) or None,
        "availableReplicas": list(waits.values()).count(0.0),
        "currentReplicas": sum(f"{key.name}-{_revision(pod)}" == current for pod in live.values()) or None,
        "updatedReplicas": updated or None,
        "currentRevision": current,
        "updateRevision": f"{key.name}-{revision}",
        "observedGeneration": stateful_set["metadata"].get("generation", 1),
    }
    if changed(stateful_set, status):
        actions.append(Patch(STATEFUL_SETS, key, {"status": status}, "status"))
    return Plan(tuple(actions), min((wait for wait in waits.values() if wait), default=None))


def _pod_actions(
    stateful_set: Object, wanted: range, pods: dict[int, Object], waits: dict[int, float | None], revision: str
) -> list[Action]:
    spec = stateful_set["spec"]
    ordered = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
    actions: list[Action] = []
    for ordinal in wanted:
        pod = pods.get(ordinal)
        if pod is None:
            actions.append(Create(PODS, _pod(stateful_set, ordinal, revision)))
        elif is_finished(pod) and not is_terminating(pod):
            actions.append(Delete(PODS, *ref(pod)))
        if ordered and waits.get(ordinal) != 0.0:
            # The next one starts when this one is available.
            return actions
    surplus = sorted((ordinal for ordinal in pods if ordinal not in wanted), reverse=True)
    for ordinal in surplus:
        if not is_terminating(pods[ordinal]):
            actions.append(Delete(PODS, *ref(pods[ordinal])))
        if ordered:
            return actions
    update = spec.get("updateStrategy") or {}
    if actions or update.get("type", "RollingUpdate") != "RollingUpdate":
        return actions
    partition = int((update.get("rollingUpdate") or {}).get("partition", 0))
    for ordinal in reversed(wanted):
        pod = pods[ordinal]
        if ordinal >= partition and _revision(pod) != revision:
            return [] if is_terminating(pod) else [Delete(PODS, *ref(pod))]
        if waits[ordinal] != 0.0:
            return []
    return actions


def _pod(stateful_set: Object, ordinal: int, revision: str) -> Object:
    spec, owner = stateful_set["spec"], key_of(stateful_set)
    name = f"{owner.name}-{ordinal}"
    pod = pod_from_template(spec["template"], owner.namespace, STATEFUL_SETS, stateful_set)
    pod["metadata"]["name"] = name
    pod["metadata"]["labels"] |= {NAME_LABEL: name, INDEX_LABEL: str(ordinal), REVISION_LABEL: revision}
    pod["spec"] |= {"hostname": name, "subdomain": spec.get("serviceName", "")}
    claims = [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or ()]
    if claims:
        others = [one for one in pod["spec"].get("volumes") or () if one["name"] not in claims]
        pod["spec"]["volumes"] = [*others, *({"name": claim, "emptyDir": {}} for claim in claims)]
    return pod


def _ordinal(pod: Object) -> int:
    return int(key_of(pod).name.rpartition("-")[2])


def _revision(pod: Object) -> str:
    labels: dict[str, str] = pod["metadata"].get("labels") or {}
    return labels.get(REVISION_LABEL, "")
