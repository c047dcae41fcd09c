"""`weft inject` and `weft uninject` as people run them: files in, YAML out, a report beside it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import yaml

from weft_cli.__main__ import main

MANIFESTS = """\
# The shop.
apiVersion: v1
kind: Namespace
metadata:
  name: shop
---
apiVersion: v1
kind: Service
metadata:
  name: price
spec:
  ports:
  - port: 80   # plain
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: price # keep me
spec:
  template:
    metadata:
      labels: {app: price}
    spec:
      containers:
      - name: price
        image: "shop/price"
        ports: [{containerPort: 80}]
---
kind: List
items:
- kind: CronJob
  metadata: {name: nightly}
  spec:
    jobTemplate:
      spec:
        template:
          spec:
            hostNetwork: true
            containers: [{name: c, image: i, ports: [{containerPort: 53, protocol: UDP}]}]
"""


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    path = tmp_path / "app.yaml"
    path.write_text(MANIFESTS)
    (tmp_path / "ca.crt").write_text("PEM\n")
    return path


def test_annotation_is_added_and_everything_else_stays(manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inject", "--admin-port", "9000", str(manifests)]) == 0
    out, err = capsys.readouterr()
    added = {
        "  annotations:",
        "    linkerd.io/inject: enabled",
        "    config.linkerd.io/admin-port: '9000'",
        "      annotations:",
        "        linkerd.io/inject: enabled",
        "        config.linkerd.io/admin-port: '9000'",
    }
    assert [line for line in out.splitlines() if line not in added] == MANIFESTS.splitlines()
    assert err.splitlines() == [
        "",
        "‼ hostNetwork: pods use the host's network, where the proxy cannot stand in between: cronjob/nightly",
        "‼ udp: ports that the proxy leaves alone, because they are UDP: cronjob/nightly",
        'namespace "shop" annotated',
        'service "price" skipped',
        'deployment "price" injected',
        'cronjob "nightly" skipped',
        "",
    ]


def test_manual_injection_adds_the_proxy_and_uninject_restores_the_file(
    manifests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchors = str(manifests.with_name("ca.crt"))
    manual = ["inject", "--manual", "--ignore-cluster", "--identity-trust-anchors-file", anchors, str(manifests)]
    assert main(manual) == 0
    injected, _ = capsys.readouterr()
    deployment = next(d for d in yaml.safe_load_all(injected) if d["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    assert [c["name"] for c in template["spec"]["initContainers"]] == ["linkerd-init", "linkerd-proxy"]
    assert template["metadata"]["labels"]["linkerd.io/proxy-deployment"] == "price"
    manifests.write_text(injected)
    assert main(manual) == 0
    again, _ = capsys.readouterr()
    assert list(yaml.safe_load_all(again)) == list(yaml.safe_load_all(injected))
    assert main(["uninject", str(manifests)]) == 0
    restored, report = capsys.readouterr()
    assert restored == MANIFESTS
    assert 'deployment "price" uninjected' in report


def test_manifest_of_a_cron_job_names_it_on_its_pods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ca.crt").write_text("PEM")
    path = tmp_path / "nightly.yaml"
    path.write_text(
        "kind: CronJob\nmetadata: {name: nightly}\n"
        "spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}\n"
    )
    anchors = str(tmp_path / "ca.crt")
    assert main(["inject", "--manual", "--ignore-cluster", "--identity-trust-anchors-file", anchors, str(path)]) == 0
    template = yaml.safe_load(capsys.readouterr().out)["spec"]["jobTemplate"]["spec"]["template"]
    assert template["metadata"]["labels"]["linkerd.io/proxy-cronjob"] == "nightly"


def test_document_that_cannot_be_transformed_is_named_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("kind: Deployment\nspec: 1\n---\n- 1\n"))
    assert main(["inject", "-"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "× standard input, document 1: spec: expected an object, found int" in err
    assert "× standard input, document 2: expected an object, found a list" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{app}", "--default-inbound-policy", "open"], "default-inbound-policy='open': expected one of"),
        (["{app}", "--skip-inbound-ports", "9-8"], "skip-inbound-ports='9-8': expected a range"),
        (["{app}", "--manual", "--ignore-cluster"], "--identity-trust-anchors-file"),
        (["{app}.gone"], "no such file or folder"),
    ],
)
def test_bad_input_exits_2_and_says_what_was_expected(
    manifests: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["inject", *(argument.format(app=manifests) for argument in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_folder_is_read_in_order(manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (manifests.parent / "b.yml").write_text("kind: Pod\nmetadata: {name: b}\nspec: {containers: []}\n")
    assert main(["inject", str(manifests.parent)]) == 0
    out, _ = capsys.readouterr()
    kinds = [document["kind"] for document in yaml.safe_load_all(out)]
    assert kinds == ["Namespace", "Service", "Deployment", "List", "Pod"]
