"""An unmodified linkerd2-proxy in pods beside ours, both ways and for every protocol the bookshop speaks.

Looks for the peer on PATH; nothing here builds or brings it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import BIN, REPOSITORY, Mesh, eventually, run

PEER = shutil.which("linkerd2-proxy")
NAME = "interchange"
IMAGE = "cr.l5d.io/linkerd/proxy"
# Every protocol crosses from one kind of proxy to the other in one of the two casts.
CASTS = {
    # ours → theirs: gRPC to catalog, HTTP/1 to reviews, HTTP/2 to orders.
    # theirs → ours: HTTP/1 to frontend, opaque to store.
    "leaves": {"catalog", "reviews-v1", "reviews-v2", "orders", "traffic"},
    # theirs → ours: gRPC, HTTP/1, HTTP/2 from frontend. ours → theirs: HTTP/1 to frontend, opaque to store.
    "frontend and store": {"frontend", "store"},
}
DEPLOYMENTS = {"catalog", "frontend", "orders", "reviews-v1", "reviews-v2", "store", "traffic"}
EDGES = {
    ("traffic", "frontend"),
    ("frontend", "catalog"),
    ("frontend", "reviews-v1"),
    ("frontend", "reviews-v2"),
    ("frontend", "orders"),
    ("orders", "store"),
}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(PEER is None, reason="linkerd2-proxy is not on PATH; put one there to test against it"),
]


@pytest.fixture(scope="module")
def mixed() -> Iterator[Mesh]:
    weft = str(BIN / "weft")
    stand_in = f"{IMAGE}={BIN / 'weft-proxy-identity'} {PEER}"
    shop = ["-f", str(REPOSITORY / "examples/bookshop")]
    up = [weft, "local", "up", "--name", NAME, *shop, "--image", stand_in, "--detach", "--wait", "180s"]
    try:
        run(*up, timeout_s=240)
        yield Mesh(Path(run(weft, "local", "kubeconfig", "--name", NAME).stdout.strip()), [], [])
    finally:
        run(weft, "local", "down", "--name", NAME, timeout_s=120)


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_every_protocol_crosses_between_both_kinds_of_proxy(mixed: Mesh, cast: set[str]) -> None:
    for name in sorted(DEPLOYMENTS):
        image = IMAGE if name in cast else None
        change = {"spec": {"template": {"metadata": {"annotations": {"config.linkerd.io/proxy-image": image}}}}}
        mixed.kubectl("patch", "-n", "bookshop", f"deploy/{name}", "-p", json.dumps(change))
    for name in sorted(DEPLOYMENTS):
        mixed.kubectl("rollout", "status", "-n", "bookshop", f"deploy/{name}", "--timeout=120s", timeout_s=130)
    pods = mixed.kubectl_json("get", "pods", "-n", "bookshop")["items"]
    theirs = {pod["metadata"]["labels"]["app"] for pod in pods if IMAGE in json.dumps(pod["spec"]["initContainers"])}
    assert theirs == {name.partition("-v")[0] for name in cast}

    def all_well() -> None:
        rows: dict[str, Any] = {
            row["name"]: row for row in weft_json(mixed, "stat", "deploy", "-n", "bookshop", "-t", "15s")
        }
        # Exchanges of opaque bytes are counted by ours only; of theirs there are the bytes.
        opaque = {"store"} & cast
        assert {name for name, row in rows.items() if (row["rps"] or 0) > 0} == DEPLOYMENTS - opaque, rows
        assert {name for name, row in rows.items() if row["success_rate"] != 1.0} == opaque, rows
        assert all(rows[name]["tcp_read_bytes_rate"] > 0 for name in opaque), rows
        edges = {(edge["src"], edge["dst"]): edge for edge in weft_json(mixed, "edges", "deploy", "-n", "bookshop")}
        assert set(edges) >= EDGES, sorted(edges)
        assert all(edges[pair]["secured"] and edges[pair]["client_id"] for pair in EDGES), edges

    eventually(all_well, within_s=90, every_s=3)


def weft_json(mesh: Mesh, *args: str) -> Any:
    return json.loads(mesh.weft(*args, "--kubeconfig", str(mesh.kubeconfig), "-o", "json").stdout)
