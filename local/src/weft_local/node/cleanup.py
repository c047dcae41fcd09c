"""Takes away what a cluster left on the machine, running or killed. Idempotent; touches only what carries its name.

Runs without an event loop: pyroute2 brings its own. From a coroutine call it in a thread.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

from weft_local.node.ledger import Ledger, start_time
from weft_local.node.network import (
    IP_FORWARD,
    NETNS_DIR,
    NETNS_DIR_SHARED,
    links_with_prefix,
    remove_link,
    remove_netns,
    unshare_netns_dir,
)
from weft_local.node.settings import NodeSettings
from weft_local.node.volume_files import unmount


def leftovers(settings: NodeSettings) -> list[str]:
    """What `cleanup` would remove, one line each: the answer to --dry-run."""
    found = [f"process {pid}" for pid in _processes(settings)]
    found += [f"network namespace {path.name}" for path in _namespaces(settings)]
    found += [f"link {name}" for name in _links(settings)]
    if _has_table(settings):
        found.append(f"nftables table ip {settings.nft_table}")
    found += [f"mount {path}" for path in _mounts(settings)]
    if (settings.state_dir / "ip_forward.before").exists():
        found.append("setting net.ipv4.ip_forward")
    if (settings.state_dir / NETNS_DIR_SHARED).exists():
        found.append(f"mount {NETNS_DIR}")
    found += [f"directory {path}" for path in _directories(settings)]
    return found


def cleanup(settings: NodeSettings) -> None:
    """Remove it all. Other files in state_dir are their owners' business."""
    pids = _processes(settings)
    if (processes := settings.state_dir / "processes").is_dir():
        Ledger(processes).kill_all()
    for pid in pids:
        _await_end(pid)
    for path in _mounts(settings):
        unmount(path)
    for path in _namespaces(settings):
        remove_netns(path.name, None)
    for name in _links(settings):
        remove_link(name)
    if _has_table(settings):
        subprocess.run(["nft", "delete", "table", "ip", settings.nft_table], check=False, capture_output=True)
    recorded = settings.state_dir / "ip_forward.before"
    if recorded.exists():
        IP_FORWARD.write_text(recorded.read_text())
        recorded.unlink()
    shared = settings.state_dir / NETNS_DIR_SHARED
    if shared.exists():
        unshare_netns_dir()
        shared.unlink()
    for path in _directories(settings):
        shutil.rmtree(path, ignore_errors=True)


def _processes(settings: NodeSettings) -> list[int]:
    directory = settings.state_dir / "processes"
    return Ledger(directory).alive() if directory.is_dir() else []


def _namespaces(settings: NodeSettings) -> list[Path]:
    return sorted(NETNS_DIR.glob(f"{settings.netns_prefix}*")) if NETNS_DIR.is_dir() else []


def _links(settings: NodeSettings) -> list[str]:
    # Both ends of the gateway's pair go with either.
    gateway = [settings.gateway_link] if settings.gateway_link in links_with_prefix(settings.gateway_link) else []
    return gateway + links_with_prefix(settings.veth_prefix)


def _has_table(settings: NodeSettings) -> bool:
    if shutil.which("nft") is None:
        return False
    return _nft("list", settings)


def _nft(verb: str, settings: NodeSettings) -> bool:
    program = shutil.which("nft") or "nft"
    command = [program, verb, "table", "ip", settings.nft_table]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # our own words


def _mounts(settings: NodeSettings) -> list[Path]:
    """Below the state directory, innermost first."""
    root = str(settings.state_dir) + "/"
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [Path(point) for point in sorted(points, reverse=True) if point.startswith(root)]


def _directories(settings: NodeSettings) -> list[Path]:
    return [path for name in ("pods", "logs", "processes") if (path := settings.state_dir / name).exists()]


def _await_end(pid: int, patience_s: float = 5.0) -> None:
    """Mounts and namespaces are free only when their last process is gone, which SIGKILL only begins."""
    started = start_time(pid)
    if started is None:
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        deadline = time.monotonic() + patience_s
        select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
