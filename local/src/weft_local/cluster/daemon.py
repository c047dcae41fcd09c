"""The cluster's own process: started by `up`, ended by SIGTERM. Reads its order from a file and logs to its output.

`python -m weft_local.cluster.daemon STATE_DIR/order.json`
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from weft_common.log import configure_logging
from weft_common.tasks import run_service

from weft_local.cluster.kubeconfig import write_private
from weft_local.cluster.state import DEFAULT_NAME, StateDir
from weft_local.cluster.supervisor import run_cluster
from weft_local.node.settings import DEFAULT_POD_CIDR, DEFAULT_SERVICE_CIDR, NodeSettings

_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. entrypoints: image to command. manifests: for `status` only. parent: end with this pid; 0 never."""

    name: str
    state_dir: str
    working_dir: str
    entrypoints: dict[str, list[str]]
    manifests: list[str]
    parent: int

    def write(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Order:
        return cls(**json.loads(path.read_text()))

    def settings(self) -> NodeSettings:
        """The cluster's addresses and places."""
        pods, services = networks(self.name)
        return NodeSettings(
            name=self.name,
            state_dir=Path(self.state_dir),
            pod_cidr=pods,
            service_cidr=services,
            working_dir=Path(self.working_dir),
            entrypoints={name: tuple(words) for name, words in self.entrypoints.items()},
        )


def networks(name: str) -> tuple[IPv4Network, IPv4Network]:
    """Networks of pods and of services. Clusters of different names, side by side, hardly ever share them."""
    if name == DEFAULT_NAME:
        return DEFAULT_POD_CIDR, DEFAULT_SERVICE_CIDR
    slot = 128 + 2 * (hashlib.sha256(name.encode()).digest()[0] % 60)
    return IPv4Network(f"10.{slot}.0.0/16"), IPv4Network(f"10.{slot + 1}.0.0/16")


def main(argv: list[str]) -> int:
    """Exit code 0 after an ordinary end."""
    order = Order.read(Path(argv[1]))
    configure_logging("info", "console")
    if order.parent:
        _end_with(order.parent)
    state = StateDir(order.name, Path(order.state_dir))

    async def run(stop: asyncio.Event) -> None:
        await run_cluster(order.settings(), state, tuple(order.manifests), stop)

    return run_service(run)


def _end_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent goes, however it goes."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        # It went before the kernel was asked.
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
