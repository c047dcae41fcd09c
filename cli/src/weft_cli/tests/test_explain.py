"""`weft explain` and `weft policy test` over a folder; a matcher stands in for the engine and takes the first rule."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from weft_cli.__main__ import main

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
