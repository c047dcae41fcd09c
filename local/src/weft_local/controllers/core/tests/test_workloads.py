from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from weft_common.kube.resource import (
    CONFIG_MAPS,
    DAEMON_SETS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    STATEFUL_SETS,
    ObjectKey,
)

from weft_local.controllers.core import daemonset, job, namespace, replicaset, statefulset
from weft_local.controllers.core.objects import condition
from weft_local.controllers.core.plan import EmptyNamespace
from weft_local.controllers.core.tests.objects_for_tests import TEMPLATE, Cluster, names, workload

KEY = ObjectKey("shop", "web")


def end_pod(cluster: Cluster, pod: dict[str, Any], phase: str) -> None:
    at = cluster.now.isoformat()
    state = {"terminated": {"exitCode": 0 if phase == "Succeeded" else 1, "finishedAt": at}}
    cluster.put(PODS, {**pod, "status": {"phase": phase, "containerStatuses": [{"name": "web", "state": state}]}})


# ReplicaSet


def test_surplus_pods_go_worst_first(cluster: Cluster) -> None:
    cluster.put(REPLICA_SETS, workload(REPLICA_SETS, replicas=3))
    cluster.carry_out(replicaset.reconcile(cluster.world, KEY, cluster.now))
    older, younger, unready = cluster.world.all(PODS)
    for pod in (older, younger):
        cluster.make_ready(PODS, {**pod, "spec": {**pod["spec"], "nodeName": "n"}})
    cluster.put(PODS, {**unready, "spec": {**unready["spec"], "nodeName": "n"}})
    cluster.change(REPLICA_SETS, cluster.get(REPLICA_SETS), replicas=1)
    cluster.carry_out(replicaset.reconcile(cluster.world, KEY, cluster.now))
    assert names(cluster.world.all(PODS)) == [older["metadata"]["name"]]


def test_failed_and_terminating_pods_are_replaced(cluster: Cluster) -> None:
    cluster.put(REPLICA_SETS, workload(REPLICA_SETS, replicas=2))
    cluster.carry_out(replicaset.reconcile(cluster.world, KEY, cluster.now))
    failed, going = cluster.world.all(PODS)
    end_pod(cluster, failed, "Failed")
    cluster.put(PODS, {**going, "metadata": {**going["metadata"], "deletionTimestamp": cluster.now.isoformat()}})
    cluster.carry_out(replicaset.reconcile(cluster.world, KEY, cluster.now))
    assert len(cluster.world.all(PODS)) == 4


def test_own_writes_count_before_the_watch_confirms_them(cluster: Cluster) -> None:
    cluster.put(REPLICA_SETS, workload(REPLICA_SETS, replicas=2))
    for _ in range(3):
        cluster.carry_out(replicaset.reconcile(cluster.world, KEY, cluster.now))
    assert len(cluster.world.all(PODS)) == 2


# StatefulSet


def settle_stateful(cluster: Cluster) -> list[list[str]]:
    """Names of all pods after each round; one pod becomes ready per round."""
    seen = []
    for _ in range(30):
        cluster.carry_out(statefulset.reconcile(cluster.world, KEY, cluster.now))
        seen.append(names(cluster.world.all(PODS)))
        unready = [pod for pod in cluster.world.all(PODS) if "conditions" not in pod.get("status", {})]
        if not unready and not statefulset.reconcile(cluster.world, KEY, cluster.now).actions:
            return seen
        for pod in unready[:1]:
            cluster.make_ready(PODS, pod)
    raise AssertionError("does not come to rest")


def test_stateful_pods_start_in_order_with_stable_names(cluster: Cluster) -> None:
    cluster.put(STATEFUL_SETS, workload(STATEFUL_SETS, replicas=3, serviceName="web"))
    seen = settle_stateful(cluster)
    assert seen[0] == ["web-0"]
    assert seen[1] == ["web-0", "web-1"]
    assert seen[-1] == ["web-0", "web-1", "web-2"]
    pod = cluster.get(PODS, "web-1")
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-1", "web")
    assert pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "web-1"
    assert cluster.get(STATEFUL_SETS)["status"]["readyReplicas"] == 3


def test_stateful_update_replaces_from_the_highest_down(cluster: Cluster) -> None:
    cluster.put(STATEFUL_SETS, workload(STATEFUL_SETS, replicas=2, serviceName="web"))
    settle_stateful(cluster)
    template = {**TEMPLATE, "spec": {"containers": [{"name": "web", "image": "web:2"}]}}
    cluster.change(STATEFUL_SETS, cluster.get(STATEFUL_SETS), template=template)
    seen = settle_stateful(cluster)
    assert seen[0] == ["web-0"]
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.world.all(PODS)} == {"web:2"}
    status = cluster.get(STATEFUL_SETS)["status"]
    assert status["currentRevision"] == status["updateRevision"]


def test_stateful_scale_down_takes_the_highest_first(cluster: Cluster) -> None:
    cluster.put(STATEFUL_SETS, workload(STATEFUL_SETS, replicas=3, serviceName="web"))
    settle_stateful(cluster)
    cluster.change(STATEFUL_SETS, cluster.get(STATEFUL_SETS), replicas=1)
    seen = settle_stateful(cluster)
    assert seen[0] == ["web-0", "web-1"]
    assert seen[-1] == ["web-0"]


def test_claims_become_volumes_of_the_pod(cluster: Cluster) -> None:
    claims = [{"metadata": {"name": "data"}, "spec": {}}]
    cluster.put(STATEFUL_SETS, workload(STATEFUL_SETS, replicas=1, volumeClaimTemplates=claims))
    settle_stateful(cluster)
    assert cluster.get(PODS, "web-0")["spec"]["volumes"] == [{"name": "data", "emptyDir": {}}]


# DaemonSet


def test_daemon_runs_once_per_matching_node(cluster: Cluster) -> None:
    for node, labels in (("a", {"disk": "fast"}), ("b", {})):
        cluster.put(NODES, {"metadata": {"name": node, "labels": labels}})
    template = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "nodeSelector": {"disk": "fast"}}}
    cluster.put(DAEMON_SETS, workload(DAEMON_SETS, template=template))
    for _ in range(2):
        cluster.carry_out(daemonset.reconcile(cluster.world, KEY, cluster.now))
    (pod,) = cluster.world.all(PODS)
    assert pod["spec"]["nodeName"] == "a"
    assert cluster.get(DAEMON_SETS)["status"]["desiredNumberScheduled"] == 1


# Job


def run_job(cluster: Cluster) -> None:
    cluster.carry_out(job.reconcile(cluster.world, KEY, cluster.now))


def test_job_completes_after_its_completions(cluster: Cluster) -> None:
    cluster.put(JOBS, workload(JOBS, completions=2, parallelism=1))
    for _ in range(2):
        run_job(cluster)
        (active,) = [pod for pod in cluster.world.all(PODS) if "status" not in pod]
        end_pod(cluster, active, "Succeeded")
    run_job(cluster)
    complete = condition(cluster.get(JOBS), "Complete")
    assert complete is not None
    assert complete["status"] == "True"
    status = cluster.get(JOBS)["status"]
    assert status["succeeded"] == 2
    assert "active" not in status
    assert not job.reconcile(cluster.world, KEY, cluster.now).actions


def test_job_waits_longer_after_each_failure_and_gives_up_at_its_limit(cluster: Cluster) -> None:
    cluster.put(JOBS, workload(JOBS, completions=1, parallelism=1, backoffLimit=1))
    run_job(cluster)
    end_pod(cluster, cluster.world.all(PODS)[0], "Failed")
    plan = job.reconcile(cluster.world, KEY, cluster.now)
    assert plan.look_again_in_s == pytest.approx(10)
    cluster.now += timedelta(seconds=11)
    run_job(cluster)
    (second,) = [pod for pod in cluster.world.all(PODS) if "status" not in pod]
    end_pod(cluster, second, "Failed")
    run_job(cluster)
    failed = condition(cluster.get(JOBS), "Failed")
    assert failed is not None
    assert failed["reason"] == "BackoffLimitExceeded"


def test_job_is_removed_after_its_time_to_live(cluster: Cluster) -> None:
    cluster.put(JOBS, workload(JOBS, completions=1, ttlSecondsAfterFinished=60))
    run_job(cluster)
    end_pod(cluster, cluster.world.all(PODS)[0], "Succeeded")
    run_job(cluster)
    assert job.reconcile(cluster.world, KEY, cluster.now).look_again_in_s == pytest.approx(60)
    cluster.now += timedelta(seconds=60)
    run_job(cluster)
    assert cluster.world.get(JOBS, KEY) is None


# Namespace


def test_namespace_gets_its_account_and_the_ca(cluster: Cluster) -> None:
    cluster.put(NAMESPACES, {"metadata": {"name": "shop"}})
    cluster.carry_out(namespace.reconcile(cluster.world, "shop", "PEM"))
    assert cluster.get(SERVICE_ACCOUNTS, "default")
    assert cluster.get(CONFIG_MAPS, "kube-root-ca.crt")["data"] == {"ca.crt": "PEM"}
    assert not namespace.reconcile(cluster.world, "shop", "PEM").actions
    cluster.carry_out(namespace.reconcile(cluster.world, "shop", "NEW"))
    assert cluster.get(CONFIG_MAPS, "kube-root-ca.crt")["data"] == {"ca.crt": "NEW"}


def test_terminating_namespace_is_emptied(cluster: Cluster) -> None:
    cluster.put(NAMESPACES, {"metadata": {"name": "shop", "deletionTimestamp": cluster.now.isoformat()}})
    assert namespace.reconcile(cluster.world, "shop", "PEM").actions == (EmptyNamespace("shop"),)
