"""An address of this machine that an EndpointSlice may hold: the API refuses loopback ones."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Of the block for benchmarks of network devices (RFC 2544), which nobody routes.
_SPARE: Final = "198.18.77.1"


@contextmanager
def own_address() -> Iterator[str]:
    """The address this machine would send from; where it has none, one that lives on the loopback device meanwhile."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses a source address; nothing is sent.
            probe.connect(("192.0.2.1", 9))
            found = str(probe.getsockname()[0])
        except OSError:
            found = ""
    if found:
        yield found
        return
    subprocess.run(["ip", "address", "add", f"{_SPARE}/32", "dev", "lo"], check=True)
    try:
        yield _SPARE
    finally:
        subprocess.run(["ip", "address", "del", f"{_SPARE}/32", "dev", "lo"], check=False)
