"""What is not ready yet, and why: the question behind `--wait` and `status`. Pure; reads API objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from weft_local.controllers.core.objects import condition, is_ready, matches

Object = dict[str, Any]

# After this many restarts a container is not merely waiting for something else to come up.
HOPELESS_RESTARTS: Final = 5
# A container without a readiness probe is ready by definition; one that lives this long did not crash at once.
PROVEN_AFTER_S: Final = 2.0
_WAITING_IS_FINE: Final = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True)
class PodTrouble:
    """A pod that is not ready. container: the one to blame, empty when none is."""

    namespace: str
    name: str
    container: str
    why: str
    restarts: int
    is_crashing: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """A workload that is not all there yet. pods: those of its pods that are not ready."""

    kind: str
    namespace: str
    name: str
    why: str
    pods: tuple[PodTrouble, ...]

    @property
    def is_hopeless(self) -> bool:
        """Whether one of its containers keeps crashing."""
        return any(pod.is_crashing and pod.restarts >= HOPELESS_RESTARTS for pod in self.pods)

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name} in {self.namespace}: {self.why}"


def pending(workloads: Iterable[Object], pods: Iterable[Object]) -> list[Pending]:
    """Workloads (any kind with pods, bare Pods too) that are not ready, in the given order."""
    listed = list(pods)
    found = []
    for workload in workloads:
        why = _unready(workload)
        if why is not None:
            metadata = workload["metadata"]
            own = [trouble for pod in _pods_of(workload, listed) if (trouble := pod_trouble(pod)) is not None]
            found.append(Pending(workload["kind"], metadata["namespace"], metadata["name"], why, tuple(own)))
    return found


def pod_trouble(pod: Object) -> PodTrouble | None:
    """Why a pod is not ready; None when it is, when it has done its work, or when it is going away."""
    status = pod.get("status") or {}
    if is_ready(pod) or status.get("phase") == "Succeeded" or pod["metadata"].get("deletionTimestamp"):
        return None
    metadata = pod["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    # The container that crashes is to blame before those that merely wait, perhaps for it.
    worst = max(_container_troubles(pod), key=lambda one: (one.is_crashing, one.restarts), default=None)
    if worst is None:
        return PodTrouble(namespace, name, "", _phase_text(pod), 0, False)
    return PodTrouble(namespace, name, worst.name, f"{worst.name}: {worst.text}", worst.restarts, worst.is_crashing)


def unproven_s(pods: Iterable[Object], now: datetime) -> float:
    """Seconds until every running container without a readiness probe has lived PROVEN_AFTER_S; 0 when all have."""
    youngest_s = min((age for pod in pods for age in _ages_without_probe_s(pod, now)), default=PROVEN_AFTER_S)
    return max(0.0, PROVEN_AFTER_S - youngest_s)


def _ages_without_probe_s(pod: Object, now: datetime) -> Iterator[float]:
    probed = {one["name"] for one in pod["spec"]["containers"] if one.get("readinessProbe")}
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        running = (status.get("state") or {}).get("running")
        if running and status["name"] not in probed:
            yield (now - datetime.fromisoformat(running["startedAt"])).total_seconds()


def _unready(workload: Object) -> str | None:
    """None when the workload is complete and its status is of its present generation."""
    spec, status = workload.get("spec") or {}, workload.get("status") or {}
    kind = workload["kind"]
    if kind == "Pod":
        trouble = pod_trouble(workload)
        return trouble.why if trouble is not None else None
    if int(status.get("observedGeneration", 0)) < int(workload["metadata"].get("generation", 1)) and kind != "Job":
        return "not looked at yet"
    match kind:
        case "Job":
            done = condition(workload, "Complete")
            return None if done is not None and done["status"] == "True" else "not complete"
        case "DaemonSet":
            wanted, updated = int(status.get("desiredNumberScheduled", 0)), int(status.get("updatedNumberScheduled", 0))
            available = int(status.get("numberAvailable", 0))
        case "StatefulSet":
            wanted, updated = int(spec.get("replicas", 1)), int(status.get("updatedReplicas", 0))
            available = int(status.get("availableReplicas", 0))
        case _:
            wanted, updated = int(spec.get("replicas", 1)), int(status.get("updatedReplicas", 0))
            available = int(status.get("availableReplicas", 0))
            if int(status.get("replicas", 0)) > updated and updated >= wanted:
                return "old pods are still stopping"
    if updated < wanted or available < wanted:
        return f"{min(updated, available)} of {wanted} pods ready"
    return None


def _pods_of(workload: Object, pods: Iterable[Object]) -> Iterator[Object]:
    metadata = workload["metadata"]
    selector: Mapping[str, Any] | None = (workload.get("spec") or {}).get("selector")
    if workload["kind"] == "Job":
        selector = {"matchLabels": {"batch.kubernetes.io/job-name": metadata["name"]}}
    for pod in pods:
        if pod["metadata"]["namespace"] != metadata["namespace"]:
            continue
        if workload["kind"] == "Pod":
            if pod["metadata"]["name"] == metadata["name"]:
                yield pod
        elif matches(selector, pod["metadata"].get("labels")):
            yield pod


def _container_statuses(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


@dataclass(frozen=True, slots=True)
class _ContainerTrouble:
    name: str
    text: str
    restarts: int
    is_crashing: bool


def _container_troubles(pod: Object) -> Iterator[_ContainerTrouble]:
    """Containers that are not as they should be, in order."""
    for one in _container_statuses(pod):
        text = _container_trouble(one)
        if text is not None:
            restarts = int(one.get("restartCount", 0))
            waiting = (one.get("state") or {}).get("waiting") or {}
            is_crashing = waiting.get("reason") == "CrashLoopBackOff" or restarts >= HOPELESS_RESTARTS
            yield _ContainerTrouble(str(one["name"]), text, restarts, is_crashing)


def _container_trouble(status: Object) -> str | None:
    state = status.get("state") or {}
    waiting, terminated = state.get("waiting"), state.get("terminated")
    last = (status.get("lastState") or {}).get("terminated")
    ended = f" (exit code {last.get('exitCode')})" if last else ""
    if waiting and waiting.get("reason") not in _WAITING_IS_FINE:
        message = str(waiting.get("message") or "")
        return f"{waiting.get('reason')}{ended}" + (f": {message}" if message and not last else "")
    if terminated and terminated.get("exitCode") != 0:
        return f"{terminated.get('reason') or 'Error'} (exit code {terminated.get('exitCode')})"
    if state.get("running") and not status.get("ready") and status.get("started") is not False:
        return f"running, not ready{ended}"
    if state.get("running") and status.get("started") is False:
        return f"running, not started yet{ended}"
    return None


def _phase_text(pod: Object) -> str:
    status = pod.get("status") or {}
    if status.get("message"):
        return str(status["message"])
    return "waiting to be scheduled" if not pod["spec"].get("nodeName") else "starting"
