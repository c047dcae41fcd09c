"""The status of a pod as the API shows it, computed from its states. Same input, same output: no clock is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

from weft_local.node.core.lifecycle import ContainerState, Ended, Stage, States, is_initialized
from weft_local.node.core.spec import ContainerSpec, Json, PodSpec, RestartPolicy, Role


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What the node knows of a pod beside its containers. failure: reason and message that end the pod as Failed."""

    pod_ip: str
    host_ip: str
    started_at: float
    failure: tuple[str, str] | None = None


def pod_status(pod: PodSpec, states: States, facts: PodFacts, now: float, previous: Json) -> dict[str, Any]:
    """The whole status. previous: the last one, whose transition times are kept where nothing changed."""
    initialized = is_initialized(pod, states)
    phase = _phase(pod, states, facts)
    serving = [c for c in pod.containers if c.role is not Role.INIT]
    unready = [c.name for c in serving if not states[c.name].ready]
    finished = phase in ("Succeeded", "Failed")
    containers_ready = not unready and initialized and not finished
    gates = [g["conditionType"] for g in pod.raw["spec"].get("readinessGates") or ()]
    kept = {c["type"]: c for c in previous.get("conditions") or ()}
    gates_open = all((kept.get(g) or {}).get("status") == "True" for g in gates)
    completed = "PodCompleted" if phase == "Succeeded" else "PodFailed"
    why = (
        ("", "")
        if containers_ready
        else (
            (completed, "")
            if finished
            else ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
        )
    )
    waiting_for = [c.name for c in pod.of_role(Role.INIT, Role.SIDECAR) if not _init_done(c, states[c.name])]
    not_initialized = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(waiting_for)}]")
    readiness = why if not containers_ready else ("", "") if gates_open else ("ReadinessGatesNotReady", "")
    conditions = [
        _condition("PodReadyToStartContainers", bool(facts.pod_ip) and not finished, ("", ""), kept, now),
        _condition("Initialized", initialized, ("", "") if initialized else not_initialized, kept, now),
        _condition("Ready", containers_ready and gates_open, readiness, kept, now),
        _condition("ContainersReady", containers_ready, why, kept, now),
        _condition("PodScheduled", True, ("", ""), kept, now),
    ]
    ours = {c["type"] for c in conditions}
    conditions += [c for kind, c in kept.items() if kind not in ours]
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": conditions,
        "hostIP": facts.host_ip,
        "hostIPs": [{"ip": facts.host_ip}],
        "startTime": timestamp(facts.started_at),
        "qosClass": (previous.get("qosClass") or "BestEffort"),
        "containerStatuses": [_container_status(c, states[c.name], initialized) for c in pod.of_role(Role.APP)],
        "initContainerStatuses": [
            _container_status(c, states[c.name], initialized) for c in pod.of_role(Role.INIT, Role.SIDECAR)
        ],
    }
    if facts.pod_ip:
        status |= {"podIP": facts.pod_ip, "podIPs": [{"ip": facts.pod_ip}]}
    if facts.failure:
        status |= {"reason": facts.failure[0], "message": facts.failure[1]}
    return status


def timestamp(at: float) -> str:
    """Seconds since the epoch in the API's form, whole seconds, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _phase(pod: PodSpec, states: States, facts: PodFacts) -> str:
    if facts.failure:
        return "Failed"
    for spec in pod.of_role(Role.INIT):
        end = states[spec.name].ended
        failed = states[spec.name].stage is Stage.TERMINATED and end is not None and end.exit_code != 0
        if failed and pod.restart_policy is RestartPolicy.NEVER:
            return "Failed"
    if not is_initialized(pod, states):
        return "Pending"
    apps = [states[c.name] for c in pod.of_role(Role.APP)]
    over = [s.ended for s in apps if s.stage is Stage.TERMINATED and s.ended is not None]
    if len(over) == len(apps) and over and pod.restart_policy is not RestartPolicy.ALWAYS:
        if all(e.exit_code == 0 for e in over):
            return "Succeeded"
        if pod.restart_policy is RestartPolicy.NEVER:
            return "Failed"
    if any(s.runs > 0 for s in apps):
        return "Running"
    return "Pending"


def _init_done(spec: ContainerSpec, state: ContainerState) -> bool:
    if spec.role is Role.SIDECAR:
        return state.stage is Stage.RUNNING and state.started
    return state.stage is Stage.TERMINATED and state.ended is not None and state.ended.exit_code == 0


def _condition(kind: str, holds: bool, why: tuple[str, str], kept: Mapping[str, Json], now: float) -> dict[str, Any]:
    status = "True" if holds else "False"
    before = kept.get(kind) or {}
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    condition: dict[str, Any] = {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": since or timestamp(now),
    }
    if why[0]:
        condition["reason"] = why[0]
    if why[1]:
        condition["message"] = why[1]
    return condition


def _container_status(spec: ContainerSpec, state: ContainerState, initialized: bool) -> dict[str, Any]:
    done = spec.role is Role.INIT and _init_done(spec, state)
    status: dict[str, Any] = {
        "name": spec.name,
        "image": spec.image,
        "imageID": f"weft-local://{spec.image}",
        "ready": state.ready or done,
        "started": state.started and state.stage in (Stage.RUNNING, Stage.STOPPING),
        "restartCount": state.restarts,
        "state": _state(spec, state, initialized),
        "lastState": {"terminated": _terminated(state.last)} if state.last else {},
    }
    if state.stage is Stage.TERMINATED and state.ended is not None and state.waiting_reason:
        # Waiting for its next run: the run that just ended is already the last one.
        status["lastState"] = {"terminated": _terminated(state.ended)}
    if state.instance:
        status["containerID"] = f"weft-local://{state.instance}"
    return status


def _state(spec: ContainerSpec, state: ContainerState, initialized: bool) -> dict[str, Any]:
    match state.stage:
        case Stage.RUNNING | Stage.STOPPING if state.started_at:
            return {"running": {"startedAt": timestamp(state.started_at)}}
        case Stage.TERMINATED if state.ended is not None and not state.waiting_reason:
            return {"terminated": _terminated(state.ended)}
        case Stage.WAITING | Stage.STARTING | Stage.RUNNING | Stage.STOPPING | Stage.TERMINATED:
            reason = state.waiting_reason or "ContainerCreating"
            if spec.role is Role.APP and initialized and reason == "PodInitializing":
                reason = "ContainerCreating"
            waiting = {"reason": reason}
            if state.waiting_message:
                waiting["message"] = state.waiting_message
            return {"waiting": waiting}
        case _:
            assert_never(state.stage)


def _terminated(end: Ended) -> dict[str, Any]:
    terminated: dict[str, Any] = {
        "exitCode": end.exit_code,
        "reason": end.reason,
        "startedAt": timestamp(end.started_at),
        "finishedAt": timestamp(end.finished_at),
        "containerID": f"weft-local://{end.instance}",
    }
    if end.exit_code > 128:
        terminated["signal"] = end.exit_code - 128
    if end.message:
        terminated["message"] = end.message
    return terminated
