"""What the scenarios share: kubectl, objects that are taken away again, measurements from inside a workload, a verdict.

Standard library only. The cluster is that of $KUBECONFIG, else the running `weft local`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

KUBECTL_S: Final = 120
# How long a change may take to reach a proxy before a scenario gives up.
IN_FORCE_S: Final = 20


@dataclass(frozen=True, slots=True)
class Client:
    """Where a measurement is made from: the first container of a workload."""

    namespace: str
    workload: str


VISITOR: Final = Client("bookshop", "deploy/traffic")


@dataclass(frozen=True, slots=True)
class Answer:
    """As `bookshop.ask` tells it: seconds since 1970, milliseconds, status, version of who answered."""

    at: float
    ms: float
    status: int
    version: int | None = None


class Failed(Exception):
    """The scenario cannot go on. The text says why."""


@dataclass
class Scenario:
    """failed: what did not hold. applied: manifests to take away, in order of their making."""

    failed: list[str] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl. Raises Failed."""
        done = subprocess.run(
            ["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=KUBECTL_S, check=False
        )
        if done.returncode:
            raise Failed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, manifests: str) -> None:
        """Apply objects, which are deleted when the scenario ends."""
        self.applied.append(manifests)
        self.kubectl("apply", "-f", "-", stdin=manifests)

    def ready(self, namespace: str, workload: str) -> None:
        """Wait until a workload's pods are ready."""
        self.kubectl("rollout", "status", "-n", namespace, workload, f"--timeout={KUBECTL_S - 10}s")

    def start_asking(self, client: Client, url: str, **options: float) -> subprocess.Popen[str]:
        """Begin a measurement; `answers_of` its output ends it. options: those of `bookshop.ask`."""
        asked = [f"--{name}={value}" for name, value in options.items()]
        command = ("python", "-m", "bookshop.ask", url, *asked)
        return subprocess.Popen(
            ["kubectl", "exec", "-n", client.namespace, client.workload, "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, client: Client, url: str, **options: float) -> list[Answer]:
        """Measure from inside a workload."""
        return answers_of(self.start_asking(client, url, **options))

    def until(self, what: str, holds: Callable[[], bool]) -> float:
        """Seconds until it holds. Raises Failed after IN_FORCE_S."""
        start = time.monotonic()
        while not holds():
            if time.monotonic() - start > IN_FORCE_S:
                raise Failed(f"{what}: not within {IN_FORCE_S} s")
        return time.monotonic() - start

    def expect(self, holds: bool, text: str) -> None:
        """Print a measurement, and whether it is what it should be."""
        print(f"{'√' if holds else '×'} {text}", flush=True)
        if not holds:
            self.failed.append(text)

    def clean_up(self) -> None:
        """Take away everything that was applied."""
        for manifests in reversed(self.applied):
            self.kubectl("delete", "-f", "-", "--ignore-not-found", "--wait=true", stdin=manifests)


def answers_of(asking: subprocess.Popen[str]) -> list[Answer]:
    """Wait for a measurement to end. Raises Failed."""
    out, err = asking.communicate(timeout=KUBECTL_S)
    if asking.returncode:
        raise Failed(f"the measurement failed: {err.strip()}")
    return [Answer(**json.loads(line)) for line in out.splitlines()]


def statuses(answers: Iterable[Answer]) -> str:
    """Such as `200 ×1990, 500 ×10`."""
    counted: Counter[int] = Counter(answer.status for answer in answers)
    return ", ".join(f"{status} ×{count}" for status, count in sorted(counted.items())) or "no answers"


def share(answers: Sequence[Answer], chosen: Callable[[Answer], bool]) -> float:
    """Percent of the answers; 0 of none."""
    return 100 * sum(map(chosen, answers)) / len(answers) if answers else 0.0


def percentile(values: Iterable[float], percent: float) -> float:
    """The nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@contextmanager
def scenario(title: str) -> Iterator[Scenario]:
    """Run a scenario, take away what it applied, and exit: 0 when everything held, 1 otherwise."""
    _find_cluster()
    running = Scenario()
    print(title, flush=True)
    try:
        yield running
    except Failed as error:
        running.expect(False, str(error))
    finally:
        running.clean_up()
    sys.exit(1 if running.failed else 0)


def _find_cluster() -> None:
    if shutil.which("kubectl") is None:
        sys.exit("kubectl is not on PATH")
    if os.environ.get("KUBECONFIG"):
        return
    weft: Any = shutil.which("weft")
    if weft is not None:
        local = subprocess.run([weft, "local", "kubeconfig"], capture_output=True, text=True, check=False)
        if local.returncode == 0:
            os.environ["KUBECONFIG"] = local.stdout.strip()
