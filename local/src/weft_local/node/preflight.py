"""Can pods run on this machine? Checked before anything is started; each answer is a paragraph for a person."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

_SYS_ADMIN, _NET_ADMIN = 21, 12
_PROGRAMS: Final = {"nft": "nftables", "iptables": "iptables"}


def preflight() -> list[str]:
    """Reasons why pods cannot run here; empty when they can."""
    if not sys.platform.startswith("linux"):
        return [
            f"weft local runs pods in Linux network namespaces, and this is {sys.platform}. Run it in a Linux virtual "
            "machine, or use a Kubernetes cluster and `weft install`."
        ]
    problems = []
    if missing := _missing_rights():
        problems.append(
            f"weft local needs the rights of root to make network namespaces and mounts; {missing} is missing. Run it "
            "with sudo, or in a container started with --privileged."
        )
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        problems.append(
            "The kernel has no overlay filesystem, which gives every container its private files. Load it with "
            "`modprobe overlay`."
        )
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            problems.append(
                f"The program `{program}` is not installed. It carries the cluster's addresses and the mesh's "
                f"redirection. Install the package {package}, for example with `apt-get install {package}`."
            )
    if not Path("/proc/self/ns/net").exists():
        problems.append("The kernel has no network namespaces (CONFIG_NET_NS), without which pods cannot be separated.")
    return problems


def _missing_rights() -> str:
    if os.geteuid() != 0:
        return "user id 0"
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next((int(line.split()[1], 16) for line in status if line.startswith("CapEff:")), 0)
    names = {_SYS_ADMIN: "CAP_SYS_ADMIN", _NET_ADMIN: "CAP_NET_ADMIN"}
    return ", ".join(name for number, name in names.items() if not effective >> number & 1)
