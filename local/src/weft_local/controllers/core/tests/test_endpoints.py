from __future__ import annotations

from typing import Any

from weft_common.kube.resource import ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES, ObjectKey

from weft_local.controllers.core import endpoints
from weft_local.controllers.core.tests.objects_for_tests import TEMPLATE, Cluster

KEY = ObjectKey("shop", "web")


def put_service(cluster: Cluster, **spec: Any) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    body = {"selector": {"app": "web"}, "ports": ports, **spec}
    cluster.put(SERVICES, {"metadata": {"name": "web", "namespace": "shop"}, "spec": body})


def put_pod(cluster: Cluster, name: str, ip: str, *, ready: bool = True, port: int = 8000, **spec: Any) -> None:
    container = {"name": "web", "ports": [{"name": "http", "containerPort": port}]}
    metadata = {"name": name, "namespace": "shop", "labels": TEMPLATE["metadata"]["labels"]}
    pod = cluster.put(PODS, {"metadata": metadata, "spec": {"containers": [container], "nodeName": "n", **spec}})
    if ready:
        cluster.make_ready(PODS, pod, ip)
    else:
        cluster.put(PODS, {**pod, "status": {"phase": "Running", "podIP": ip}})


def reconcile(cluster: Cluster) -> list[dict[str, Any]]:
    cluster.carry_out(endpoints.reconcile(cluster.world, KEY))
    assert not endpoints.reconcile(cluster.world, KEY).actions, "a second look finds nothing to do"
    return cluster.world.all(ENDPOINT_SLICES)


def test_ready_and_unready_pods_are_told_apart(cluster: Cluster) -> None:
    put_service(cluster)
    put_pod(cluster, "a", "10.0.0.1")
    put_pod(cluster, "b", "10.0.0.2", ready=False)
    (slice_,) = reconcile(cluster)
    assert [(one["addresses"], one["conditions"]["ready"]) for one in slice_["endpoints"]] == [
        (["10.0.0.1"], True),
        (["10.0.0.2"], False),
    ]
    assert slice_["ports"] == [{"name": "http", "port": 8000, "protocol": "TCP"}]
    assert slice_["endpoints"][0]["targetRef"]["name"] == "a"
    subset = cluster.get(ENDPOINTS)["subsets"][0]
    assert [one["ip"] for one in subset["addresses"]] == ["10.0.0.1"]
    assert [one["ip"] for one in subset["notReadyAddresses"]] == ["10.0.0.2"]


def test_terminating_pod_serves_but_is_not_ready(cluster: Cluster) -> None:
    put_service(cluster)
    put_pod(cluster, "a", "10.0.0.1")
    pod = cluster.get(PODS, "a")
    cluster.put(PODS, {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    (slice_,) = reconcile(cluster)
    assert slice_["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}


def test_unready_pods_are_published_when_the_service_says_so(cluster: Cluster) -> None:
    put_service(cluster, publishNotReadyAddresses=True)
    put_pod(cluster, "a", "10.0.0.1", ready=False)
    (slice_,) = reconcile(cluster)
    assert slice_["endpoints"][0]["conditions"]["ready"] is True


def test_named_port_follows_each_pod_into_slices_of_their_own(cluster: Cluster) -> None:
    put_service(cluster)
    put_pod(cluster, "a", "10.0.0.1", port=8000)
    put_pod(cluster, "b", "10.0.0.2", port=9000)
    slices = reconcile(cluster)
    assert {one["ports"][0]["port"]: one["endpoints"][0]["addresses"][0] for one in slices} == {
        8000: "10.0.0.1",
        9000: "10.0.0.2",
    }


def test_service_without_pods_has_one_empty_slice_and_loses_it_when_pods_come(cluster: Cluster) -> None:
    put_service(cluster)
    (slice_,) = reconcile(cluster)
    assert slice_["endpoints"] == []
    put_pod(cluster, "a", "10.0.0.1")
    (slice_,) = reconcile(cluster)
    assert len(slice_["endpoints"]) == 1


def test_headless_service_is_marked_and_names_its_pods(cluster: Cluster) -> None:
    put_service(cluster, clusterIP="None")
    put_pod(cluster, "web-0", "10.0.0.1", hostname="web-0", subdomain="web")
    (slice_,) = reconcile(cluster)
    assert slice_["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    assert slice_["endpoints"][0]["hostname"] == "web-0"


def test_finished_pods_and_pods_without_address_are_left_out(cluster: Cluster) -> None:
    put_service(cluster)
    put_pod(cluster, "a", "", ready=False)
    put_pod(cluster, "b", "10.0.0.2")
    pod = cluster.get(PODS, "b")
    cluster.put(PODS, {**pod, "status": {**pod["status"], "phase": "Succeeded"}})
    (slice_,) = reconcile(cluster)
    assert slice_["endpoints"] == []


def test_service_without_selector_is_nobodys_business(cluster: Cluster) -> None:
    put_service(cluster, selector=None)
    assert not endpoints.reconcile(cluster.world, KEY).actions
