"""A pod injected in ingress mode: each request goes to the Service that its header names, whatever was dialled."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from .conftest import Mesh, eventually

pytestmark = pytest.mark.e2e

# Who it is: the policies of the bookshop admit traffic to frontend.
GATE = """
apiVersion: v1
kind: Pod
metadata:
  name: gate
  namespace: bookshop
  labels: {app: gate}
  annotations: {linkerd.io/inject: ingress}
spec:
  serviceAccountName: traffic
  containers:
    - name: gate
      image: weft/bookshop:0.1.0
      command: [python, -c, "import threading; threading.Event().wait()"]
"""
# Prints the status and the body's first line of GET / at an address, with or without the header.
ASK = """
import sys, urllib.error, urllib.request
url, override = sys.argv[1:]
headers = {"l5d-dst-override": override} if override else {}
try:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        print(answer.status, answer.read(40).decode())
except urllib.error.HTTPError as error:
    print(error.code, error.headers.get("l5d-proxy-error"))
"""
FRONTEND = "frontend.bookshop.svc.cluster.local:8080"
LATE = "late.bookshop.svc.cluster.local:8080"
LATE_SERVICE = """
apiVersion: v1
kind: Service
metadata:
  name: late
  namespace: bookshop
spec:
  selector: {app: frontend}
  ports: [{name: http, port: 8080}]
"""


def found(answer: str) -> None:
    assert answer.startswith("200 <!doctype html>")


def test_a_request_goes_to_the_service_it_names_over_mutual_tls(mesh: Mesh, tmp_path: Path) -> None:
    manifest = tmp_path / "gate.yaml"
    manifest.write_text(GATE)
    mesh.kubectl("apply", "-f", str(manifest))
    try:
        mesh.kubectl("wait", "-n", "bookshop", "pod/gate", "--for=condition=Ready", "--timeout=60s", timeout_s=90)
        reviews = mesh.kubectl_json("get", "service", "-n", "bookshop", "reviews")["spec"]["clusterIP"]

        def ask(override: str) -> str:
            url = f"http://{reviews}:8080/"
            return mesh.exec_in("bookshop", "gate", "gate", "python", "-c", ASK, url, override).strip()

        assert ask("").startswith("404 "), "reviews has no such page"
        found(ask(FRONTEND))
        # Informational headers are off in ingress mode.
        assert ask("nobody.example:8080") == "502 None"
        assert ask(LATE) == "502 None"
        service = tmp_path / "late.yaml"
        service.write_text(LATE_SERVICE)
        mesh.kubectl("apply", "-f", str(service))
        eventually(lambda: found(ask(LATE)), within_s=30)
        mesh.kubectl("delete", "-f", str(service))
        where = mesh.kubectl_json("get", "-n", "bookshop", "pod/gate")["status"]["podIP"]
        with urllib.request.urlopen(f"http://{where}:4191/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        carried = [line for line in lines if line.startswith("request_total") and f'authority="{FRONTEND}"' in line]
        assert carried
        identity = "frontend.bookshop.serviceaccount.identity.linkerd.cluster.local"
        assert all(f'server_id="{identity}"' in line for line in carried)
    finally:
        mesh.kubectl("delete", "-n", "bookshop", "pod/gate", "--wait=true", timeout_s=90)
