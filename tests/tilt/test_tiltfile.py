"""The Tiltfile under a real tilt, where one is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TILT = shutil.which("tilt")


@pytest.mark.root
@pytest.mark.e2e
@pytest.mark.timeout(420)  # beyond tilt's own: it ends what it started
@pytest.mark.skipif(TILT is None, reason="tilt is not on PATH")
def test_everything_becomes_ready_on_this_machine() -> None:
    assert TILT is not None
    try:
        done = subprocess.run(
            [TILT, "ci", "--port", "0", "--timeout", "5m", "--", "--local"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=360,
        )
    finally:
        weft = str(REPOSITORY / ".venv/bin/weft")
        subprocess.run([weft, "local", "down", "--name", "tilt"], cwd=REPOSITORY, check=False, capture_output=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
