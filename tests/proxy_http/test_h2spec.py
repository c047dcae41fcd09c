"""h2spec against both listeners: no case may fail. `scripts/h2spec` builds it, `make test` runs that before."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import policies, targets
from .namespace import INBOUND_GROUP, OUTBOUND_GROUP, POD
from .pod import Pod
from .servers import http2_app

BUILT = Path(__file__).parents[2] / "build" / "bin" / "h2spec"
H2SPEC = str(BUILT) if BUILT.exists() else shutil.which("h2spec") or ""
PORT = 8082
TALLY = re.compile(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed")

pytestmark = pytest.mark.skipif(not H2SPEC and "CI" not in os.environ, reason="h2spec is not built; run scripts/h2spec")


@pytest.fixture(scope="module", autouse=True)
def app(pod: Pod) -> Iterator[None]:
    pod.set_policy(PORT, policies.http2())
    pod.set_target(f"{POD}:{PORT}", targets.http2(POD, PORT))
    with http2_app(PORT):
        yield


@pytest.mark.parametrize("group", [INBOUND_GROUP, OUTBOUND_GROUP], ids=["inbound", "outbound"])
def test_no_case_of_h2spec_fails(group: int) -> None:
    done = subprocess.run(
        [H2SPEC, "--host", POD, "--port", str(PORT), "--timeout", "4"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
        group=group,
    )
    tally = TALLY.search(done.stdout)
    assert tally, done.stdout + done.stderr
    total, _, _, failed = map(int, tally.groups())
    assert failed == 0, done.stdout[done.stdout.find("Failures:") :]
    assert total > 140
