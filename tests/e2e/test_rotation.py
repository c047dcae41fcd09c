"""Issuers and anchors are replaced under traffic, as docs/tasks/rotate-certificates.md promises."""

from __future__ import annotations

import os
import subprocess

import pytest

from .conftest import REPOSITORY, Mesh

pytestmark = pytest.mark.e2e

# As much as the demo itself asks: the machines that run this are shared, and a saturated shop fails by itself.
RATE = "20"


@pytest.mark.parametrize("name", ["rotate-issuer", "rotate-anchor", "rotate-abort"])
def test_what_signs_certificates_is_replaced_without_a_failed_request(mesh: Mesh, name: str) -> None:
    run_scenario(mesh, name)


def run_scenario(mesh: Mesh, name: str) -> None:
    done = subprocess.run(
        [str(REPOSITORY / "examples/bookshop/scenarios" / name)],
        env={**os.environ, "KUBECONFIG": str(mesh.kubeconfig), "RATE": RATE},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_every_proxy_reports_what_it_trusts(mesh: Mesh) -> None:
    status = mesh.weft_json("identity", "status")
    trusted = {anchor["id"] for anchor in status["anchors"]}
    certificates = mesh.weft_json("identity", "list")
    assert {certificate["pod"] for certificate in certificates} >= {mesh.pod("bookshop", "frontend")}
    assert all(set(certificate["trusted_anchors"]) == trusted for certificate in certificates), certificates
    assert status["overdue"] == 0


def test_traffic_returns_after_an_issuer_expired_without_restarting_pods(mesh: Mesh) -> None:
    run_scenario(mesh, "expired-issuer")
