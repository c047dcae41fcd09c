"""Installing by manifests: what is printed, and that an upgrade, a prune and an uninstall follow from the cluster."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from cryptography import x509

from weft_cli.__main__ import main
from weft_cli.installed_objects import KINDS, WEBHOOKS
from weft_cli.tests.test_cluster_commands import Mesh, cluster

PLURALS = {kind.kind: kind for kind in KINDS}


class Installation(Mesh):
    """A cluster that holds exactly what was printed, and answers label selectors and access reviews."""

    def __init__(self, printed: str, *, denied: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.held = [o for o in yaml.safe_load_all(printed) if o]
        self.denied = denied

    async def answer(self, request: web.Request) -> web.Response:
        if request.path.endswith("/selfsubjectaccessreviews"):
            resource = (await request.json())["spec"]["resourceAttributes"]["resource"]
            return web.json_response({"status": {"allowed": resource not in self.denied}})
        if (selector := request.query.get("labelSelector")) and not request.path.endswith("/pods"):
            key, _, value = selector.partition("=")
            kind = next(k for k in KINDS if k.path() == request.path)
            found = [
                o for o in self.held if o["kind"] == kind.kind and o["metadata"].get("labels", {}).get(key) == value
            ]
            return web.json_response({"metadata": {}, "items": found})
        for held in self.held:
            kind = PLURALS[held["kind"]]
            if request.path == kind.path(held["metadata"].get("namespace"), held["metadata"]["name"]):
                return web.json_response(stored(held))
        return await super().answer(request)


def stored(obj: dict[str, Any]) -> dict[str, Any]:
    """As an API server keeps it."""
    plain = obj.get("stringData") or {}
    data = {**(obj.get("data") or {}), **{k: base64.b64encode(v.encode()).decode() for k, v in plain.items()}}
    return {**obj, "data": data}


async def weft(tmp_path: Path, mesh: Mesh, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    async with cluster(mesh, tmp_path) as kubeconfig:
        code = await asyncio.to_thread(main, [*words, "--kubeconfig", str(kubeconfig)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def installed() -> str:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert main(["install", "--ha", "--set", "global.controllerLogLevel=debug"]) == 0
    assert err.getvalue().startswith("note: made a trust anchor and an issuer")
    return out.getvalue()


def deployments(text: str) -> dict[str, Any]:
    return {o["metadata"]["name"]: o["spec"] for o in yaml.safe_load_all(text) if o and o["kind"] == "Deployment"}


def test_definitions_are_printed_alone(capsys: pytest.CaptureFixture[str], installed: str) -> None:
    assert main(["install", "--crds"]) == 0
    kinds = {o["kind"] for o in yaml.safe_load_all(capsys.readouterr().out) if o}
    assert kinds == {"CustomResourceDefinition"}
    assert not kinds & {o["kind"] for o in yaml.safe_load_all(installed) if o}


def test_install_makes_an_issuer_that_its_anchor_signed(installed: str) -> None:
    held = {
        (o["kind"], o["metadata"]["name"]): stored(o)["data"]
        for o in yaml.safe_load_all(installed)
        if "data" in (o or {})
    }
    anchor = x509.load_pem_x509_certificate(held["ConfigMap", "linkerd-identity-trust-roots"]["ca-bundle.crt"].encode())
    issuer = x509.load_pem_x509_certificate(base64.b64decode(held["Secret", "linkerd-identity-issuer"]["crt.pem"]))
    issuer.verify_directly_issued_by(anchor)


async def test_upgrade_changes_nothing_that_was_not_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], installed: str
) -> None:
    code, out, _ = await weft(tmp_path, Installation(installed), capsys, "upgrade")
    assert code == 0
    before, after = ({json.dumps(o, sort_keys=True) for o in yaml.safe_load_all(t) if o} for t in (installed, out))
    # Only the Secrets that say when and from what they were made may read differently.
    changed = {json.loads(text)["metadata"]["name"] for text in before ^ after}
    assert changed <= {"linkerd-config-overrides", "linkerd-config"} | {
        f"{service}-k8s-tls" for service, _ in WEBHOOKS.values()
    }
    assert deployments(out)["linkerd-identity"]["replicas"] == 3


async def test_upgrade_takes_new_settings_over_the_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], installed: str
) -> None:
    words = ("upgrade", "--set", "global.controllerReplicas=2")
    _, out, _ = await weft(tmp_path, Installation(installed), capsys, *words)
    assert deployments(out)["linkerd-destination"]["replicas"] == 2
    (env,) = [
        v["value"]
        for v in deployments(out)["linkerd-destination"]["template"]["spec"]["containers"][0]["env"]
        if v["name"] == "WEFT_LOG_LEVEL"
    ]
    assert env == "debug"


async def test_prune_finds_what_is_no_longer_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], installed: str
) -> None:
    mesh = Installation(installed)
    labels = {"linkerd.io/control-plane-ns": "linkerd"}
    mesh.held.append(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "old", "namespace": "linkerd", "labels": labels}}
    )
    code, out, _ = await weft(tmp_path, mesh, capsys, "prune")
    assert code == 0
    assert [o["metadata"] for o in yaml.safe_load_all(out)] == [{"name": "old", "namespace": "linkerd"}]


async def test_uninstall_prints_everything_installed_and_webhooks_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], installed: str
) -> None:
    code, out, _ = await weft(tmp_path, Installation(installed), capsys, "uninstall")
    assert code == 0
    printed = list(yaml.safe_load_all(out))
    assert printed[0]["kind"] == "MutatingWebhookConfiguration"
    names = {(o["kind"], o["metadata"]["name"]) for o in printed}
    assert names == {(o["kind"], o["metadata"]["name"]) for o in yaml.safe_load_all(installed) if o}


async def test_uninstall_waits_for_workloads_to_leave_the_mesh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], installed: str
) -> None:
    mesh = Installation(installed)
    mesh.objects["/api/v1/pods"] = [{"metadata": {"name": "web-1", "namespace": "shop"}}]
    code, out, err = await weft(tmp_path, mesh, capsys, "uninstall")
    assert (code, out) == (1, "")
    assert "1 pods still have a proxy: shop/web-1" in err
    code, out, _ = await weft(tmp_path, mesh, capsys, "uninstall", "--force")
    assert code == 0
    assert out


async def test_check_before_an_installation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = Installation("")
    empty.objects = {"/version": {"gitVersion": "v1.36.0"}, "/api/v1/nodes": []}
    code, out, _ = await weft(tmp_path, empty, capsys, "check", "--pre")
    assert code == 0, out
    empty.denied = ("clusterroles",)
    code, out, _ = await weft(tmp_path, empty, capsys, "check", "--pre")
    assert code == 1
    assert "not allowed to create ClusterRoles" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["install", "--set", "global.controllerReplica=3"], "Additional property controllerReplica is not allowed"),
        (["install", "-f", "{tmp}/absent.yaml"], "no values file at"),
        (["install", "--identity-trust-anchors-file", "{tmp}/ca.crt"], "the three identity files go together"),
        (["check", "--pre", "--proxy"], "choose one"),
    ],
)
def test_bad_input_exits_2_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main([word.format(tmp=tmp_path) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
