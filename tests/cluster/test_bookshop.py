"""The bookshop in real pods under a real kubelet."""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import BIN, READY_S, REPOSITORY, Cluster, eventually, run

POLICY = """
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: orders, namespace: bookshop}
spec:
  podSelector: {matchLabels: {app: orders}}
  port: http2
  accessPolicy: deny
"""
DEBUGGED = """
apiVersion: v1
kind: Pod
metadata:
  name: debugged
  namespace: bookshop
  annotations: {config.linkerd.io/enable-debug-sidecar: "true"}
spec:
  containers:
    - name: reviews
      image: weft/bookshop:0.1.0
      command: [python, -m, bookshop.reviews]
      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 2}
"""
ALONE = """
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec:
  containers: [{name: alone, image: "weft/bookshop:0.1.0", command: [sleep, infinity]}]
"""
INJECTOR = "linkerd.io/control-plane-component=proxy-injector"
SPLIT = """
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: reviews-all-v2, namespace: bookshop}
spec:
  parentRefs: [{group: core, kind: Service, name: reviews, port: 8080}]
  rules:
    - filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: {add: [{name: x-route, value: split}]}
      backendRefs: [{name: reviews, port: 8080}]
"""


def test_charts_are_ready_within_a_minute(cluster: Cluster) -> None:
    assert cluster.installed_s < 60


def test_every_pod_of_the_shop_has_a_proxy_and_the_others_none(bookshop: Cluster) -> None:
    for pod in bookshop.get("pods", "-n", "bookshop")["items"]:
        initial = [c["name"] for c in pod["spec"]["initContainers"]]
        assert initial[:2] == ["linkerd-init", "linkerd-proxy"], pod["metadata"]["name"]
        assert pod["metadata"]["labels"]["linkerd.io/control-plane-ns"] == "linkerd"
    for pod in bookshop.get("pods", "-n", "legacy")["items"]:
        assert "initContainers" not in pod["spec"]


def test_deployment_tells_of_its_injection(bookshop: Cluster) -> None:
    events = bookshop.get("events", "-n", "bookshop", "--field-selector", "reason=Injected")["items"]
    assert "Deployment/orders" in {f"{e['involvedObject']['kind']}/{e['involvedObject']['name']}" for e in events}


def test_check_finds_nothing_wrong(bookshop: Cluster, api_addr: str) -> None:
    report = json.loads(bookshop.weft("check", "--proxy", "--wait", "2m", "-o", "json", "--api-addr", api_addr))
    assert report["success"], report


def test_traffic_of_every_workload_succeeds(bookshop: Cluster, api_addr: str) -> None:
    def all_succeed() -> bool:
        rows = json.loads(bookshop.weft("stat", "deploy", "-n", "bookshop", "-o", "json", "--api-addr", api_addr))
        served = {row["name"]: row for row in rows if row["rps"]}
        return {"frontend", "catalog", "orders", "reviews-v1", "reviews-v2"} <= served.keys() and all(
            row["success_rate"] == 1 for row in served.values()
        )

    assert eventually(all_succeed)


def test_edges_inside_the_shop_are_secured_and_the_stranger_s_is_not(bookshop: Cluster, api_addr: str) -> None:
    def edges() -> list[dict[str, object]]:
        rows = json.loads(bookshop.weft("edges", "deploy", "-n", "bookshop", "-o", "json", "--api-addr", api_addr))
        return [row for row in rows if row["dst_namespace"] == "bookshop"]

    found = eventually(edges)
    inside = [row for row in found if row["src_namespace"] == "bookshop"]
    assert inside
    assert all(row["secured"] for row in inside), inside
    assert not any(row["secured"] for row in found if row["src_namespace"] == "legacy")


def test_denied_server_refuses_its_callers_until_the_policy_goes(bookshop: Cluster) -> None:
    pod = bookshop.get("pods", "-n", "bookshop", "-l", "app=traffic")["items"][0]["metadata"]["name"]
    # Not a path of a probe: those stay open to the kubelet.
    ask = "import httpx; print(httpx.get('http://orders:8080/orders').status_code)"

    def status() -> str:
        return bookshop.kubectl("exec", "-n", "bookshop", pod, "-c", "traffic", "--", "python", "-c", ask).strip()

    assert eventually(lambda: status() == "200")
    bookshop.kubectl("apply", "-f", "-", stdin=POLICY)
    try:
        assert eventually(lambda: status() == "403")
    finally:
        bookshop.kubectl("delete", "-f", "-", stdin=POLICY)
    assert eventually(lambda: status() == "200")


def test_route_of_a_service_changes_its_answers(bookshop: Cluster) -> None:
    pod = bookshop.get("pods", "-n", "bookshop", "-l", "app=traffic")["items"][0]["metadata"]["name"]
    ask = "import httpx; print(httpx.get('http://reviews:8080/healthz').headers.get('x-route'))"

    def header() -> str:
        return bookshop.kubectl("exec", "-n", "bookshop", pod, "-c", "traffic", "--", "python", "-c", ask).strip()

    bookshop.kubectl("apply", "-f", "-", stdin=SPLIT)
    try:
        assert eventually(lambda: header() == "split")
        name = yaml.safe_load(SPLIT)["metadata"]["name"]
        route = bookshop.get("httproutes.policy.linkerd.io", name, "-n", "bookshop")
        conditions = {c["type"]: c["status"] for p in route["status"]["parents"] for c in p["conditions"]}
        assert conditions == {"Accepted": "True", "ResolvedRefs": "True"}
    finally:
        bookshop.kubectl("delete", "-f", "-", stdin=SPLIT)


def test_debug_container_sees_the_requests_of_its_pod(bookshop: Cluster) -> None:
    kubectl = functools.partial(bookshop.kubectl, "-n", "bookshop")
    kubectl("apply", "-f", "-", stdin=DEBUGGED)
    try:
        kubectl("wait", "pod/debugged", "--for=condition=Ready", "--timeout=120s")
        dump = ["timeout", "60", "tcpdump", "-i", "lo", "-A", "-c", "1", "-l", "dst port 8080 and tcp[13] & 8 != 0"]
        seen = kubectl("exec", "debugged", "-c", "linkerd-debug", "--", *dump)
        assert "GET /healthz" in seen
    finally:
        kubectl("delete", "-f", "-", stdin=DEBUGGED)


def test_injector_that_is_away_blocks_nothing(bookshop: Cluster) -> None:
    injector = ["deployment/linkerd-proxy-injector", "-n", "linkerd"]
    bookshop.kubectl("scale", *injector, "--replicas=0")
    bookshop.kubectl("wait", "pod", "-n", "linkerd", "-l", INJECTOR, "--for=delete", "--timeout=60s")
    try:
        bookshop.kubectl("apply", "-n", "bookshop", "-f", "-", stdin=ALONE)
        assert "initContainers" not in bookshop.get("pod", "alone", "-n", "bookshop")["spec"]
        bookshop.kubectl("delete", "-n", "bookshop", "-f", "-", stdin=ALONE)
    finally:
        bookshop.kubectl("scale", *injector, "--replicas=1")
        bookshop.kubectl("rollout", "status", *injector, f"--timeout={READY_S}s")


@pytest.mark.parametrize("name", ["traffic-split", "retries", "timeouts", "deny-by-default"])
def test_scenario_happens(bookshop: Cluster, name: str) -> None:
    environment = {**os.environ, "KUBECONFIG": bookshop.kubeconfig, "PATH": f"{BIN}:{os.environ['PATH']}"}
    run(str(REPOSITORY / "examples/bookshop/scenarios" / name), env=environment)


# A new issuer alone would take the anchor's key, which is not in the cluster.
@pytest.mark.parametrize("name", ["rotate-abort", "rotate-anchor"])
def test_certificates_are_replaced_and_no_request_fails(bookshop: Cluster, tmp_path: Path, name: str) -> None:
    environment = {**os.environ, "KUBECONFIG": bookshop.kubeconfig, "RATE": "50", "TARGET": "/healthz"}
    scenario = REPOSITORY / "examples/bookshop/scenarios" / name
    run(sys.executable, str(scenario), env=environment, cwd=tmp_path)


@pytest.mark.parametrize("component", ["linkerd-identity", "linkerd-destination", "linkerd-proxy-injector"])
def test_nothing_the_control_plane_did_was_forbidden(bookshop: Cluster, component: str) -> None:
    logs = bookshop.kubectl("logs", "-n", "linkerd", f"deployment/{component}", "--all-containers", "--tail=-1")
    assert "forbidden" not in logs.lower()
