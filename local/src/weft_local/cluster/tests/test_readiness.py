"""What `--wait` says about workloads, by literal objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from weft_local.cluster.readiness import PROVEN_AFTER_S, pending, unproven_s

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def deployment(*, available: int, observed: int = 1) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": "web", "generation": 1},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}},
        "status": {
            "observedGeneration": observed,
            "replicas": 1,
            "updatedReplicas": 1,
            "availableReplicas": available,
        },
    }


def pod(state: dict[str, Any], *, restarts: int = 0, probed: bool = False, ready: bool = False) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", **({"readinessProbe": {"tcpSocket": {"port": 80}}} if probed else {})}
    return {
        "metadata": {"namespace": "shop", "name": "web-1", "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [container]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "c", "ready": ready, "restartCount": restarts, "state": state}],
        },
    }


def running_since(age_s: float) -> dict[str, Any]:
    return {"running": {"startedAt": (NOW - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%SZ")}}


def test_a_complete_workload_is_not_pending() -> None:
    assert pending([deployment(available=1)], []) == []


def test_a_workload_the_controller_has_not_seen_is_pending() -> None:
    (one,) = pending([deployment(available=1, observed=0)], [])
    assert one.why == "not looked at yet"


def test_a_crashing_container_is_named_and_hopeless_after_five_restarts() -> None:
    crashing = pod({"waiting": {"reason": "CrashLoopBackOff"}}, restarts=5)
    (one,) = pending([deployment(available=0)], [crashing])
    assert one.is_hopeless
    assert one.pods[0].container == "c"
    assert "CrashLoopBackOff" in one.pods[0].why


def test_a_container_without_a_probe_must_live_a_moment_before_it_counts() -> None:
    assert unproven_s([pod(running_since(0), ready=True)], NOW) == PROVEN_AFTER_S
    assert unproven_s([pod(running_since(PROVEN_AFTER_S + 1), ready=True)], NOW) == 0


def test_a_readiness_probe_is_proof_at_once() -> None:
    assert unproven_s([pod(running_since(0), ready=True, probed=True)], NOW) == 0


def test_nothing_running_leaves_nothing_to_prove() -> None:
    assert unproven_s([], NOW) == 0
