"""What only an API server can say of the charts: that it takes them without a warning, and that upgrades keep keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kubernetes.api_servers import REPOSITORY
from tests.kubernetes.installation import Installation

HELM = Path(sys.executable).parent / "helm"
APPLY = ("--server-side", "--force-conflicts", "-f", "-")
EVERYTHING = ("--set", "global.networkPolicies.enabled=true", "-f", "charts/weft/values-ha.yaml")


@pytest.mark.parametrize("arguments", [(), EVERYTHING], ids=["default", "everything"])
def test_umbrella_passes_a_server_side_dry_run_without_a_warning(
    mesh: Installation, arguments: tuple[str, ...]
) -> None:
    chart = str(REPOSITORY / "charts" / "weft")
    rendering = subprocess.run(
        [str(HELM), "template", "weft", chart, "--namespace", "default", "-f", str(mesh.values), *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # A dry run makes no namespace for what comes behind it.
    viz = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "linkerd-viz"}}
    mesh.apply(viz)
    done = subprocess.run(
        ["kubectl", "--kubeconfig", str(mesh.api.kubeconfig), "apply", "--dry-run=server", *APPLY],
        input=rendering,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_upgrade_without_values_keeps_every_key(mesh: Installation) -> None:
    names = (
        "secret/linkerd-identity-issuer",
        "configmap/linkerd-identity-trust-roots",
        "secret/linkerd-proxy-injector-k8s-tls",
    )

    def data() -> list[object]:
        return [mesh.get(name, "--namespace", "linkerd")["data"] for name in names]

    before = data()
    for chart in ("weft-identity", "weft-injector"):
        command = [str(HELM), "upgrade", chart, str(REPOSITORY / "charts" / chart), "--reset-values"]
        target = ["--namespace", "linkerd", "--kubeconfig", str(mesh.api.kubeconfig)]
        done = subprocess.run([*command, *target], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert data() == before
    for chart in ("weft-identity", "weft-injector"):
        mesh.install(chart)
