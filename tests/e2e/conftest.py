"""The whole demo, once per test session: control plane, Redis, bookshop, all as a user would bring them up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mesh:
    """A running cluster and the two programs people use on it."""

    kubeconfig: Path
    # What `weft stat deploy -n bookshop -o json` and `weft edges …` said at once after `up --wait`.
    first_stat: list[dict[str, Any]]
    first_edges: list[dict[str, Any]]

    def weft(self, *args: str, check: bool = True, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `weft` with the cluster's kubeconfig."""
        return run(str(BIN / "weft"), *args, check=check, timeout_s=timeout_s)

    def weft_json(self, *args: str) -> Any:
        """Run `weft … -o json`."""
        return json.loads(self.weft(*args, "-o", "json").stdout)

    def kubectl(self, *args: str, check: bool = True, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl."""
        kubectl = shutil.which("kubectl")
        assert kubectl, "kubectl is not on PATH"
        return run(kubectl, "--kubeconfig", str(self.kubeconfig), *args, check=check, timeout_s=timeout_s)

    def kubectl_json(self, *args: str) -> Any:
        """Run kubectl with -o json."""
        return json.loads(self.kubectl(*args, "-o", "json").stdout)

    def exec_in(self, namespace: str, pod: str, container: str, *argv: str) -> str:
        """Run a command in a container, as `weft local exec` does."""
        return self.weft("local", "exec", "-n", namespace, pod, "-c", container, "--", *argv).stdout

    def pod(self, namespace: str, app: str) -> str:
        """The first pod with label app=…"""
        items = self.kubectl_json("get", "pods", "-n", namespace, "-l", f"app={app}")["items"]
        return str(items[0]["metadata"]["name"])


def run(*argv: str, check: bool = True, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def eventually(probe: Callable[[], T], within_s: float = 60, every_s: float = 1.0) -> T:
    """The probe's first answer that does not fail an assertion. Raises the last AssertionError after within_s."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return probe()
        except AssertionError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(every_s)


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    assert os.geteuid() == 0, "network namespaces need root here"
    weft = str(BIN / "weft")
    up = run(
        weft,
        "local",
        "up",
        "-f",
        str(REPOSITORY / "examples/bookshop"),
        "--detach",
        "--wait",
        "120s",
        timeout_s=240,
        check=False,
    )
    try:
        assert up.returncode == 0, f"weft local up exited {up.returncode}\n{up.stdout}\n{up.stderr}"
        first = [
            json.loads(run(weft, kind, "deploy", "-n", "bookshop", "-o", "json").stdout) for kind in ("stat", "edges")
        ]
        yield Mesh(Path(run(weft, "local", "kubeconfig").stdout.strip()), *first)
    finally:
        down = run(weft, "local", "down", timeout_s=120, check=False)
        assert down.returncode == 0, f"weft local down exited {down.returncode}\n{down.stdout}\n{down.stderr}"
