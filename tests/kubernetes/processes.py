"""Programs that tests start: output in a file, ended by signal, and a plain word when one dies early."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Program:
    """A running program. log: everything it printed."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until(self, is_up: Callable[[], bool], within_s: float) -> None:
        """Poll until the program serves. Raises AssertionError with the end of its log when it ends or takes longer."""
        deadline = time.monotonic() + within_s
        while not is_up():
            code = self.process.poll()
            assert code is None, f"{self.name} ended with code {code}:\n{self.last_lines()}"
            assert time.monotonic() < deadline, f"{self.name} is not up after {within_s} s:\n{self.last_lines()}"
            time.sleep(0.05)

    def last_lines(self, count: int = 20) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def stop(self) -> None:
        """SIGTERM, then SIGKILL when that does not help."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_STOP_S)


@contextmanager
def running(
    name: str, command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Start a program, and stop it when the block ends. environ is added to this process's own."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(environ or {})}
        )
    program = Program(name, process, log)
    try:
        yield program
    finally:
        program.stop()


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
