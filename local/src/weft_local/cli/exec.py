"""`weft local exec`: the user's terminal, or pipes, on a command in a container."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from weft_common.kube.config import load_kube_config

from weft_local.cli.running import require_running
from weft_local.cluster.state import state_dir
from weft_local.cluster.streams import run_in_pod

_CHUNK: Final = 32 * 1024


class OwnTerminal:
    """This process's standard streams. `cluster.streams.Terminal`."""

    def __init__(self) -> None:
        self._readable = asyncio.Event()
        self._resized = asyncio.Event()
        self._resized.set()

    def watch_size(self) -> None:
        """Notice changes of the window."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, self._resized.set)

    async def read(self) -> bytes:
        loop = asyncio.get_running_loop()
        fd = sys.stdin.fileno()
        try:
            loop.add_reader(fd, self._readable.set)
        except (PermissionError, OSError):
            # A regular file or /dev/null is always readable, and epoll does not take it.
            return os.read(fd, _CHUNK)
        try:
            self._readable.clear()
            await self._readable.wait()
        finally:
            loop.remove_reader(fd)
        try:
            return os.read(fd, _CHUNK)
        except OSError:
            return b""

    def write(self, data: bytes, *, is_error: bool) -> None:
        stream = sys.stderr.buffer if is_error else sys.stdout.buffer
        stream.write(data)
        stream.flush()

    async def resized(self) -> tuple[int, int]:
        await self._resized.wait()
        self._resized.clear()
        size = shutil.get_terminal_size()
        return size.columns, size.lines


def run_command(name: str, namespace: str, pod: str, container: str, argv: Sequence[str]) -> int:
    """The command's exit code."""
    state = state_dir(name)
    require_running(state)
    config = load_kube_config(state.kubeconfig, {})
    with_tty = sys.stdin.isatty() and sys.stdout.isatty()

    async def run() -> int:
        terminal = OwnTerminal()
        if with_tty:
            terminal.watch_size()
        return await run_in_pod(config, namespace, pod, container, argv, terminal, tty=with_tty)

    if not with_tty:
        return asyncio.run(run())
    with _raw_mode(sys.stdin.fileno()):
        return asyncio.run(run())


@contextmanager
def _raw_mode(fd: int) -> Iterator[None]:
    """Keys go to the command as they are pressed, Ctrl-C included; the terminal is restored whatever happens."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
