"""What the control plane keeps in Redis: certificate records and endpoint snapshots."""

from __future__ import annotations

import pytest

from .conftest import Mesh, eventually

pytestmark = pytest.mark.e2e


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
    fields = _redis(mesh, "HGETALL", leaf).split("\n")
    assert {"serial", "issuer_key_id", "anchor_key_id", "not_after"} <= set(fields)
    assert 0 < int(_redis(mesh, "TTL", leaf)) <= 25 * 3600


def _redis(mesh: Mesh, *command: str) -> str:
    pods = mesh.kubectl_json("get", "pods", "-n", "linkerd")["items"]
    pod = next(name for item in pods if (name := item["metadata"]["name"]).startswith("weft-redis"))
    return mesh.exec_in("linkerd", pod, "redis", "redis-cli", *command).strip()
