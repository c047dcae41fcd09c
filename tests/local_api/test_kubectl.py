"""The real kubectl against the embedded API server, without flags that a cluster would not need."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from .conftest import Cluster
from .manifests import CRD, DEPLOYMENT, POD, SERVICE, WIDGET


async def test_version_and_resources_are_discovered(cluster: Cluster) -> None:
    assert "v1.36.0+weft" in await cluster.kubectl("version")
    resources = await cluster.kubectl("api-resources")
    for shown in ("deploy", "configmaps", "endpointslices", "customresourcedefinitions"):
        assert shown in resources


async def test_pod_is_applied_shown_described_and_deleted(cluster: Cluster) -> None:
    assert "pod/app created" in await cluster.kubectl("apply", "-f", "-", stdin=POD)
    assert "pod/app unchanged" in await cluster.kubectl("apply", "-f", "-", stdin=POD)
    table = await cluster.kubectl("get", "pods", "-n", "x", "-o", "wide")
    assert table.split("\n")[0].split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert table.split("\n")[1].split()[:4] == ["app", "0/1", "Pending", "0"]
    assert "example/app:1.2.3" in await cluster.kubectl("describe", "pod", "app", "-n", "x")
    assert 'pod "app" deleted' in await cluster.kubectl("delete", "pod", "app", "-n", "x")
    assert 'pods "app" not found' in await cluster.kubectl("get", "pod", "app", "-n", "x", fails=True)


async def test_pod_gets_the_defaults_and_token_volume_of_a_cluster(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=POD)
    spec = (await cluster.kubectl_json("get", "pod", "app", "-n", "x"))["spec"]
    assert spec["dnsPolicy"] == "ClusterFirst"
    assert spec["serviceAccountName"] == "default"
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True


async def test_client_side_apply_merges_containers_by_name(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("example/web:1", "example/web:2")
    assert "deployment.apps/web configured" in await cluster.kubectl("apply", "-f", "-", stdin=changed)
    deployment = await cluster.kubectl_json("get", "deploy", "web", "-n", "x")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "example/web:2"
    assert deployment["metadata"]["generation"] == 2
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}


async def test_server_side_apply_refuses_a_foreign_field_unless_forced(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "--server-side", "-f", "-", stdin=DEPLOYMENT)
    await cluster.kubectl("scale", "deploy/web", "--replicas=5", "-n", "x")
    apply = ("apply", "--server-side", "-f", "-")
    refused = await cluster.kubectl(*apply, stdin=DEPLOYMENT, fails=True)
    assert ".spec.replicas" in refused
    await cluster.kubectl(*apply, "--force-conflicts", stdin=DEPLOYMENT)
    assert (await cluster.kubectl_json("get", "deploy", "web", "-n", "x"))["spec"]["replicas"] == 2


async def test_server_side_apply_twice_writes_once(cluster: Cluster) -> None:
    versions = []
    for _ in range(2):
        await cluster.kubectl("apply", "--server-side", "-f", "-", stdin=DEPLOYMENT)
        deployment = await cluster.kubectl_json("get", "deploy", "web", "-n", "x")
        versions.append(deployment["metadata"]["resourceVersion"])
    assert versions[0] == versions[1]


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("json", '[{"op": "add", "path": "/metadata/labels", "value": {"tier": "gold"}}]'),
        ("merge", '{"metadata": {"labels": {"tier": "gold"}}}'),
        ("strategic", '{"metadata": {"labels": {"tier": "gold"}}}'),
    ],
)
async def test_each_patch_type_changes_the_object(cluster: Cluster, kind: str, patch: str) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=SERVICE)
    await cluster.kubectl("patch", "svc", "web", "-n", "x", "--type", kind, "-p", patch)
    assert "web" in await cluster.kubectl("get", "svc", "-n", "x", "-l", "tier=gold", "-o", "name")


async def test_label_annotate_and_selectors(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=POD)
    await cluster.kubectl("label", "pod", "app", "-n", "x", "tier=gold")
    await cluster.kubectl("annotate", "pod", "app", "-n", "x", "note=hello")
    assert "app" in await cluster.kubectl("get", "pods", "-n", "x", "-l", "tier in (gold,silver),!other", "-o", "name")
    assert await cluster.kubectl("get", "pods", "-A", "-l", "tier!=gold", "-o", "name") == ""
    assert "app" in await cluster.kubectl("get", "pods", "-A", "--field-selector", "status.phase=Pending", "-o", "name")
    assert await cluster.kubectl("get", "pods", "-A", "--field-selector", "spec.nodeName=n", "-o", "name") == ""
    await cluster.kubectl("label", "pod", "app", "-n", "x", "tier-")
    assert "tier" not in (await cluster.kubectl_json("get", "pod", "app", "-n", "x"))["metadata"]["labels"]


async def test_scale_and_rollout_status_follow_the_deployment(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    await cluster.kubectl("scale", "deploy/web", "--replicas=3", "-n", "x")
    status = {
        "observedGeneration": 2,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}],
    }
    waiting = asyncio.ensure_future(
        cluster.kubectl("wait", "deploy/web", "-n", "x", "--for=condition=Available", "--timeout=20s")
    )
    patch = json.dumps({"status": status})
    await cluster.kubectl("patch", "deploy", "web", "-n", "x", "--subresource=status", "--type=merge", "-p", patch)
    assert "condition met" in await waiting
    assert "successfully rolled out" in await cluster.kubectl("rollout", "status", "deploy/web", "-n", "x")
    assert "3/3" in await cluster.kubectl("get", "deploy", "-n", "x")
    await cluster.kubectl("rollout", "restart", "deploy/web", "-n", "x")
    template = (await cluster.kubectl_json("get", "deploy", "web", "-n", "x"))["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


async def test_unknown_field_is_refused_by_name(cluster: Cluster) -> None:
    wrong = POD.replace("image:", "imag: typo\n      image:")
    refused = await cluster.kubectl("apply", "-f", "-", stdin=wrong, fails=True)
    assert 'unknown field "spec.containers[0].imag"' in refused


async def test_missing_field_and_wrong_type_are_refused_by_path(cluster: Cluster) -> None:
    no_image = POD.replace("      image: example/app:1.2.3\n", "")
    assert "spec.containers[0].image" in await cluster.kubectl("apply", "-f", "-", stdin=no_image, fails=True)
    text_port = POD.replace("8080", "http")
    refused = await cluster.kubectl("create", "-f", "-", stdin=text_port, fails=True)
    assert "spec.containers[0].ports[0].containerPort" in refused


async def test_dry_run_leaves_nothing(cluster: Cluster) -> None:
    assert "server dry run" in await cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=POD)
    assert await cluster.kubectl("get", "pods", "-n", "x", "-o", "name") == ""


async def test_custom_resources_are_validated_defaulted_and_printed(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=CRD)
    await cluster.kubectl("wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s")
    await cluster.kubectl("apply", "-f", "-", stdin=WIDGET)
    table = await cluster.kubectl("get", "wd", "-n", "x")
    assert table.split("\n")[0].split() == ["NAME", "SIZE", "AGE"]
    assert table.split("\n")[1].split()[:2] == ["one", "3"]
    assert (await cluster.kubectl_json("get", "widget", "one", "-n", "x"))["spec"]["colour"] == "red"
    refused = await cluster.kubectl("apply", "-f", "-", stdin=WIDGET.replace("3", "0"), fails=True)
    assert "spec.size" in refused
    unknown = await cluster.kubectl("apply", "-f", "-", stdin=WIDGET.replace("size: 3", "size: 3, siez: 4"), fails=True)
    assert 'unknown field "spec.siez"' in unknown
    await cluster.kubectl("delete", "crd", "widgets.example.com")
    assert "could not find the requested resource" in await cluster.kubectl("get", "widgets", fails=True)


async def test_watch_prints_what_happens(cluster: Cluster) -> None:
    watching = await cluster.start_kubectl("get", "configmaps", "-n", "x", "-w", "-o", "name")
    assert watching.stdout is not None
    await cluster.kubectl("create", "configmap", "seen", "-n", "x", "--from-literal=a=b")
    async with asyncio.timeout(20):
        assert await watching.stdout.readline() == b"configmap/seen\n"
    watching.terminate()
    await watching.wait()


async def test_create_helpers_work(cluster: Cluster) -> None:
    await cluster.kubectl("create", "namespace", "y")
    await cluster.kubectl("create", "secret", "generic", "s", "-n", "x", "--from-literal=password=p")
    assert (await cluster.kubectl_json("get", "secret", "s", "-n", "x"))["data"] == {"password": "cA=="}
    await cluster.kubectl("create", "deployment", "d", "-n", "x", "--image=example/d", "--replicas=2", "--port=80")
    assert (await cluster.kubectl_json("get", "deploy", "d", "-n", "x"))["spec"]["replicas"] == 2
    await cluster.kubectl("create", "service", "clusterip", "d", "-n", "x", "--tcp=80:8080")
    assert (await cluster.kubectl_json("get", "svc", "d", "-n", "x"))["spec"]["ports"][0]["targetPort"] == 8080
    await cluster.kubectl("create", "serviceaccount", "robot", "-n", "x")
    await cluster.kubectl("create", "role", "r", "-n", "x", "--verb=get", "--resource=pods")
    await cluster.kubectl("run", "p", "-n", "x", "--image=example/p", "--", "sleep", "1")
    assert "yes" in await cluster.kubectl("auth", "can-i", "create", "pods")
    token = (await cluster.kubectl("create", "token", "default", "-n", "x", "--audience=other")).strip()
    assert len(token.split(".")) == 3
    assert "Deployment" in await cluster.kubectl("explain", "deployment")


async def test_owner_deletion_cascades_and_orphaning_does_not(cluster: Cluster) -> None:
    for policy, survives in (("background", False), ("foreground", False), ("orphan", True)):
        await cluster.kubectl("create", "configmap", "owner", "-n", "x")
        owner = await cluster.kubectl_json("get", "configmap", "owner", "-n", "x")
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        child: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap"}
        child["metadata"] = {"name": f"child-{policy}", "namespace": "x", "ownerReferences": [reference]}
        await cluster.kubectl("create", "-f", "-", stdin=json.dumps(child))
        await cluster.kubectl("delete", "configmap", "owner", "-n", "x", f"--cascade={policy}")
        if not survives:
            await cluster.kubectl("wait", "--for=delete", f"configmap/child-{policy}", "-n", "x", "--timeout=10s")
        else:
            kept = await cluster.kubectl_json("get", "configmap", "child-orphan", "-n", "x")
            assert "ownerReferences" not in kept["metadata"]


async def test_wrong_token_is_unauthorized(cluster: Cluster) -> None:
    refused = await cluster.kubectl("get", "pods", "--token=wrong", fails=True, anonymous=True)
    assert "You must be logged in to the server" in refused
