"""The API as clients see it: watches, lists, conflicts, tokens; through our own client and the official one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import watch as kubernetes_watch
from weft_common.kube.client import STRATEGIC_MERGE_PATCH, KubeClient, KubeError
from weft_common.kube.config import KubeConfig
from weft_common.kube.resource import CONFIG_MAPS, NAMESPACES, PODS, SERVICE_ACCOUNTS, SERVICES, TOKEN_REVIEWS

from .conftest import TOKEN, Cluster


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


async def test_watch_continues_from_a_version_without_losing_or_repeating(cluster: Cluster) -> None:
    first = await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("a"))
    await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("b"))
    await cluster.kube.patch(CONFIG_MAPS.path("x", "a"), {"data": {"k": "v"}})
    await cluster.kube.delete(CONFIG_MAPS.path("x", "a"))
    await cluster.kube.create(CONFIG_MAPS.path("default"), config_map("elsewhere"))
    version = first["metadata"]["resourceVersion"]
    async with asyncio.timeout(10):
        events = cluster.kube.watch(CONFIG_MAPS.path("x"), version, watch_s=1)
        seen = [(event.type, event.object["metadata"]["name"]) async for event in events]
    assert seen == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_object_that_leaves_a_selection_is_deleted_for_its_watcher(cluster: Cluster) -> None:
    made = await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("a", tier="gold"))
    await cluster.kube.patch(CONFIG_MAPS.path("x", "a"), {"metadata": {"labels": {"tier": "tin"}}})
    events = cluster.kube.watch(
        CONFIG_MAPS.path("x"), made["metadata"]["resourceVersion"], {"labelSelector": "tier=gold"}, watch_s=1
    )
    assert [event.type async for event in events] == ["DELETED"]


async def test_watch_from_a_forgotten_version_is_gone(cluster: Cluster) -> None:
    made = await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("a"))
    storage, kind = cluster.server.storage, cluster.server.operations.kinds["/configmaps"]
    for count in range(5000):
        storage.update(kind, {**storage.all(kind).__next__().obj, "data": {"count": str(count)}})
    with pytest.raises(KubeError) as error:
        async for _ in cluster.kube.watch(CONFIG_MAPS.path("x"), made["metadata"]["resourceVersion"]):
            pass
    assert error.value.status == 410


async def test_lists_come_in_pages_that_survive_deletions(cluster: Cluster) -> None:
    for name in "abcde":
        await cluster.kube.create(CONFIG_MAPS.path("x"), config_map(name))
    path = CONFIG_MAPS.path("x")
    page = await cluster.kube.get(path, {"limit": "2"})
    assert page["metadata"]["remainingItemCount"] == 3
    await cluster.kube.delete(CONFIG_MAPS.path("x", "a"))
    rest = await cluster.kube.get(path, {"limit": "9", "continue": page["metadata"]["continue"]})
    assert [one["metadata"]["name"] for one in page["items"] + rest["items"]] == list("abcde")


async def test_stale_update_conflicts_and_concurrent_patches_do_not(cluster: Cluster) -> None:
    old = await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("a"))
    path = CONFIG_MAPS.path("x", "a")
    await cluster.kube.patch(path, {"data": {"k": "v"}})
    with pytest.raises(KubeError) as error:
        await cluster.kube.update(path, {**old, "data": {"k": "w"}})
    assert (error.value.status, error.value.reason) == (409, "Conflict")
    await asyncio.gather(*(cluster.kube.patch(path, {"data": {f"k{i}": "v"}}) for i in range(20)))
    assert len((await cluster.kube.get(path))["data"]) == 21


async def test_object_with_a_finalizer_stays_until_it_is_removed(cluster: Cluster) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["example.com/keep"]
    await cluster.kube.create(CONFIG_MAPS.path("x"), body)
    path = CONFIG_MAPS.path("x", "a")
    await cluster.kube.delete(path)
    assert (await cluster.kube.get(path))["metadata"]["deletionTimestamp"]
    await cluster.kube.patch(path, {"metadata": {"finalizers": None}})
    with pytest.raises(KubeError) as error:
        await cluster.kube.get(path)
    assert error.value.status == 404


async def test_bound_pod_is_deleted_by_its_node_only(cluster: Cluster) -> None:
    pod = {"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = await cluster.kube.create(PODS.path("x"), pod)
    name = made["metadata"]["name"]
    assert name.startswith("p-")
    path = PODS.path("x", name)
    await cluster.kube.create(f"{path}/binding", {"target": {"kind": "Node", "name": "n"}})
    await cluster.kube.delete(path)
    marked = await cluster.kube.get(path)
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    await cluster.kube.delete(path, {"gracePeriodSeconds": "0"})
    with pytest.raises(KubeError):
        await cluster.kube.get(path)


async def test_status_has_its_own_door(cluster: Cluster) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await cluster.kube.create(PODS.path("x"), pod)
    path = PODS.path("x", "p")
    await cluster.kube.patch(path, {"status": {"phase": "Running"}})
    assert (await cluster.kube.get(path))["status"]["phase"] == "Pending"
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}, "spec": {"nodeName": "ignored"}}
    await cluster.kube.patch(f"{path}/status", status, STRATEGIC_MERGE_PATCH)
    read = await cluster.kube.get(path)
    assert read["status"]["conditions"] == [{"type": "Ready", "status": "True"}]
    assert read["status"]["phase"] == "Pending"
    assert "nodeName" not in read["spec"]


async def test_services_get_an_address_and_keep_it(cluster: Cluster) -> None:
    body = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    made = await cluster.kube.create(SERVICES.path("x"), body)
    assert made["spec"]["clusterIP"].startswith("10.251.")
    assert made["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    replaced = await cluster.kube.update(SERVICES.path("x", "s"), body)
    assert replaced["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}
    assert (await cluster.kube.create(SERVICES.path("x"), headless))["spec"]["clusterIP"] == "None"


async def test_namespace_waits_for_its_controller(cluster: Cluster) -> None:
    await cluster.kube.create(NAMESPACES.path(), {"metadata": {"name": "y"}})
    await cluster.kube.delete(NAMESPACES.path(None, "y"))
    namespace = await cluster.kube.get(NAMESPACES.path(None, "y"))
    assert namespace["status"]["phase"] == "Terminating"
    with pytest.raises(KubeError, match="being terminated"):
        await cluster.kube.create(CONFIG_MAPS.path("y"), config_map("late"))
    await cluster.kube.update(NAMESPACES.path(None, "y", "finalize"), {**namespace, "spec": {"finalizers": []}})
    with pytest.raises(KubeError):
        await cluster.kube.get(NAMESPACES.path(None, "y"))


async def test_token_is_reviewed_for_its_audience_and_dies_with_its_pod(cluster: Cluster) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    uid = (await cluster.kube.create(PODS.path("x"), pod))["metadata"]["uid"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}
    spec = {"audiences": ["mesh"], "expirationSeconds": 600, "boundObjectRef": bound}
    path = SERVICE_ACCOUNTS.path("x", "default", "token")
    token = (await cluster.kube.create(path, {"spec": spec}))["status"]["token"]

    async def review(audience: str) -> dict[str, Any]:
        body = {"spec": {"token": token, "audiences": [audience, "other"]}}
        status: dict[str, Any] = (await cluster.kube.create(TOKEN_REVIEWS.path(), body))["status"]
        return status

    reviewed = await review("mesh")
    assert reviewed["authenticated"] is True
    assert reviewed["audiences"] == ["mesh"]
    assert reviewed["user"]["username"] == "system:serviceaccount:x:default"
    assert reviewed["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    assert (await review("else"))["authenticated"] is False
    await cluster.kube.delete(PODS.path("x", "p"))
    assert "no longer exists" in (await review("mesh"))["error"]


async def test_service_account_token_opens_the_api(cluster: Cluster) -> None:
    path = SERVICE_ACCOUNTS.path("x", "default", "token")
    token = (await cluster.kube.create(path, {"spec": {}}))["status"]["token"]
    config = cluster.kube.config
    async with KubeClient(KubeConfig(config.server, ca_pem=config.ca_pem, token=token)) as kube:
        assert (await kube.get(NAMESPACES.path(None, "x")))["metadata"]["name"] == "x"
    tampered = token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB")
    async with KubeClient(KubeConfig(config.server, ca_pem=config.ca_pem, token=tampered)) as kube:
        with pytest.raises(KubeError) as error:
            await kube.get(NAMESPACES.path(None, "x"))
    assert error.value.status == 401


async def test_bad_parameters_are_explained(cluster: Cluster) -> None:
    for params, said in (
        ({"labelSelector": "a in b"}, "label selector"),
        ({"fieldSelector": "a"}, "field selector"),
        ({"limit": "many"}, "limit"),
        ({"watch": "true", "resourceVersion": "new"}, "resourceVersion"),
    ):
        with pytest.raises(KubeError, match=said) as error:
            await cluster.kube.get(CONFIG_MAPS.path("x"), params)
        assert error.value.status == 400


async def test_official_client_lists_watches_and_patches(cluster: Cluster) -> None:
    configuration = kubernetes_client.Configuration(host=cluster.kube.config.server)
    configuration.ssl_ca_cert = str(cluster.kubeconfig.with_name("ca.crt"))
    configuration.api_key = {"authorization": TOKEN}
    configuration.api_key_prefix = {"authorization": "Bearer"}
    async with kubernetes_client.ApiClient(configuration) as api_client:
        core = kubernetes_client.CoreV1Api(api_client)
        body = kubernetes_client.V1ConfigMap(metadata=kubernetes_client.V1ObjectMeta(name="a"), data={"k": "v"})
        made = await core.create_namespaced_config_map("x", body)
        await core.patch_namespaced_config_map("a", "x", {"data": {"l": "w"}})
        listed = await core.list_namespaced_config_map("x")
        assert listed.items[0].data == {"k": "v", "l": "w"}
        assert made.metadata is not None
        since = made.metadata.resource_version
        async with kubernetes_watch.Watch() as watch:  # type: ignore[no-untyped-call]  # the client has no types
            stream = watch.stream(core.list_namespaced_config_map, "x", resource_version=since, timeout_seconds=5)
            async for event in stream:
                assert event["object"].data == {"k": "v", "l": "w"}
                break
