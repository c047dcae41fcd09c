"""`weft validate` as a person runs it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from weft_cli.__main__ import main

GOOD = """\
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  port: http
"""
BAD = GOOD.replace("port: http", "port: 0")


def test_good_manifests_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(f"{GOOD}---\napiVersion: v1\nkind: Service\nmetadata: {{name: x}}\n")
    assert main(["validate", str(tmp_path)]) == 0
    assert "1 objects of policy and routes are valid; 1 other objects" in capsys.readouterr().out


def test_bad_manifest_is_bad_input_told_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(BAD)
    assert main(["validate", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{file}:6: spec.port: ")
    assert captured.err == "error: 1 problem found\n"


def test_standard_input_and_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(BAD))
    assert main(["validate", "-", "-o", "json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)
    assert (problem["file"], problem["line"], problem["field"]) == ("-", 6, "spec.port")


def test_unreadable_file_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tmp_path / "none.yaml")]) == 2
    assert "no such file or folder" in capsys.readouterr().out
