"""Starting, awaiting and ending the cluster's process from a command."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from weft_local.cluster.state import Record, StateDir, process_start, read_record

START_S: Final = 30.0
_GRACE_S: Final = 60.0
_LOG_LINES: Final = 15
_LOOK_EVERY_S: Final = 0.05


class StartFailed(Exception):
    """The cluster's process ended before it served. The text holds the end of its log."""


def spawn(state: StateDir) -> subprocess.Popen[bytes]:
    """Start the process for the order in the state directory; its output goes to the cluster's log."""
    with state.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "weft_local.cluster.daemon", str(state.order)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=state.root,
            # Its own session: Ctrl-C reaches the command alone, which then ends the cluster in order.
            start_new_session=True,
        )


async def until_serving(state: StateDir, process: subprocess.Popen[bytes]) -> Record:
    """The record once the API answers. Raises StartFailed."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartFailed(f"the cluster's process ended with exit code {process.returncode}\n{log_tail(state.log)}")
        record = read_record(state)
        if record is not None and record.pid == process.pid and record.serving:
            return record
        # The other process can only be observed through its files.
        await asyncio.sleep(_LOOK_EVERY_S)
    raise StartFailed(f"the cluster does not serve after {START_S:g} s\n{log_tail(state.log)}")


def end(record: Record, tell: Callable[[str], None]) -> None:
    """SIGTERM, then SIGKILL after a minute. Returns when the process is gone."""
    if not record.is_running:
        return
    try:
        handle = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return
    try:
        if process_start(record.pid) != record.process_start:
            # It ended, and the pid went to another process before the handle was opened.
            return
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], _GRACE_S)[0]:
            tell(f"the cluster's process {record.pid} did not end in {_GRACE_S:g} s; killing it")
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], _GRACE_S)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
    # When it is our own child, only we can take its remains away.
    with suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)


def log_tail(path: Path, lines: int = _LOG_LINES) -> str:
    """The last lines of a log, indented; empty when there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
