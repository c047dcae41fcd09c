from __future__ import annotations

from pathlib import Path

import pytest
from weft_local.manifests.checks import (
    duplicates,
    in_apply_order,
    pod_spec_of,
    problems_from_status,
    unknown_kinds,
)
from weft_local.manifests.loader import load
from weft_local.manifests.model import parse_field

DEPLOYMENT = """\
# the shop
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
spec:
  template:
    spec:
      containers:
        - name: a
          image: one
        - name: b
          imgae: two
---
apiVersion: v1
kind: Namespace
metadata:
  name: shop
"""


def test_every_field_knows_its_line(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(DEPLOYMENT)
    deployment, namespace = load([file]).manifests
    assert deployment.line_of(parse_field("spec.template.spec.containers[1].imgae")) == 13
    assert deployment.line_of(parse_field("spec.template.spec.containers[1].absent")) == 12
    assert namespace.line_of(()) == 15
    assert deployment.obj["spec"]["template"]["spec"]["containers"][0] == {"name": "a", "image": "one"}


def test_folders_are_read_in_order_and_hidden_files_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
    (tmp_path / "b.yaml").write_text(one % "b")
    (tmp_path / "sub" / "c.yml").write_text(one % "c")
    (tmp_path / ".git" / "x.yaml").write_text(one % "x")
    (tmp_path / "a.json").write_text('{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}')
    assert [manifest.name for manifest in load([tmp_path]).manifests] == ["a", "b", "c"]


def test_lists_give_their_items(tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    file.write_text("apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata:\n    name: s\n")
    (secret,) = load([file]).manifests
    assert (secret.kind, secret.line_of(())) == ("Secret", 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\n", "2: not valid YAML"),
        ("- 1\n", "1: not a Kubernetes object"),
        ("kind: Pod\n", "1: apiVersion is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\n", "3: metadata.name: Required value"),
        ("apiVersion: v1\nkind: Pod\nkind: Pod\n", "3: not valid YAML"),
    ],
)
def test_what_cannot_be_read_is_reported_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    (problem,) = load([file]).problems
    assert f"{file}:{expected}" in str(problem)


def test_a_missing_path_and_an_empty_folder_are_problems(tmp_path: Path) -> None:
    problems = load([tmp_path / "nowhere", tmp_path]).problems
    assert [problem.what for problem in problems] == [
        "no such file or folder",
        "the folder holds no .yaml, .yml or .json file",
    ]


def test_unknown_kinds_suggest_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "kinds.yaml"
    file.write_text(
        "apiVersion: apps/v1\nkind: Deploymnet\nmetadata: {name: a}\n---\n"
        "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: b}\n"
    )
    found = unknown_kinds(load([file]).manifests, [("apps/v1", "Deployment"), ("v1", "Pod")])
    assert [str(problem).partition("kinds.yaml:")[2] for problem in found] == [
        '2: kind: unknown kind "Deploymnet" in apps/v1; did you mean Deployment?',
        '5: apiVersion: no kind "Deployment" in apps/v1beta1; use apps/v1',
    ]


def test_the_same_object_twice_is_reported_at_the_second(tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    one = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n"
    file.write_text(f"{one}---\n{one}")
    (problem,) = duplicates(load([file]).manifests)
    assert problem.line == 9


def test_namespaces_come_before_what_lives_in_them(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(DEPLOYMENT)
    manifests = in_apply_order(load([file]).manifests)
    assert [manifest.kind for manifest in manifests] == ["Namespace", "Deployment"]
    path, spec = pod_spec_of(manifests[1]) or ("", {})
    assert path == "spec.template.spec"
    assert len(spec["containers"]) == 2


def test_a_server_refusal_points_into_the_file(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(DEPLOYMENT)
    manifest = load([file]).manifests[0]
    field = "spec.template.spec.containers[1].imgae"
    cause = {"field": field, "reason": "FieldValueNotSupported", "message": "unknown field"}
    (problem,) = problems_from_status(manifest, {"details": {"causes": [cause]}})
    assert str(problem) == f"{file}:13: {field}: unknown field; remove it, or correct its spelling and indentation"
    (whole,) = problems_from_status(manifest, {"message": "denied by policy"})
    assert str(whole) == f"{file}:2: denied by policy"
