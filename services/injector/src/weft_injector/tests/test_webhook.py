"""The webhook over real TLS, against an API server that serves just what it reads."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry, generate_latest
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig

from weft_injector.kube.cluster import Cluster
from weft_injector.kube.events import EventWriter
from weft_injector.mesh_files import MeshFiles
from weft_injector.metrics import AdmissionMetrics
from weft_injector.reviewer import Reviewer, validate
from weft_injector.web.certificate import ServingCertificate
from weft_injector.web.server import serving

HOST = "linkerd-proxy-injector.linkerd.svc"


@dataclass
class ApiServer:
    """Namespaces by name, ReplicaSets by name, and the events written."""

    namespaces: dict[str, dict[str, str]]
    events: list[dict[str, Any]] = field(default_factory=list)
    event_written: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/v1/namespaces/{name}", self._namespace),
                web.get("/apis/apps/v1/namespaces/{ns}/replicasets/{name}", self._replica_set),
                web.post("/api/v1/namespaces/{ns}/events", self._event),
            ]
        )
        return app

    async def _namespace(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.namespaces:
            message = f'namespaces "{name}" not found'
            return web.json_response({"reason": "NotFound", "message": message}, status=404)
        return web.json_response({"metadata": {"name": name, "annotations": self.namespaces[name]}})

    async def written(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(5):
            while len(self.events) < count:
                self.event_written.clear()
                await self.event_written.wait()
        return self.events

    async def _replica_set(self, request: web.Request) -> web.Response:
        if request.match_info["name"] == "gone":
            return web.json_response({"reason": "NotFound", "message": "gone"}, status=404)
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u1"}
        return web.json_response({"metadata": {"name": request.match_info["name"], "ownerReferences": [owner]}})

    async def _event(self, request: web.Request) -> web.Response:
        self.events.append(await request.json())
        self.event_written.set()
        return web.json_response({}, status=201)


@dataclass(frozen=True)
class Webhook:
    """How to reach a served webhook, and what lies behind it."""

    url: str
    api: ApiServer
    folder: Path
    registry: CollectorRegistry

    async def post(self, body: bytes | io.BytesIO) -> tuple[int, bytes]:
        tls = ssl.create_default_context(cadata=(self.folder / "tls.crt").read_text())
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
            session.post(self.url, data=body, server_hostname=HOST) as response,
        ):
            return response.status, await response.read()

    def count(self, of: str, **labels: str) -> float:
        name = f"proxy_inject_admission_{of}_total"
        samples = [s for family in self.registry.collect() for s in family.samples if s.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    async def review(self, obj: dict[str, Any], kind: str = "Pod", namespace: str = "shop", version: str = "v1") -> Any:
        review = {
            "apiVersion": f"admission.k8s.io/{version}",
            "kind": "AdmissionReview",
            "request": {"uid": "r1", "kind": {"kind": kind}, "namespace": namespace, "object": obj},
        }
        status, body = await self.post(json.dumps(review).encode())
        assert status == 200
        answer = json.loads(body)
        assert answer["apiVersion"] == f"admission.k8s.io/{version}"
        assert answer["response"]["uid"] == "r1"
        return answer["response"]


def write_certificate(folder: Path, serial: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial, now - timedelta(hours=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@asynccontextmanager
async def webhook_over(api: ApiServer, folder: Path) -> AsyncIterator[Webhook]:
    write_certificate(folder, 1)
    (folder / "values").write_text("clusterDomain: cluster.local\n")
    (folder / "ca-bundle.crt").write_text("PEM")
    registry = CollectorRegistry()
    runner = web.AppRunner(api.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with KubeClient(KubeConfig(f"http://127.0.0.1:{runner.addresses[0][1]}")) as kube:
            events = EventWriter(kube)
            files = MeshFiles(folder / "values", folder / "ca-bundle.crt", "linkerd")
            reviewer = Reviewer(files, Cluster(kube), events, AdmissionMetrics(registry))
            async with (
                asyncio.TaskGroup() as group,
                serving(reviewer.review, 0, ServingCertificate(folder).context) as port,
            ):
                writing = group.create_task(events.run())
                yield Webhook(f"https://127.0.0.1:{port}/", api, folder, registry)
                writing.cancel()
    finally:
        await runner.cleanup()


@pytest.fixture
async def webhook(tmp_path: Path) -> AsyncIterator[Webhook]:
    api = ApiServer({"shop": {"linkerd.io/inject": "enabled"}, "plain": {}})
    async with webhook_over(api, tmp_path) as served:
        yield served


def a_pod() -> dict[str, Any]:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u0", "controller": True}
    return {
        "metadata": {"generateName": "web-1-", "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "web", "image": "shop/web"}]},
    }


def patch_of(response: Any) -> list[dict[str, Any]]:
    assert response["allowed"] is True
    assert response["patchType"] == "JSONPatch"
    patch: list[dict[str, Any]] = json.loads(base64.b64decode(response["patch"]))
    return patch


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_pod_is_patched_and_its_deployment_named(webhook: Webhook, version: str) -> None:
    patch = patch_of(await webhook.review(a_pod(), version=version))
    assert {"op": "add", "path": "/metadata/labels/linkerd.io~1proxy-deployment", "value": "web"} in patch
    assert patch[-1]["value"]["name"] == "linkerd-proxy"


async def test_event_goes_to_the_owner(webhook: Webhook) -> None:
    await webhook.review(a_pod())
    (event,) = await webhook.api.written(1)
    assert event["involvedObject"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "web",
        "namespace": "shop",
        "uid": "u1",
    }
    assert (event["type"], event["reason"]) == ("Normal", "Injected")
    assert event["source"] == {"component": "linkerd-proxy-injector"}


async def test_annotation_that_is_left_aside_is_told_on_the_owner(webhook: Webhook) -> None:
    pod = a_pod()
    pod["metadata"]["annotations"] = {"config.linkerd.io/proxy-cpu-limit": "much"}
    patch_of(await webhook.review(pod))
    events = await webhook.api.written(2)
    assert [(event["type"], event["reason"]) for event in events] == [
        ("Warning", "InjectionAnnotationIgnored"),
        ("Normal", "Injected"),
    ]
    assert "proxy-cpu-limit='much' left aside: expected a quantity" in events[0]["message"]


async def test_refused_pod_is_counted_as_asked_and_told_on_the_owner(webhook: Webhook) -> None:
    pod = a_pod()
    pod["metadata"]["annotations"] = {"config.linkerd.io/proxy-log-http-headers": "all"}
    response = await webhook.review(pod)
    assert response["allowed"] is False
    (event,) = await webhook.api.written(1)
    assert (event["type"], event["reason"]) == ("Warning", "InjectionRefused")
    assert event["involvedObject"]["kind"] == "Deployment"
    assert "expected off or insecure" in event["message"]
    assert webhook.count("requests", owner_kind="deployment") == 1
    assert webhook.count("responses", owner_kind="deployment") == 0


async def test_pod_whose_owner_is_gone_is_injected_under_the_name_it_has(webhook: Webhook) -> None:
    pod = a_pod()
    pod["metadata"]["ownerReferences"][0]["name"] = "gone"
    patch = patch_of(await webhook.review(pod))
    assert {"op": "add", "path": "/metadata/labels/linkerd.io~1proxy-replicaset", "value": "gone"} in patch


async def test_review_over_its_budget_is_left_to_the_failure_policy(webhook: Webhook) -> None:
    async def stuck(kind: str, namespace: str, obj: Any, *, dry_run: bool) -> Any:
        await asyncio.Event().wait()

    async with serving(stuck, 0, ServingCertificate(webhook.folder).context, budget_s=0.05) as port:
        slow = Webhook(f"https://127.0.0.1:{port}/", webhook.api, webhook.folder, webhook.registry)
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "r1"}}
        status, text = await slow.post(json.dumps(review).encode())
    assert status == 503
    assert text == b"no decision within 0.05 s\n"


async def test_pod_outside_the_mesh_is_allowed_without_a_patch(webhook: Webhook) -> None:
    response = await webhook.review(a_pod(), namespace="plain")
    assert response == {"uid": "r1", "allowed": True}
    text = generate_latest(webhook.registry).decode()
    assert 'skip="true"' in text
    assert 'skip_reason="injection_enable_annotation_absent"' in text


async def test_service_gets_its_opaque_ports(webhook: Webhook) -> None:
    service = {"metadata": {"name": "db"}, "spec": {"ports": [{"port": 3306}]}}
    patch = patch_of(await webhook.review(service, kind="Service"))
    assert patch[-1] == {"op": "add", "path": "/metadata/annotations/config.linkerd.io~1opaque-ports", "value": "3306"}
    assert webhook.count("responses", owner_kind="service", skip_reason="unsupported_resource") == 1


async def test_unknown_namespace_is_a_denial_that_says_why(webhook: Webhook) -> None:
    response = await webhook.review(a_pod(), namespace="nowhere")
    assert response["allowed"] is False
    assert 'namespaces "nowhere" not found' in response["status"]["message"]


async def test_values_are_read_again_for_every_request(webhook: Webhook) -> None:
    (webhook.folder / "values").write_text("proxy: {uid: root}\n")
    response = await webhook.review(a_pod())
    assert response["allowed"] is False
    assert "proxy.uid: expected an integer" in response["status"]["message"]
    (webhook.folder / "values").write_text("proxy: {uid: 4242}\n")
    patch = patch_of(await webhook.review(a_pod()))
    assert patch[-1]["value"]["securityContext"]["runAsUser"] == 4242


async def test_empty_body_gets_an_empty_answer_and_nonsense_a_400(webhook: Webhook) -> None:
    assert await webhook.post(b"") == (200, b"")
    for nonsense in (b"{", b"[]", b'{"kind":"Pod"}', b"\xff"):
        status, text = await webhook.post(nonsense)
        assert status == 400
        assert text


async def test_body_over_the_limit_is_refused(webhook: Webhook) -> None:
    status, _ = await webhook.post(io.BytesIO(b" " * (10 * 1024 * 1024 + 1)))
    assert status == 413


async def test_new_certificate_serves_the_next_connection(webhook: Webhook) -> None:
    await webhook.review(a_pod())
    write_certificate(webhook.folder, 2)
    # The client trusts only what is on disk now, so this fails unless the new certificate is served.
    await webhook.review(a_pod())


async def test_half_written_certificate_leaves_the_old_one_in_use(webhook: Webhook) -> None:
    old = (webhook.folder / "tls.crt").read_text()
    (webhook.folder / "tls.crt").write_text("half")
    tls = ssl.create_default_context(cadata=old)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
        session.post(webhook.url, data=b"", server_hostname=HOST) as response,
    ):
        assert response.status == 200


async def test_tls_below_1_3_is_refused(webhook: Webhook) -> None:
    tls = ssl.create_default_context(cadata=(webhook.folder / "tls.crt").read_text())
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    port = int(webhook.url.rstrip("/").rpartition(":")[2])
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=HOST)


def test_process_without_a_certificate_says_so_and_exits_64(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "current-context: c\n"
        "contexts: [{name: c, context: {cluster: k}}]\n"
        "clusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "weft_injector", "--kubeconfig", str(kubeconfig)],
        env={**os.environ, "WEFT_TLS_DIR": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 64
    assert f"no usable certificate at {tmp_path}/none/tls.crt" in done.stderr


@pytest.fixture
async def validator(webhook: Webhook) -> AsyncIterator[Webhook]:
    async with serving(validate, 0, ServingCertificate(webhook.folder).context) as port:
        yield Webhook(f"https://127.0.0.1:{port}/", webhook.api, webhook.folder, webhook.registry)


def a_policy(kind: str, spec: Any, api_version: str = "policy.linkerd.io/v1beta3") -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "web", "namespace": "shop"}, "spec": spec}


async def test_policy_that_cannot_work_is_refused_with_every_field(validator: Webhook) -> None:
    server = a_policy("Server", {"podSelector": {}, "port": 80, "proxyProtocol": "smoke", "accessPolicy": "some"})
    response = await validator.review(server, kind="Server")
    assert response["allowed"] is False
    assert response["status"]["code"] == 403
    assert response["status"]["message"].startswith("spec.proxyProtocol: 'smoke' is not one of unknown, HTTP/1,")
    assert "; spec.accessPolicy: 'some' is not one of" in response["status"]["message"]


async def test_policy_that_can_work_is_admitted(validator: Webhook) -> None:
    response = await validator.review(a_policy("Server", {"podSelector": {}, "port": 80}), kind="Server")
    assert response == {"uid": "r1", "allowed": True}


async def test_unreadable_gateway_route_is_admitted_with_a_warning_for_its_author(validator: Webhook) -> None:
    route = a_policy("HTTPRoute", {"rules": "all"}, "gateway.networking.k8s.io/v1")
    response = await validator.review(route, kind="HTTPRoute")
    assert response["allowed"] is True
    assert response["warnings"] == ["spec.rules: expected a list, found 'all'"]


async def test_profile_that_cannot_work_is_a_bad_request(validator: Webhook) -> None:
    profile = a_policy("ServiceProfile", {"routes": [{"name": "x"}]}, "linkerd.io/v1alpha2")
    response = await validator.review(profile, kind="ServiceProfile")
    assert response["status"] == {
        "message": "spec.routes[0].condition: missing; say which requests take the route",
        "code": 400,
    }
