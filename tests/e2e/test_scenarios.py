"""The scenarios that the task guides are about happen, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess

import pytest

from .conftest import BIN, REPOSITORY, Mesh

pytestmark = pytest.mark.e2e

SCENARIOS = ("traffic-split", "retries", "timeouts", "deny-by-default")


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_happens_and_cleans_up(mesh: Mesh, name: str) -> None:
    before = made(mesh)
    done = subprocess.run(
        [str(REPOSITORY / "examples/bookshop/scenarios" / name)],
        env={**os.environ, "KUBECONFIG": str(mesh.kubeconfig), "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert made(mesh) == before


def made(mesh: Mesh) -> list[str]:
    """The objects that scenarios make, by name."""
    kinds = "namespaces,services,deployments,httproutes.gateway.networking.k8s.io,servers.policy.linkerd.io"
    return mesh.kubectl("get", kinds, "-A", "-o", "name").stdout.split()
