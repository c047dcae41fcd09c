"""Job: runs pods until enough have succeeded, or too many have failed, or time is up."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from weft_common.kube.resource import JOBS, PODS, ObjectKey

from weft_local.controllers.core.objects import (
    changed,
    condition,
    is_active,
    is_ready,
    is_terminating,
    pod_from_template,
    ref,
    text_from_time,
    time_from_text,
    with_condition,
)
from weft_local.controllers.core.plan import NOTHING, Action, Create, Delete, Patch, Plan
from weft_local.controllers.core.world import Object, World

_DEFAULT_BACKOFF_LIMIT: Final = 6
# Seconds before the pod after the n-th failure: 10 s doubled, as in Kubernetes, up to six minutes.
_BACKOFF_FIRST_S: Final = 10
_BACKOFF_MAX_S: Final = 360


def reconcile(world: World, key: ObjectKey, now: datetime) -> Plan:
    """Start the pods still needed; when the job is over, stop the rest and say how it ended."""
    job = world.get(JOBS, key)
    if job is None or is_terminating(job):
        return NOTHING
    spec, before = job["spec"], job.get("status") or {}
    if _ended(job):
        return _after_the_end(job, key, now)
    pods = world.children(PODS, job)
    active = [pod for pod in pods if is_active(pod)]
    succeeded = sum(_phase(pod) == "Succeeded" for pod in pods)
    failed = [pod for pod in pods if _phase(pod) == "Failed"]
    restarts = sum(_restarts(pod) for pod in active)
    started = time_from_text(before.get("startTime")) or now
    parallelism = int(spec.get("parallelism", 1))
    completions = spec.get("completions")
    # Without a number of completions, one success means that the work queue is done.
    done = succeeded >= int(completions) if completions is not None else bool(succeeded) and not active
    limit = int(spec.get("backoffLimit", _DEFAULT_BACKOFF_LIMIT))
    deadline_s = spec.get("activeDeadlineSeconds")
    left_s = None if deadline_s is None else float(deadline_s) - (now - started).total_seconds()

    conditions: list[Object] = list(before.get("conditions") or ())
    actions: list[Action] = []
    waits = [left_s] if left_s is not None else []
    end: Object = {}
    if done:
        text = "Job has reached the specified number of completions"
        conditions = with_condition(conditions, "Complete", True, "CompletionsReached", text, now)
        end = {"completionTime": text_from_time(now)}
        actions += [Delete(PODS, *ref(pod)) for pod in active]
    elif left_s is not None and left_s <= 0:
        text = "Job was active longer than specified deadline"
        conditions = with_condition(conditions, "Failed", True, "DeadlineExceeded", text, now)
        actions += [Delete(PODS, *ref(pod)) for pod in active]
    elif len(failed) + restarts > limit:
        text = "Job has reached the specified backoff limit"
        conditions = with_condition(conditions, "Failed", True, "BackoffLimitExceeded", text, now)
        actions += [Delete(PODS, *ref(pod)) for pod in active]
    elif spec.get("suspend"):
        actions += [Delete(PODS, *ref(pod)) for pod in active]
    else:
        needed = parallelism if completions is None else min(parallelism, int(completions) - succeeded)
        if completions is None and succeeded:
            needed = 0
        wait_s = _backoff_left_s(failed, now)
        if len(active) < needed and wait_s > 0:
            waits.append(wait_s)
        elif len(active) < needed:
            actions += [Create(PODS, _pod(job, key))] * (needed - len(active))
        actions += [Delete(PODS, *ref(pod)) for pod in active[max(0, needed) :]]

    status: dict[str, Any] = {
        "startTime": text_from_time(started),
        "active": len(active) if not (done or end) and active else None,
        "ready": sum(is_ready(pod) for pod in active),
        "succeeded": succeeded or None,
        "failed": len(failed) or None,
        **end,
    }
    if conditions:
        status["conditions"] = conditions
    if changed(job, status):
        actions.append(Patch(JOBS, key, {"status": status}, "status"))
    return Plan(tuple(actions), min(waits, default=None))


def _ended(job: Object) -> bool:
    return any((one := condition(job, kind)) is not None and one["status"] == "True" for kind in ("Complete", "Failed"))


def _after_the_end(job: Object, key: ObjectKey, now: datetime) -> Plan:
    ttl_s = job["spec"].get("ttlSecondsAfterFinished")
    end = condition(job, "Complete") or condition(job, "Failed") or {}
    since = time_from_text(end.get("lastTransitionTime"))
    if ttl_s is None or since is None:
        return NOTHING
    left_s = float(ttl_s) - (now - since).total_seconds()
    return Plan(look_again_in_s=left_s) if left_s > 0 else Plan((Delete(JOBS, *ref(job)),))


def _pod(job: Object, key: ObjectKey) -> Object:
    pod = pod_from_template(job["spec"]["template"], key.namespace, JOBS, job)
    uid = job["metadata"]["uid"]
    pod["metadata"]["generateName"] = f"{key.name}-"
    pod["metadata"]["labels"] |= {
        "batch.kubernetes.io/job-name": key.name,
        "batch.kubernetes.io/controller-uid": uid,
        "job-name": key.name,
        "controller-uid": uid,
    }
    return pod


def _backoff_left_s(failed: list[Object], now: datetime) -> float:
    if not failed:
        return 0.0
    last = max(_ended_at(pod) or now for pod in failed)
    wait_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S << min(len(failed) - 1, 10))
    return max(0.0, wait_s - (now - last).total_seconds())


def _ended_at(pod: Object) -> datetime | None:
    ends = [
        (one.get("state") or {}).get("terminated", {}).get("finishedAt")
        for one in (pod.get("status") or {}).get("containerStatuses") or ()
    ]
    known = [when for when in map(time_from_text, ends) if when is not None]
    return max(known, default=time_from_text(pod["metadata"].get("creationTimestamp")))


def _restarts(pod: Object) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return sum(int(one.get("restartCount", 0)) for one in statuses)


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", ""))
