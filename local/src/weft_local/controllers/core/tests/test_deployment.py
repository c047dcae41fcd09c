"""Rollouts played out: reconcile, carry out, let pods become ready, until nothing changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from weft_common.kube.resource import DEPLOYMENTS, PODS, REPLICA_SETS, ObjectKey

from weft_local.controllers.core import deployment, replicaset
from weft_local.controllers.core.objects import condition, is_ready
from weft_local.controllers.core.tests.objects_for_tests import TEMPLATE, Cluster, workload

KEY = ObjectKey("shop", "web")
SECOND = {**TEMPLATE, "spec": {"containers": [{"name": "web", "image": "web:2"}]}}
THIRD = {**TEMPLATE, "spec": {"containers": [{"name": "web", "image": "web:3"}]}}


def reconcile_all(cluster: Cluster) -> int:
    """One round of the deployment's and every replica set's controller; how much it did."""
    done = cluster.carry_out(deployment.reconcile(cluster.world, KEY, cluster.now))
    for replica_set in cluster.world.all(REPLICA_SETS):
        key = ObjectKey("shop", replica_set["metadata"]["name"])
        done += cluster.carry_out(replicaset.reconcile(cluster.world, key, cluster.now))
    return done


def settle(cluster: Cluster, *, pods_become_ready: bool = True) -> list[tuple[int, int]]:
    """Rounds until nothing changes; (pods, ready pods) before each round."""
    seen = []
    for _ in range(60):
        pods = cluster.world.all(PODS)
        seen.append((len(pods), sum(map(is_ready, pods))))
        if not reconcile_all(cluster):
            waiting = [pod for pod in cluster.world.all(PODS) if not is_ready(pod)]
            if not waiting or not pods_become_ready:
                return seen
            cluster.make_ready(PODS, waiting[0])
    raise AssertionError("the rollout does not come to rest")


def images(cluster: Cluster) -> list[str]:
    return [pod["spec"]["containers"][0]["image"] for pod in cluster.world.all(PODS)]


def status(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get(DEPLOYMENTS)["status"]
    return found


def test_new_deployment_comes_to_rest_available_and_progressed(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=3))
    settle(cluster)
    assert images(cluster) == ["web:1"] * 3
    found = status(cluster)
    assert {name: found[name] for name in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")} == {
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
    }
    assert "unavailableReplicas" not in found
    assert found["observedGeneration"] == 1
    available, progressing = (condition(cluster.get(DEPLOYMENTS), one) for one in ("Available", "Progressing"))
    assert available is not None
    assert available["status"] == "True"
    assert progressing is not None
    assert progressing["reason"] == "NewReplicaSetAvailable"


def test_replica_set_carries_the_hash_in_name_labels_selector_and_template(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=1))
    settle(cluster)
    (replica_set,) = cluster.world.all(REPLICA_SETS)
    hash_ = replica_set["metadata"]["labels"]["pod-template-hash"]
    assert replica_set["metadata"]["name"] == f"web-{hash_}"
    assert replica_set["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": hash_}
    assert cluster.world.all(PODS)[0]["metadata"]["labels"] == {"app": "web", "pod-template-hash": hash_}


def test_rolling_update_never_goes_below_or_above_its_limits(cluster: Cluster) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    created = cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=4, strategy=rolling))
    settle(cluster)
    cluster.change(DEPLOYMENTS, cluster.get(DEPLOYMENTS), template=SECOND)
    seen = settle(cluster)
    assert max(pods for pods, _ in seen) <= 5
    assert min(ready for _, ready in seen) >= 3
    assert images(cluster) == ["web:2"] * 4
    assert created["metadata"]["uid"] == cluster.get(DEPLOYMENTS)["metadata"]["uid"]


def test_update_to_pods_that_never_become_ready_keeps_the_old_ones(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=2))
    settle(cluster)
    cluster.change(DEPLOYMENTS, cluster.get(DEPLOYMENTS), template=SECOND)
    settle(cluster, pods_become_ready=False)
    assert sorted(images(cluster)) == ["web:1", "web:1", "web:2"]
    assert status(cluster)["updatedReplicas"] == 1


def test_a_broken_update_gives_way_to_the_next_one(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=2))
    settle(cluster)
    cluster.change(DEPLOYMENTS, cluster.get(DEPLOYMENTS), template=SECOND)
    settle(cluster, pods_become_ready=False)
    cluster.change(DEPLOYMENTS, cluster.get(DEPLOYMENTS), template=THIRD)
    settle(cluster)
    assert images(cluster) == ["web:3"] * 2


def test_recreate_runs_no_new_pod_beside_an_old_one(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=2, strategy={"type": "Recreate"}))
    settle(cluster)
    cluster.change(DEPLOYMENTS, cluster.get(DEPLOYMENTS), template=SECOND)
    for _ in range(20):
        assert len(set(images(cluster))) <= 1
        if not reconcile_all(cluster):
            break
    assert images(cluster) == ["web:2"] * 2


def test_going_back_to_an_old_template_uses_its_replica_set_again(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=1))
    settle(cluster)
    (first,) = cluster.world.all(REPLICA_SETS)
    cluster.change(DEPLOYMENTS, cluster.get(DEPLOYMENTS), template=SECOND)
    settle(cluster)
    undone = {**TEMPLATE, "metadata": {**TEMPLATE["metadata"], "creationTimestamp": None, "annotations": {}}}
    cluster.change(DEPLOYMENTS, cluster.get(DEPLOYMENTS), template=undone)
    settle(cluster)
    again = cluster.get(REPLICA_SETS, first["metadata"]["name"])
    assert again["spec"]["replicas"] == 1
    assert len(cluster.world.all(REPLICA_SETS)) == 2
    assert again["metadata"]["annotations"][deployment.REVISION] == "3"
    assert cluster.get(DEPLOYMENTS)["metadata"]["annotations"][deployment.REVISION] == "3"


@pytest.mark.parametrize("limit", [0, 1])
def test_only_so_many_old_replica_sets_are_kept(cluster: Cluster, limit: int) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=1, revisionHistoryLimit=limit))
    settle(cluster)
    for template in (SECOND, THIRD):
        cluster.change(DEPLOYMENTS, cluster.get(DEPLOYMENTS), template=template)
        settle(cluster)
    assert len(cluster.world.all(REPLICA_SETS)) == limit + 1


def test_scaling_changes_the_pods_and_not_the_revision(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=1))
    settle(cluster)
    for replicas in (3, 0):
        cluster.change(DEPLOYMENTS, cluster.get(DEPLOYMENTS), replicas=replicas)
        settle(cluster)
        assert len(cluster.world.all(PODS)) == replicas
    assert len(cluster.world.all(REPLICA_SETS)) == 1
    assert "replicas" not in status(cluster)


def test_paused_deployment_scales_but_does_not_roll(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=1))
    settle(cluster)
    cluster.change(DEPLOYMENTS, cluster.get(DEPLOYMENTS), template=SECOND, paused=True)
    settle(cluster)
    assert images(cluster) == ["web:1"]


def test_rollout_without_progress_fails_at_its_deadline(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=1, progressDeadlineSeconds=30))
    settle(cluster, pods_become_ready=False)
    plan = deployment.reconcile(cluster.world, KEY, cluster.now)
    assert plan.look_again_in_s == pytest.approx(30)
    cluster.now += timedelta(seconds=31)
    settle(cluster, pods_become_ready=False)
    progressing = condition(cluster.get(DEPLOYMENTS), "Progressing")
    assert progressing is not None
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")


def test_pod_counts_as_available_only_after_min_ready_seconds(cluster: Cluster) -> None:
    cluster.put(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=1, minReadySeconds=10))
    settle(cluster)
    assert "availableReplicas" not in status(cluster)
    plan = deployment.reconcile(cluster.world, KEY, cluster.now)
    assert plan.look_again_in_s == pytest.approx(10)
    cluster.now += timedelta(seconds=10)
    settle(cluster)
    assert status(cluster)["availableReplicas"] == 1


def test_deployment_that_is_being_deleted_is_left_alone(cluster: Cluster) -> None:
    obj = workload(DEPLOYMENTS, replicas=1)
    obj["metadata"]["deletionTimestamp"] = cluster.now.isoformat()
    cluster.put(DEPLOYMENTS, obj)
    assert not deployment.reconcile(cluster.world, KEY, cluster.now).actions
