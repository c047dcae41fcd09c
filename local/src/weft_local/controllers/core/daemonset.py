"""DaemonSet: one pod of a template on every node, which here is one node."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from weft_common.kube.resource import DAEMON_SETS, NODES, PODS, ObjectKey, key_of

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
from weft_local.controllers.core.statefulset import REVISION_LABEL
from weft_local.controllers.core.world import Object, World


def reconcile(world: World, key: ObjectKey, now: datetime) -> Plan:
    """Place missing pods, replace finished and outdated ones."""
    daemon_set = world.get(DAEMON_SETS, key)
    if daemon_set is None or is_terminating(daemon_set):
        return NOTHING
    spec = daemon_set["spec"]
    revision = template_hash(spec["template"])
    rolling = (spec.get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
    node_selector = (spec["template"].get("spec") or {}).get("nodeSelector") or {}
    nodes = {
        key_of(node).name
        for node in world.all(NODES)
        if node_selector.items() <= (node["metadata"].get("labels") or {}).items()
    }
    by_node: dict[str, Object] = {}
    actions: list[Action] = []
    for pod in world.children(PODS, daemon_set):
        node = pod["spec"].get("nodeName", "")
        outdated = rolling and (pod["metadata"].get("labels") or {}).get(REVISION_LABEL) != revision
        if not is_terminating(pod) and (is_finished(pod) or outdated or node not in nodes or node in by_node):
            actions.append(Delete(PODS, *ref(pod)))
        # While the old pod stops, it still holds the node: ports may be in use.
        by_node[node] = pod
    for node in sorted(nodes - by_node.keys()):
        body = pod_from_template(spec["template"], key.namespace, DAEMON_SETS, daemon_set)
        body["metadata"]["generateName"] = f"{key.name}-"
        body["metadata"]["labels"][REVISION_LABEL] = revision
        body["spec"]["nodeName"] = node
        actions.append(Create(PODS, body))

    placed = [pod for node, pod in by_node.items() if node in nodes and not is_terminating(pod)]
    waits = [available_in_s(pod, int(spec.get("minReadySeconds", 0)), now) for pod in placed]
    current = sum((pod["metadata"].get("labels") or {}).get(REVISION_LABEL) == revision for pod in placed)
    status: dict[str, Any] = {
        "desiredNumberScheduled": len(nodes),
        "currentNumberScheduled": len(placed),
        "numberMisscheduled": 0,
        "numberReady": sum(is_ready(pod) for pod in placed),
        "updatedNumberScheduled": current or None,
        "numberAvailable": waits.count(0.0) or None,
        "numberUnavailable": len(nodes) - waits.count(0.0) or None,
        "observedGeneration": daemon_set["metadata"].get("generation", 1),
    }
    if changed(daemon_set, status):
        actions.append(Patch(DAEMON_SETS, key, {"status": status}, "status"))
    return Plan(tuple(actions), min((wait for wait in waits if wait), default=None))
