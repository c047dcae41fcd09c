"""The control plane is killed or cut off, part by part: known peers do not notice, and `weft check` tells."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Mesh, eventually

pytestmark = pytest.mark.e2e

# Runs inside the traffic pod, through its proxy: an open-loop load whose every failure is counted.
LOAD = """
import collections, http.client, json, sys, threading, time
deadline = time.monotonic() + float(sys.argv[1])
results = collections.Counter()
lock = threading.Lock()
def visitor():
    connection = http.client.HTTPConnection("frontend.bookshop", 8080, timeout=10)
    while time.monotonic() < deadline:
        try:
            connection.request("GET", "/books/1")
            response = connection.getresponse()
            response.read()
            outcome = str(response.status)
        except OSError as error:
            outcome = type(error).__name__
            connection.close()
        with lock:
            results[outcome] += 1
        time.sleep(0.05)
threads = [threading.Thread(target=visitor) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(results))
"""

VICTIMS = [
    ("linkerd", "destination", "weft-destination"),
    ("linkerd", "identity", "weft-identity"),
    ("linkerd", "proxy-injector", "weft-injector"),
    ("linkerd-viz", "metrics-api", "weft-metrics-api"),
    ("linkerd", "redis", "redis-server"),
]


@pytest.mark.parametrize(("namespace", "component", "program"), VICTIMS)
def test_a_killed_control_plane_part_fails_no_request_between_known_peers(
    mesh: Mesh, namespace: str, component: str, program: str
) -> None:
    pod = mesh.pod("bookshop", "traffic")
    answers: list[str] = []
    load = threading.Thread(
        target=lambda: answers.append(mesh.exec_in("bookshop", pod, "traffic", "python", "-c", LOAD, "12"))
    )
    load.start()
    victims = _processes(mesh, namespace, component, program)
    assert victims, f"no process of {component} found"
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    load.join()
    results: dict[str, Any] = json.loads(answers[0])
    assert set(results) == {"200"}, results
    assert results["200"] > 100
    eventually(lambda: _is_ready_again(mesh, namespace), within_s=90)


def test_check_warns_while_destination_cannot_follow_the_cluster(mesh: Mesh) -> None:
    (pid,) = _processes(mesh, "linkerd", "destination", "weft-destination")
    pod = mesh.pod("bookshop", "traffic")
    _assert_freshness(mesh, "success")
    with _no_api_server(pid):
        # What it then hears of last is an event that it cannot acknowledge.
        mesh.kubectl("annotate", "service", "-n", "bookshop", "catalog", "test.weft.io/seen=no", "--overwrite")
        eventually(lambda: _assert_freshness(mesh, "warning"), within_s=40)
        results = json.loads(mesh.exec_in("bookshop", pod, "traffic", "python", "-c", LOAD, "3"))
        assert set(results) == {"200"}, results
    eventually(lambda: _assert_freshness(mesh, "success"), within_s=60)
    mesh.kubectl("annotate", "service", "-n", "bookshop", "catalog", "test.weft.io/seen-")


def _assert_freshness(mesh: Mesh, wanted: str) -> None:
    # The command's own result is that of all checks, and some may warn of this machine.
    answer = json.loads(mesh.weft("check", "-o", "json", check=False).stdout)
    checks = [check for category in answer["categories"] for check in category["checks"]]
    found = [check["result"] for check in checks if check["description"] == "destination follows the cluster"]
    assert found == [wanted]


@contextlib.contextmanager
def _no_api_server(pid: int) -> Iterator[None]:
    """Every packet to the API server from that process's pod is answered with a reset."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    environ = dict(variable.split("=", 1) for variable in variables if "=" in variable)
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    rule = ["OUTPUT", "-p", "tcp", "-d", host, "--dport", port, "-j", "REJECT", "--reject-with", "tcp-reset"]
    iptables = ["nsenter", "-t", str(pid), "-n", "iptables", "-w"]
    subprocess.run([*iptables, "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run([*iptables, "-D", *rule], check=True)


def _processes(mesh: Mesh, namespace: str, component: str, program: str) -> list[int]:
    """Host pids of a component's own container: processes of that program in the pod's network namespace."""
    items = mesh.kubectl_json("get", "pods", "-n", namespace)["items"]
    ips = {item["status"]["podIP"] for item in items if component in item["metadata"]["name"]}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            argv = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            addresses = (process / "net/fib_trie").read_text()
        except OSError:
            continue
        if any(program in arg for arg in argv[:3]) and any(f" {ip}\n" in addresses for ip in ips):
            found.append(int(process.name))
    return found


def _is_ready_again(mesh: Mesh, namespace: str) -> None:
    for item in mesh.kubectl_json("get", "pods", "-n", namespace)["items"]:
        conditions = {c["type"]: c["status"] for c in item["status"].get("conditions", [])}
        assert conditions.get("Ready") == "True", item["metadata"]["name"]
