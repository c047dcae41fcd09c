"""The main job: the bookshop, meshed, seen through kubectl and weft."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from .conftest import Mesh, eventually

pytestmark = pytest.mark.e2e

WORKLOADS = {"frontend", "catalog", "reviews-v1", "reviews-v2", "orders", "store", "traffic"}


def test_every_pod_runs_and_every_app_pod_has_two_ready_containers(mesh: Mesh) -> None:
    lines = mesh.kubectl("get", "pods", "-A", "--no-headers").stdout.splitlines()
    columns = [line.split() for line in lines]
    assert {column[3] for column in columns} == {"Running"}, "\n".join(lines)
    assert {column[2] for column in columns if column[0] == "bookshop"} == {"2/2"}, "\n".join(lines)
    assert len([column for column in columns if column[0] == "bookshop"]) == 9


def test_up_returns_when_there_are_numbers_to_look_at(mesh: Mesh) -> None:
    numbers = {row["name"]: row["rps"] for row in mesh.first_stat}
    assert set(numbers) == WORKLOADS
    assert all(numbers.values()), numbers
    meshed = [edge for edge in mesh.first_edges if edge["client_id"]]
    assert len(meshed) >= 6
    assert all(edge["secured"] for edge in meshed), meshed


def test_stat_lists_every_deployment_with_golden_metrics_from_real_traffic(mesh: Mesh) -> None:
    def rows() -> dict[str, dict[str, Any]]:
        found = {row["name"]: row for row in mesh.weft_json("stat", "deploy", "-n", "bookshop")}
        assert set(found) == WORKLOADS
        for name in WORKLOADS:
            row = found[name]
            assert row["success_rate"] is not None, row
            assert row["rps"] > 0, row
            for percentile in ("latency_ms_p50", "latency_ms_p95", "latency_ms_p99"):
                assert row[percentile] is not None, row
        # Requests that came before the policy, the kubelet's among them, leave the window after a minute.
        assert found["frontend"]["success_rate"] == 1.0, found["frontend"]
        return found

    found = eventually(rows, within_s=90)
    assert found["frontend"]["meshed"] == "2/2"
    assert found["catalog"]["rps"] > found["orders"]["rps"]


def test_every_meshed_edge_is_secured_and_names_both_identities(mesh: Mesh) -> None:
    expected = {
        ("traffic", "frontend"),
        ("frontend", "catalog"),
        ("frontend", "reviews-v1"),
        ("frontend", "reviews-v2"),
        ("frontend", "orders"),
        ("orders", "store"),
    }

    def edges() -> dict[tuple[str, str], dict[str, Any]]:
        found = {(edge["src"], edge["dst"]): edge for edge in mesh.weft_json("edges", "deploy", "-n", "bookshop")}
        assert expected <= set(found), sorted(found)
        return found

    found = eventually(edges)
    suffix = ".bookshop.serviceaccount.identity.linkerd.cluster.local"
    for pair in expected:
        assert found[pair]["secured"] is True, found[pair]
        assert found[pair]["client_id"].endswith(suffix), found[pair]
        assert found[pair]["server_id"].endswith(suffix), found[pair]
    assert found["orders", "store"]["server_id"] == f"store{suffix}"


def test_a_client_outside_the_mesh_is_served_and_shown_as_not_secured(mesh: Mesh) -> None:
    def unsecured() -> None:
        edges = mesh.weft_json("edges", "deploy", "-n", "bookshop")
        legacy = [edge for edge in edges if edge["src"] == "legacy-client"]
        assert legacy, edges
        assert legacy[0]["dst"] == "frontend"
        assert legacy[0]["secured"] is False

    eventually(unsecured)
    before = eventually(lambda: _outcomes(mesh))

    def served_more() -> None:
        now = _outcomes(mesh)
        assert now["200"] > before["200"]
        # It may have called before the frontend was up, but not failed since.
        assert {**now, "200": 0, "201": 0} == {**before, "200": 0, "201": 0}

    eventually(served_more)


def _outcomes(mesh: Mesh) -> dict[str, int]:
    """What the client outside the mesh has counted so far, by status or error."""
    last = mesh.kubectl("logs", "-n", "legacy", "deploy/legacy-client", "--tail=1").stdout
    found = {key: int(count) for key, _, count in (part.partition("=") for part in last.split())}
    assert "200" in found, last
    return found


def test_check_finds_a_healthy_mesh(mesh: Mesh) -> None:
    result = eventually(lambda: mesh.weft("check", "-o", "short"), within_s=30)
    assert result.returncode == 0


def test_a_failing_endpoint_shows_in_the_success_rate(mesh: Mesh) -> None:
    try:
        mesh.kubectl("set", "env", "-n", "bookshop", "deploy/reviews-v2", "FAIL_PERCENT=100")
        mesh.kubectl("rollout", "status", "-n", "bookshop", "deploy/reviews-v2", "--timeout=60s", timeout_s=90)

        def failing() -> None:
            rows = {row["name"]: row for row in mesh.weft_json("stat", "deploy", "-n", "bookshop", "-t", "15s")}
            assert rows["reviews-v2"]["success_rate"] is not None, rows["reviews-v2"]
            assert rows["reviews-v2"]["success_rate"] < 0.5, rows["reviews-v2"]
            assert rows["reviews-v1"]["success_rate"] == 1.0, rows["reviews-v1"]

        eventually(failing)
    finally:
        mesh.kubectl("set", "env", "-n", "bookshop", "deploy/reviews-v2", "FAIL_PERCENT=0")
        mesh.kubectl("rollout", "status", "-n", "bookshop", "deploy/reviews-v2", "--timeout=60s", timeout_s=90)


def test_every_live_identity_and_every_served_endpoint_set_is_in_redis(mesh: Mesh) -> None:
    pods = mesh.kubectl_json("get", "pods", "-n", "bookshop")["items"]

    def kept() -> None:
        keys = _redis(mesh, "--scan").split()
        leaves = {key.rpartition(":")[2] for key in keys if key.startswith("weft:identity:leaf:")}
        assert {pod["metadata"]["uid"] for pod in pods} <= leaves
        snapshots = {key.removeprefix("weft:destination:endpoints:") for key in keys if ":endpoints:" in key}
        assert {"bookshop/frontend:8080", "bookshop/catalog:50051", "bookshop/store:6379"} <= snapshots

    # Identity issues the first certificates before Redis is up and writes their records when it is.
    eventually(kept, within_s=90)
    leaf = next(key for key in _redis(mesh, "--scan").split() if ":leaf:frontend.bookshop." in key)
    record = json.loads(_redis(mesh, "GET", leaf))
    assert {"serial", "issuer_key_id", "anchor_id", "not_after"} <= set(record)
    assert 0 < int(_redis(mesh, "TTL", leaf)) <= 25 * 3600


def _redis(mesh: Mesh, *command: str) -> str:
    pods = mesh.kubectl_json("get", "pods", "-n", "linkerd")["items"]
    pod = next(name for item in pods if (name := item["metadata"]["name"]).startswith("weft-redis"))
    return mesh.exec_in("linkerd", pod, "redis", "redis-cli", *command).strip()


def test_interception_is_real_iptables_in_a_namespace_of_the_pod(mesh: Mesh) -> None:
    pod = mesh.pod("bookshop", "frontend")
    own = mesh.exec_in("bookshop", pod, "frontend", "readlink", "/proc/self/ns/net").strip()
    assert own != os.readlink("/proc/self/ns/net")  # noqa: PTH115 - the link's text is the namespace's identity
    log = mesh.kubectl("logs", "-n", "bookshop", pod, "-c", "linkerd-init").stdout
    assert "PROXY_INIT_REDIRECT" in log
