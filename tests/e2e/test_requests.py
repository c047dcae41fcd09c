"""What people see of single requests in the bookshop: live by `weft tap`, afterwards by `weft why`."""

from __future__ import annotations

from uuid import uuid4

import pytest

from .conftest import Mesh, eventually

pytestmark = pytest.mark.e2e

IDENTITY = "{}.bookshop.serviceaccount.identity.linkerd.cluster.local"
UNUSED_PORT = 9999
ASK = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def test_tap_shows_the_bookshops_requests_and_who_sends_them(mesh: Mesh) -> None:
    # Pages only: orders are POSTs, and /books also begins the catalog's gRPC paths, which frontend itself asks for.
    wanted = ["--method", "GET", "--authority", "frontend:8080", "--path", "/books/"]
    shown = mesh.weft("tap", "deploy/frontend", "-n", "bookshop", *wanted, "--limit", "3", "-o", "wide")
    lines = shown.stdout.splitlines()
    assert len(lines) == 3
    first = next(line for line in lines if line.startswith("req "))
    for fact in ("proxy=in ", "tls=true", ":method=GET", ":authority=frontend:8080", "src_deployment=traffic"):
        assert fact in first
    assert f"src_client_id={IDENTITY.format('traffic')}" in first


def test_why_tells_both_sides_of_a_request_that_found_nobody(mesh: Mesh) -> None:
    path = f"/nobody-{uuid4().hex[:8]}"
    pod = mesh.kubectl_json("get", "pod", "-n", "bookshop", mesh.pod("bookshop", "frontend"))
    url = f"http://{pod['status']['podIP']}:{UNUSED_PORT}{path}"
    status = mesh.exec_in("bookshop", mesh.pod("bookshop", "traffic"), "traffic", "python", "-c", ASK, url)
    assert status.strip() == "502"

    def story(workload: str) -> str:
        stories = mesh.weft("why", workload, "-n", "bookshop").stdout.split("\n\n")
        found = [one for one in stories if path in one]
        assert len(found) == 1, stories
        return found[0]

    there = eventually(lambda: story("deploy/frontend"), within_s=10)
    assert f"mutual TLS as {IDENTITY.format('traffic')}" in there
    assert "deployment/traffic" in there
    assert "ended by   the proxy: endpoint connection failed" in there
    assert "Connection refused" in there
    here = story("deploy/traffic")
    assert f"(pod {pod['metadata']['name']})" in here
    assert "no TLS (loopback)" in here
    assert mesh.weft("why", "deploy/frontend", "-n", "bookshop", "no:such").stdout == ""
