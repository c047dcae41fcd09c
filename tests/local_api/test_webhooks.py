"""Admission webhooks are really called, over HTTPS, with the certificates and rules of their configuration."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from weft_common.kube.client import KubeError
from weft_common.kube.resource import CONFIG_MAPS, MUTATING_WEBHOOKS, PODS, VALIDATING_WEBHOOKS

from .conftest import Cluster

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@asynccontextmanager
async def webhook(cluster: Cluster, folder: Path, answer: Answer) -> AsyncIterator[list[dict[str, Any]]]:
    """A webhook behind the Service `hooks/hook`; yields the requests it has seen."""
    seen: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.Response:
        review = await request.json()
        seen.append({**review["request"], "path": request.path})
        response = {"uid": review["request"]["uid"], **answer(review["request"])}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})

    certificate, key = cluster.authority.serving("hook.hooks.svc")
    (folder / "hook.crt").write_bytes(certificate)
    (folder / "hook.key").write_bytes(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "hook.crt", folder / "hook.key")
    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        cluster.services["hooks", "hook"] = ("127.0.0.1", runner.addresses[0][1])
        yield seen
    finally:
        await runner.cleanup()


def configuration(cluster: Cluster, **fields: Any) -> dict[str, Any]:
    service = {"name": "hook", "namespace": "hooks", "path": "/inject"}
    hook = {
        "name": "hook.example.com",
        "clientConfig": {"service": service, "caBundle": base64.b64encode(cluster.authority.pem).decode()},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        **fields,
    }
    return {"metadata": {"name": "hook"}, "webhooks": [hook]}


def label(request: dict[str, Any]) -> dict[str, Any]:
    patch = [{"op": "add", "path": "/metadata/labels", "value": {"seen": request["namespace"]}}]
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "data": {"a": "b"}}


async def test_patch_of_a_mutating_webhook_is_stored(cluster: Cluster, tmp_path: Path) -> None:
    async with webhook(cluster, tmp_path, label) as seen:
        await cluster.kube.create(MUTATING_WEBHOOKS.path(), configuration(cluster))
        created = await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("one"))
    assert created["metadata"]["labels"] == {"seen": "x"}
    (request,) = seen
    assert request["path"] == "/inject"
    assert request["operation"] == "CREATE"
    assert request["object"]["data"] == {"a": "b"}
    assert request["userInfo"]["username"] == "system:admin"


async def test_containers_added_by_a_webhook_get_defaults_and_the_token_mount(cluster: Cluster, tmp_path: Path) -> None:
    def inject(request: dict[str, Any]) -> dict[str, Any]:
        patch = [{"op": "add", "path": "/spec/containers/-", "value": {"name": "proxy", "image": "weft/proxy:1"}}]
        text = base64.b64encode(json.dumps(patch).encode()).decode()
        return {"allowed": True, "patchType": "JSONPatch", "patch": text}

    rules = [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]
    async with webhook(cluster, tmp_path, inject):
        await cluster.kube.create(MUTATING_WEBHOOKS.path(), configuration(cluster, rules=rules))
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main", "image": "app:1"}]}}
        created = await cluster.kube.create(PODS.path("x"), pod)
    volumes = [volume["name"] for volume in created["spec"]["volumes"]]
    assert len(volumes) == 1
    for container in created["spec"]["containers"]:
        assert container["imagePullPolicy"] == "IfNotPresent"
        assert [mount["name"] for mount in container["volumeMounts"]] == volumes


async def test_denial_reaches_the_client_with_its_message_and_code(cluster: Cluster, tmp_path: Path) -> None:
    def deny(request: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": False, "status": {"code": 422, "message": "port 9 is not ours"}}

    async with webhook(cluster, tmp_path, deny):
        await cluster.kube.create(VALIDATING_WEBHOOKS.path(), configuration(cluster))
        with pytest.raises(KubeError, match="port 9 is not ours") as error:
            await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("one"))
    assert error.value.status == 422
    assert 'webhook "hook.example.com" denied the request' in error.value.message


async def test_selectors_decide_what_a_webhook_sees(cluster: Cluster, tmp_path: Path) -> None:
    async with webhook(cluster, tmp_path, lambda _: {"allowed": True}) as seen:
        not_default = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["default"]}
        fields = {
            "namespaceSelector": {"matchExpressions": [not_default]},
            "objectSelector": {"matchLabels": {"watch": "me"}},
        }
        await cluster.kube.create(VALIDATING_WEBHOOKS.path(), configuration(cluster, **fields))
        await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("plain"))
        await cluster.kube.create(CONFIG_MAPS.path("default"), config_map("elsewhere", watch="me"))
        await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("wanted", watch="me"))
    assert [request["name"] for request in seen] == ["wanted"]


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
async def test_failure_policy_decides_when_nobody_answers(cluster: Cluster, policy: str) -> None:
    cluster.services["hooks", "hook"] = ("127.0.0.1", 1)
    await cluster.kube.create(MUTATING_WEBHOOKS.path(), configuration(cluster, failurePolicy=policy))
    if policy == "Ignore":
        await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("one"))
        return
    with pytest.raises(KubeError, match="failed calling webhook") as error:
        await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("one"))
    assert error.value.status == 500


async def test_certificate_of_another_authority_is_not_trusted(cluster: Cluster, tmp_path: Path) -> None:
    other = type(cluster.authority).new()
    async with webhook(cluster, tmp_path, lambda _: {"allowed": True}) as seen:
        body = configuration(cluster)
        body["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(other.pem).decode()
        await cluster.kube.create(VALIDATING_WEBHOOKS.path(), body)
        with pytest.raises(KubeError, match=r"(?i)certificate"):
            await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("one"))
    assert seen == []


async def test_a_slow_webhook_is_given_up_after_its_timeout(cluster: Cluster, tmp_path: Path) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    cluster.services["hooks", "hook"] = ("127.0.0.1", server.sockets[0].getsockname()[1])
    await cluster.kube.create(MUTATING_WEBHOOKS.path(), configuration(cluster, timeoutSeconds=1))
    with pytest.raises(KubeError, match="timed out"):
        await cluster.kube.create(CONFIG_MAPS.path("x"), config_map("one"))
    server.close()
