"""A whole cluster of somebody's: the mesh installed in it chart by chart, the bookshop meshed, all gone at the end.

Run by `make test-cluster KUBECONFIG=…`, which builds the images and loads them first; never part of `make test`. Knows
of the cluster only what kubectl, helm and weft are told by its kubeconfig.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import yaml
from weft_local.cluster import pki

REPOSITORY: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent
CHARTS: Final = (
    "weft-crds",
    "weft-identity",
    "weft-destination",
    "weft-injector",
    "weft-redis",
    "weft-metrics-api",
    "weft-web",
)
READY_S: Final = 300
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The programs people use, told which cluster. installed_s: from the first chart to every service ready."""

    kubeconfig: str
    installed_s: float

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Standard output."""
        return run("kubectl", "--kubeconfig", self.kubeconfig, *words, stdin=stdin, check=check)

    def get(self, *words: str) -> Any:
        """`kubectl get … -o json`, parsed."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def helm(self, *words: str) -> str:
        """Standard output."""
        return run(str(BIN / "helm"), "--kubeconfig", self.kubeconfig, *words)

    def weft(self, *words: str) -> str:
        """Standard output."""
        return run(str(BIN / "weft"), *words, "--kubeconfig", self.kubeconfig)


def run(
    *argv: str,
    stdin: str | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Standard output. Raises AssertionError with what the program said."""
    done = subprocess.run(
        argv, input=stdin, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=READY_S + 60
    )
    assert done.returncode == 0 or not check, (
        f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def eventually(look: Callable[[], T], timeout_s: float = 90) -> T:
    """The first true thing that `look` returns. Its last failure is raised when the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if found := look():
                return found
            problem = AssertionError(f"{look.__name__} found nothing in {timeout_s} s")
        except AssertionError as error:
            problem = error
        if time.monotonic() > deadline:
            raise problem
        time.sleep(1)


def _values(cluster: Cluster, folder: Path) -> Path:
    """A new trust anchor and issuer, or those of the run that was told to KEEP what it made."""
    path = folder / "values.yaml"
    if "weft-identity" in cluster.helm("list", "--namespace", "linkerd", "--short").split():
        path.write_text(cluster.helm("get", "values", "weft-identity", "--namespace", "linkerd", "-o", "yaml"))
        return path
    now = datetime.now(UTC)
    anchor = pki.certificate_authority("root.linkerd.cluster.local", now)
    issuer = pki.certificate_authority("identity.linkerd.cluster.local", now, anchor)
    values = {
        "identityTrustAnchorsPEM": anchor.certificate_pem,
        "identity": {"issuer": {"tls": {"crtPEM": issuer.certificate_pem, "keyPEM": issuer.key_pem}}},
    }
    path.write_text(yaml.safe_dump({"global": values}))
    return path


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The mesh, installed. Afterwards it is uninstalled, and whatever is left of it fails the run."""
    kubeconfig = os.environ.get("WEFT_TEST_CLUSTER")
    if not kubeconfig:
        pytest.skip("no cluster: make test-cluster KUBECONFIG=…")
    bare = Cluster(kubeconfig, 0)
    values = _values(bare, tmp_path_factory.mktemp("mesh"))
    began = time.monotonic()
    try:
        for chart in CHARTS:
            place = "linkerd-viz" if chart in ("weft-metrics-api", "weft-web") else "linkerd"
            target = ["--namespace", place, "--create-namespace", "--values", str(values)]
            bare.helm("upgrade", "--install", chart, str(REPOSITORY / "charts" / chart), *target)
        for namespace in ("linkerd", "linkerd-viz"):
            bare.kubectl(
                "wait", "deployment", "--all", "-n", namespace, "--for=condition=Available", f"--timeout={READY_S}s"
            )
        yield Cluster(kubeconfig, time.monotonic() - began)
    finally:
        if os.environ.get("KEEP") != "1":
            _uninstall(bare)


def _uninstall(cluster: Cluster) -> None:
    cluster.kubectl("delete", "namespace", "bookshop", "legacy", "--ignore-not-found", "--timeout=120s")
    for release in json.loads(cluster.helm("list", "--all-namespaces", "-o", "json")):
        if release["name"] in CHARTS:
            cluster.helm(
                "uninstall", release["name"], "--namespace", release["namespace"], "--wait", "--timeout", "120s"
            )
    left = cluster.kubectl(
        "get",
        "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings",
        "-o",
        "name",
    )
    assert not [name for name in left.split() if re.search(r"linkerd|weft", name)], left
    for namespace in ("linkerd", "linkerd-viz"):
        cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s")


@pytest.fixture(scope="session")
def bookshop(cluster: Cluster) -> Cluster:
    """With the bookshop, every Deployment of it available."""
    cluster.kubectl("apply", "-f", str(REPOSITORY / "examples" / "bookshop" / "manifests" / "namespaces.yaml"))
    cluster.kubectl("apply", "-f", str(REPOSITORY / "examples" / "bookshop" / "manifests"))
    for namespace in ("bookshop", "legacy"):
        cluster.kubectl(
            "wait", "deployment", "--all", "-n", namespace, "--for=condition=Available", f"--timeout={READY_S}s"
        )
    return cluster


@pytest.fixture(scope="session")
def api_addr(bookshop: Cluster) -> Iterator[str]:
    """Address of metrics-api, forwarded, as a cluster's own addresses may not be reachable from here."""
    words = ["-n", "linkerd-viz", "port-forward", "service/metrics-api", ":8085"]
    forward = subprocess.Popen(
        ["kubectl", "--kubeconfig", bookshop.kubeconfig, *words], stdout=subprocess.PIPE, text=True
    )
    try:
        assert forward.stdout is not None
        said = forward.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", said)
        assert found, said
        yield f"localhost:{found[1]}"
    finally:
        forward.terminate()
        forward.wait(10)
        forward.stdout.close()
