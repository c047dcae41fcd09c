"""Names of network namespaces beside those of other programs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SCRIPT = """
import subprocess
from weft_local.node.network import NETNS_DIR, _create_netns, remove_netns, share_netns_dir, unshare_netns_dir

def binds():
    return sum(" /run/netns " in line for line in open("/proc/self/mountinfo"))


before = binds()
assert share_netns_dir()
assert not share_netns_dir(), "one bind is enough"
_create_netns("weft-test-pod")
subprocess.run(["ip", "netns", "add", "weft-test-other"], check=True)
remove_netns("weft-test-pod", None)
unshare_netns_dir()
assert [path.name for path in NETNS_DIR.iterdir()] == ["weft-test-other"], "another's name must stay"
subprocess.run(["ip", "netns", "del", "weft-test-other"], check=True)
unshare_netns_dir()
assert binds() == before
"""


def test_pod_can_be_removed_after_somebody_used_ip_netns() -> None:
    # In a mount namespace of its own, with a directory of its own in the place of /run.
    setup = "mount -t tmpfs none /run && exec "
    command = ["unshare", "--mount", "sh", "-c", setup + f'"{sys.executable}" -c "$0"', SCRIPT]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
