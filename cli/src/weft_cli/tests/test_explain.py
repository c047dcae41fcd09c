"""`weft explain` and `weft policy test` over a folder; a matcher stands in for the engine and takes the first rule."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from weft_cli.__main__ import main
from weft_cli.asking import mesh_from_values

MANIFESTS = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {linkerd.io/inject: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web}]}
"""
CASES = """\
cases:
  - name: a visitor reads
    request: GET http://web.shop/
    as: shop/visitor
    expect: {verdict: VERDICT, route: default http, backends: {"Service shop/web:80": 100}, by: default everyone}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def outbound_rule(*_: Any) -> tuple[int, int]:
        return 0, 0

    def reception(*_: Any) -> tuple[bool, None, tuple[str, str, str]]:
        return True, None, ("", "default", "everyone")

    engine = SimpleNamespace(outbound_rule=outbound_rule, reception=reception)
    monkeypatch.setitem(sys.modules, "weft_engine", engine)
    (tmp_path / "app.yaml").write_text(MANIFESTS)
    return tmp_path


def test_explanation_ends_with_its_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "GET", "http://web/", "--as", "shop/visitor", "-f", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "request   GET web/ as shop/visitor"
    assert "backend   100 % Service shop/web:80" in lines
    assert lines[-1] == "verdict   allowed"


def test_explanation_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "GET", "web.shop", "-f", str(folder), "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["backends"][0]["arrivals"][0]["by"]) == ("allowed", "default everyone")


@pytest.mark.parametrize(
    "arguments", [["web"], ["web.shop", "-H", "x"], ["web.shop", "--as", "visitor"], ["ftp://web.shop"]]
)
def test_what_cannot_be_meant_is_bad_input(folder: Path, arguments: list[str]) -> None:
    assert main(["explain", "GET", *arguments, "-f", str(folder)]) == 2


def test_cases_that_hold_pass(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cases"
    file.write_text(CASES.replace("VERDICT", "allowed"))
    assert main(["policy", "test", str(file), "-f", str(folder)]) == 0
    assert capsys.readouterr().out == "√ a visitor reads\n"


def test_case_that_differs_fails_and_shows_both_sides(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cases"
    file.write_text(CASES.replace("VERDICT", "denied"))
    assert main(["policy", "test", str(file), "-f", str(folder)]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["× a visitor reads", "    verdict: expected 'denied', found 'allowed'"]
    assert captured.err == "error: 1 of 1 cases failed\n"


def test_case_with_an_unknown_field_is_bad_input(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cases"
    file.write_text("cases: [{request: GET http://web.shop/, expects: {}}]")
    assert main(["policy", "test", str(file), "-f", str(folder)]) == 2
    assert "cases[0].expects: unknown field" in capsys.readouterr().err


PROFILE = """\
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web.shop.svc.cluster.local, namespace: shop}
spec:
  retryBudget: {retryRatio: 0.5, minRetriesPerSecond: 5, ttl: 20s}
  routes:
    - name: read a book
      condition: {method: GET, pathRegex: "/books/[0-9]+"}
      isRetryable: true
      timeout: 250ms
  dstOverrides:
    - {authority: web.shop.svc.cluster.local:80, weight: 3}
    - {authority: other.shop.svc.cluster.local:80, weight: 1}
"""
LIMIT = """\
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, port: 8080}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: gentle, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  total: {requestsPerSecond: 100}
  identity: {requestsPerSecond: 10}
"""


def test_a_service_profile_is_told_in_place_of_the_routes_it_replaces(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "profile.yaml").write_text(PROFILE)
    assert main(["explain", "GET", "http://web.shop/books/7?page=2", "--as", "shop/visitor", "-f", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "route     ServiceProfile shop/web.shop.svc.cluster.local, read a book\n" in out
    assert "timeouts  request 250 ms\n" in out
    assert "retries   failures, at most 50 % of requests and 5/s, over 20 s\n" in out
    assert "backend   75 % Service shop/web:80\n" in out
    assert "backend   25 % Service shop/other:80\n" in out
    assert main(["explain", "POST", "http://web.shop/books/7", "-f", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "no route of it\n" in out
    assert "timeouts" not in out


def test_a_rate_limit_is_told_beside_the_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "limit.yaml").write_text(LIMIT)
    assert main(["explain", "GET", "http://web.shop/", "--as", "shop/visitor", "-f", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "HTTPLocalRateLimitPolicy shop/gentle: 100/s in all, 10/s of each client; beyond it 429\n" in out
    assert out.splitlines()[-1].split() == ["verdict", "allowed"]


def test_settings_of_the_cluster_reach_the_answer() -> None:
    mesh = mesh_from_values({"policyController": {"probeNetworks": ["10.9.0.0/16"], "referenceGrants": "ignored"}})
    assert [str(network) for network in mesh.probe_networks] == ["10.9.0.0/16"]
    assert not mesh.requires_reference_grants
