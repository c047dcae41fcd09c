"""Which processes are ours, on disk: so that they can be ended after this program was killed, and no others.

One empty file per process, named pid-starttime. A pid that was given to somebody else has another start time.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


class Ledger:
    """Processes recorded in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def record(self, pid: int) -> None:
        """Remember a process that is alive now."""
        if (started := start_time(pid)) is not None:
            (self._directory / f"{pid}-{started}").touch()

    def forget(self, pid: int) -> None:
        """It is gone."""
        for entry in self._directory.glob(f"{pid}-*"):
            entry.unlink(missing_ok=True)

    def alive(self) -> list[int]:
        """Recorded processes that still run."""
        result = []
        for entry in self._directory.iterdir():
            pid, _, started = entry.name.partition("-")
            if pid.isdigit() and start_time(int(pid)) == started:
                result.append(int(pid))
        return sorted(result)

    def kill_all(self) -> None:
        """SIGKILL every recorded process that still runs, and forget all."""
        for pid in self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for entry in self._directory.iterdir():
            entry.unlink(missing_ok=True)


def start_time(pid: int) -> str | None:
    """Clock ticks since boot at which a process began; None when it does not exist or is a zombie."""
    try:
        # The command may contain spaces and parentheses; what follows the last one is regular.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]
