"""A command on a terminal: a process whose input and output are one pseudo-terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from typing import Self


class TerminalProcess:
    """A `ContainerProcess` over a pty. stderr is None: a terminal has one output."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fd: int
    ) -> None:
        self._process = process
        self._fd = fd
        self.stdin: asyncio.StreamWriter | None = writer
        self.stdout: asyncio.StreamReader | None = reader
        self.stderr: asyncio.StreamReader | None = None

    @classmethod
    async def attach(cls, process: asyncio.subprocess.Process, fd: int) -> Self:
        """fd: our end of the terminal; owned from here on."""
        loop = asyncio.get_running_loop()
        reader = _TerminalReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await loop.connect_read_pipe(lambda: protocol, os.fdopen(os.dup(fd), "rb", buffering=0))
        transport, write_protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(fd, "wb", buffering=0)
        )
        return cls(process, reader, asyncio.StreamWriter(transport, write_protocol, None, loop), fd)

    async def wait(self) -> int:
        """The exit code."""
        return await self._process.wait()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def resize(self, columns: int, rows: int) -> None:
        """Tell the program the size of the user's window."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class _TerminalReader(asyncio.StreamReader):
    """A pty reports the end of its other side as EIO; to a reader that is the end of file."""

    def set_exception(self, exc: Exception) -> None:
        if isinstance(exc, OSError):
            self.feed_eof()
        else:
            super().set_exception(exc)
