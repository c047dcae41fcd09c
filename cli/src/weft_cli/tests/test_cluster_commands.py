"""Commands that ask the API server, against a real HTTP server that serves the objects of a small mesh."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from weft_common.kube.resource import MUTATING_WEBHOOKS

from weft_cli.__main__ import main
from weft_cli.cluster_facts import pod_facts
from weft_cli.core.tests.certificates import issue
from weft_cli.tests.metrics_server import Answers, serving

ANCHOR = issue("root", days=36500)
ISSUER = issue("issuer", ANCHOR, days=36500)
WEBHOOK = issue("webhook", dns="linkerd-proxy-injector.linkerd.svc", days=36500)
Run = Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def pod(deployment: str, namespace: str = "linkerd", ready: bool = True) -> dict[str, Any]:
    container = deployment.removeprefix("linkerd-")
    names = [container, "linkerd-proxy"]
    return {
        "metadata": {
            "namespace": namespace,
            "name": f"{deployment}-5d-x",
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"{deployment}-5d"}],
        },
        "spec": {"containers": [{"name": name, "image": f"weft/{name}:0.1.0"} for name in names]},
        "status": {"phase": "Running", "containerStatuses": [{"name": name, "ready": ready} for name in names]},
    }


class Mesh:
    """Objects by path; collections are lists."""

    def __init__(self) -> None:
        api, linkerd = "/api/v1", "/api/v1/namespaces/linkerd"
        names = ("linkerd-identity", "linkerd-destination", "linkerd-proxy-injector")
        self.objects: dict[str, Any] = {
            "/version": {"gitVersion": "v1.36.0"},
            linkerd: {"metadata": {"name": "linkerd"}},
            f"{linkerd}/configmaps/linkerd-config": {"data": {}},
            f"{linkerd}/configmaps/linkerd-identity-trust-roots": {"data": {"ca-bundle.crt": ANCHOR.pem}},
            f"{linkerd}/secrets/linkerd-identity-issuer": {
                "data": {"crt.pem": encoded(ISSUER.pem), "key.pem": encoded(ISSUER.key_pem)}
            },
            f"{linkerd}/secrets/linkerd-proxy-injector-k8s-tls": {"data": {"tls.crt": encoded(WEBHOOK.pem)}},
            f"{linkerd}/serviceaccounts": [{"metadata": {"name": name}} for name in names],
            f"{linkerd}/pods": [pod(name) for name in names],
            f"{api}/namespaces/linkerd-viz/pods": [pod(name, "linkerd-viz") for name in ("metrics-api", "web")],
            f"{api}/namespaces/linkerd-viz/services/metrics-api": {"spec": {"clusterIP": "None"}},
            f"{api}/pods": [],
            MUTATING_WEBHOOKS.path(None, "linkerd-proxy-injector-webhook-config"): {
                "webhooks": [{"clientConfig": {"caBundle": encoded(WEBHOOK.pem)}}]
            },
        }
        self.looks = 0
        self.on_second_look: Callable[[], None] = lambda: None

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/version":
            self.looks += 1
            if self.looks == 2:
                self.on_second_look()
        found = self.objects.get(request.path)
        if found is None:
            return web.json_response({"reason": "NotFound", "message": f"{request.path} not found"}, status=404)
        return web.json_response({"metadata": {}, "items": found} if isinstance(found, list) else found)


@asynccontextmanager
async def cluster(mesh: Mesh, tmp_path: Path) -> AsyncIterator[Path]:
    """Yields a kubeconfig."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", mesh.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        kubeconfig = tmp_path / "config"
        document = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        }
        kubeconfig.write_text(json.dumps(document))
        yield kubeconfig
    finally:
        await runner.cleanup()


@pytest.fixture
def weft(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    async def run(mesh: Mesh, *words: str) -> tuple[int, str, str]:
        async with cluster(mesh, tmp_path) as kubeconfig:
            code = await asyncio.to_thread(main, [*words, "--kubeconfig", str(kubeconfig)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


async def test_check_of_a_healthy_mesh_passes(weft: Run) -> None:
    with serving(Answers()) as address:
        code, out, _ = await weft(Mesh(), "check", "--api-addr", address)
    assert out.endswith("Status check results are √\n")
    assert "√ metrics API: proxies are scraped\n" in out
    assert "×" not in out
    assert code == 0


async def test_check_waits_for_pods_that_are_starting_and_says_so(weft: Run) -> None:
    mesh = Mesh()
    pods = mesh.objects["/api/v1/namespaces/linkerd/pods"]
    pods[0] = pod("linkerd-identity", ready=False)

    def become_ready() -> None:
        pods[0] = pod("linkerd-identity")

    mesh.on_second_look = become_ready
    with serving(Answers()) as address:
        code, out, err = await weft(mesh, "check", "--wait", "30s", "--api-addr", address)
    assert err == "waiting: control plane pods are ready: linkerd-identity-5d-x: identity, linkerd-proxy not ready\n"
    assert (code, out.endswith("√\n")) == (0, True)


async def test_check_of_a_cluster_without_a_mesh_fails_at_once_and_once(weft: Run) -> None:
    mesh = Mesh()
    mesh.objects = {"/version": {"gitVersion": "v1.36.0"}} | {
        path: [] for path in mesh.objects if path.endswith(("pods", "serviceaccounts"))
    }
    code, out, _ = await weft(mesh, "check", "-o", "json")
    failed = [
        check["description"]
        for category in json.loads(out)["categories"]
        for check in category["checks"]
        if check["result"] == "error"
    ]
    assert (code, failed) == (1, ["'linkerd' namespace exists"])


async def test_version_asks_the_control_plane(weft: Run) -> None:
    assert await weft(Mesh(), "version") == (0, "Client version: 0.1.0\nServer version: 0.1.0\n", "")


async def test_stat_without_metrics_api_says_how_to_get_it(weft: Run) -> None:
    mesh = Mesh()
    del mesh.objects["/api/v1/namespaces/linkerd-viz/services/metrics-api"]
    code, _, err = await weft(mesh, "stat", "deploy")
    assert code == 1
    assert "this cluster has no metrics-api" in err
    assert "weft-metrics-api" in err


async def test_dashboard_that_does_not_exist_says_how_to_get_it(weft: Run) -> None:
    code, _, err = await weft(Mesh(), "dashboard")
    assert code == 1
    assert "weft-web" in err


def test_cluster_that_is_not_there_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WEFT_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert main(["stat", "deploy"]) == 1
    assert "weft local up" in capsys.readouterr().err
    assert main(["stat", "deploy", "--kubeconfig", str(tmp_path / "nope")]) == 2
    assert "no kubeconfig at" in capsys.readouterr().err


def test_native_sidecar_counts_as_a_container_and_finished_init_containers_do_not() -> None:
    facts = pod_facts(
        {
            "metadata": {"name": "p", "namespace": "shop"},
            "spec": {
                "initContainers": [{"name": "linkerd-init"}, {"name": "linkerd-proxy", "restartPolicy": "Always"}],
                "containers": [{"name": "app"}],
            },
            "status": {
                "phase": "Running",
                "initContainerStatuses": [
                    {"name": "linkerd-init", "ready": True, "state": {"terminated": {"exitCode": 0}}},
                    {"name": "linkerd-proxy", "ready": True},
                ],
                "containerStatuses": [
                    {"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}}
                ],
            },
        }
    )
    assert facts.ready == {"app": False, "linkerd-proxy": True}
    assert facts.is_meshed
    assert facts.trouble == "app CrashLoopBackOff: back-off 10s"
