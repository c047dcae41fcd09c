"""A ServiceProfile of the bookshop's frontend: both ends of its traffic count by the profile's routes."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .conftest import Mesh, eventually

pytestmark = pytest.mark.e2e

NAME = "frontend.bookshop.svc.cluster.local"
PROFILE = f"""
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata:
  name: {NAME}
  namespace: bookshop
spec:
  routes:
    - name: book page
      condition:
        all:
          - method: GET
          - pathRegex: /books/[0-9]+
"""


@pytest.fixture
def profile(mesh: Mesh, tmp_path: Path) -> Iterator[None]:
    manifest = tmp_path / "profile.yaml"
    manifest.write_text(PROFILE)
    mesh.kubectl("apply", "-f", str(manifest))
    yield
    mesh.kubectl("delete", "-f", str(manifest))


def counted(mesh: Mesh, app: str, direction: str) -> float:
    """Answers of the profile's route that the workload's proxies counted."""
    wanted = {"direction": direction, "dst": f"{NAME}:8080", "rt_route": "book page", "classification": "success"}
    total = 0.0
    for pod in mesh.kubectl_json("get", "pods", "-n", "bookshop", "-l", f"app={app}")["items"]:
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:4191/metrics", timeout=10) as answer:
            families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
        samples = families["route_response"].samples if "route_response" in families else []
        total += sum(one.value for one in samples if wanted.items() <= one.labels.items())
    return total


def test_both_sides_count_by_the_routes_of_a_profile_and_tap_shows_them(mesh: Mesh, profile: None) -> None:
    def both() -> None:
        assert counted(mesh, "traffic", "outbound") > 0
        assert counted(mesh, "frontend", "inbound") > 0

    eventually(both, within_s=30)
    wanted = ["--method", "GET", "--authority", "frontend:8080", "--path", "/books/"]
    shown = mesh.weft("tap", "deploy/frontend", "-n", "bookshop", *wanted, "--limit", "1", "-o", "wide")
    first = next(line for line in shown.stdout.splitlines() if line.startswith("req "))
    assert "proxy=in " in first
    assert "rt_route=book page" in first
