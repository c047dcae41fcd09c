"""What `tilt up` runs in pods and on the way of images into a cluster, without tilt and without a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
RESTART = (REPOSITORY / "scripts/tilt/restart").read_text()
# Blocked, a signal that comes at any moment is still there to be waited for.
PROGRAM = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("started", flush=True)
signal.sigwait([signal.SIGTERM])
sys.exit(7)
"""


@pytest.fixture
def restarted() -> Iterator[subprocess.Popen[str]]:
    """PROGRAM as a pod runs it; it has started."""
    # A shell cannot trap what was ignored when it started, and under nohup that is SIGHUP.
    argv = ["env", "--default-signal=HUP", "sh", "-c", RESTART, "restart", "", sys.executable, "-c", PROGRAM]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
        process.kill()


def test_program_starts_again_after_a_live_update(restarted: subprocess.Popen[str]) -> None:
    assert restarted.stdout is not None
    for _ in range(3):
        restarted.send_signal(signal.SIGHUP)
        assert restarted.stdout.readline() == "started\n"
    restarted.terminate()
    restarted.wait(10)


def test_program_ends_its_pod_with_its_own_code(restarted: subprocess.Popen[str]) -> None:
    restarted.terminate()
    assert restarted.wait(10) == 7


@pytest.mark.parametrize(
    ("context", "load", "expected"),
    [
        ("kind-shop", None, "kind load image-archive --name shop a.tar\nkind load image-archive --name shop b.tar\n"),
        ("minikube", None, "minikube image load a.tar\nminikube image load b.tar\n"),
        ("prod", "ship --to prod", "ship --to prod a.tar\nship --to prod b.tar\n"),
    ],
)
def test_archives_reach_the_cluster_by_its_own_command(
    tmp_path: Path, context: str, load: str | None, expected: str
) -> None:
    done = load_images(tmp_path, context, {"LOAD": load} if load else {}, "a.tar", "b.tar")
    assert (done.returncode, done.stdout) == (0, expected)


def test_cluster_that_cannot_be_loaded_is_named_before_anything_is_built(tmp_path: Path) -> None:
    done = load_images(tmp_path, "prod", {})
    assert done.returncode == 2
    assert "how does prod get images? Set LOAD=" in done.stderr


def load_images(
    folder: Path, context: str, environ: dict[str, str], *archives: str
) -> subprocess.CompletedProcess[str]:
    """scripts/load-images where every program only says how it was called, and kubectl the context."""
    for name in ("kind", "minikube", "ship"):
        (folder / name).write_text('#!/bin/sh\necho "$(basename "$0") $*"\n')
    (folder / "kubectl").write_text(f"#!/bin/sh\necho {context}\n")
    for program in folder.iterdir():
        program.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name != "LOAD"}
    return subprocess.run(
        [str(REPOSITORY / "scripts/load-images"), *archives],
        env={**inherited, "PATH": f"{folder}:{os.environ['PATH']}", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
