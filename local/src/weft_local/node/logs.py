"""Log files of one container: written with a timestamp before every line, rotated, read back and followed.

Line format: RFC 3339 time with nanoseconds, a space, the text. A file per run, so that `--previous` has one to show;
the last two runs are kept. Followers wait for an event, they do not poll.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

ROTATE_BYTES: Final = 10 * 1024 * 1024
MAX_LINE_BYTES: Final = 64 * 1024
KEPT_RUNS: Final = 2
_CHUNK: Final = 256 * 1024


class RunLog:
    """The log of one run. Written by one task."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab")
        self._size = path.stat().st_size
        self._pending = b""
        self._changed = asyncio.Event()
        self.generation = 0
        self.closed = False
        self.tail: deque[bytes] = deque(maxlen=80)

    @property
    def rotated(self) -> Path:
        """The older half of a long log."""
        return self.path.with_suffix(".log.1")

    def write(self, data: bytes) -> None:
        """Bytes as the container printed them; a line is kept back until it is whole or too long."""
        data = self._pending + data
        *lines, self._pending = data.split(b"\n")
        if len(self._pending) > MAX_LINE_BYTES:
            lines.append(self._pending)
            self._pending = b""
        if lines:
            self._append(lines)

    def close(self) -> None:
        """The run is over; followers finish."""
        if self.closed:
            return
        if self._pending:
            self._append([self._pending])
            self._pending = b""
        self._file.close()
        self.closed = True
        self._wake()

    async def changed(self) -> None:
        """Return after the next write, rotation or close."""
        await self._changed.wait()

    def _append(self, lines: list[bytes]) -> None:
        stamp = _stamp(time.time_ns())
        self.tail.extend(lines)
        text = b"".join(stamp + line + b"\n" for line in lines)
        self._file.write(text)
        self._file.flush()
        self._size += len(text)
        if self._size >= ROTATE_BYTES:
            self._file.close()
            self.path.replace(self.rotated)
            self._file = self.path.open("ab")
            self._size = 0
            self.generation += 1
        self._wake()

    def _wake(self) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()


class ContainerLogs:
    """All kept runs of one container, oldest first."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runs: list[RunLog] = []
        self._count = 0

    def new_run(self) -> RunLog:
        """Begin a run; the oldest beyond KEPT_RUNS is deleted."""
        log = RunLog(self._directory / f"{self._count}.log")
        self._count += 1
        self._runs.append(log)
        for old in self._runs[:-KEPT_RUNS]:
            old.path.unlink(missing_ok=True)
            old.rotated.unlink(missing_ok=True)
        del self._runs[:-KEPT_RUNS]
        return log

    def run(self, *, previous: bool) -> RunLog | None:
        """The current run, or the one before it."""
        wanted = 2 if previous else 1
        return self._runs[-wanted] if len(self._runs) >= wanted else None


async def read_log(
    log: RunLog, *, follow: bool, tail_lines: int | None, since_ns: int | None, timestamps: bool
) -> AsyncIterator[bytes]:
    """Chunks of whole lines. since_ns: epoch; older lines are left out. Ends at the end, or with the run if follow."""
    oldest = _stamp(since_ns) if since_ns is not None else b""
    generation = log.generation
    with log.path.open("rb") as current:
        stored = _stored_lines(log, current)
        kept: Iterable[bytes] = (line for line in stored if line >= oldest)
        if tail_lines is not None:
            kept = deque(kept, maxlen=tail_lines)
        chunk: list[bytes] = []
        size = 0
        for line in kept:
            chunk.append(_shown(line, timestamps))
            size += len(line)
            if size >= _CHUNK:
                yield b"".join(chunk)
                chunk, size = [], 0
        if chunk:
            yield b"".join(chunk)
        if not follow:
            return
        file: BinaryIO = current
        try:
            while True:
                # Taken before reading: what is written between the two wakes us at once.
                waiting = log.changed()
                if data := file.read():
                    yield b"".join(_shown(line, timestamps) for line in data.splitlines(keepends=True))
                    waiting.close()
                elif generation != log.generation:
                    waiting.close()
                    generation = log.generation
                    if file is not current:
                        file.close()
                    file = log.path.open("rb")
                elif log.closed:
                    waiting.close()
                    return
                else:
                    await waiting
        finally:
            if file is not current:
                file.close()


def last_lines(log: RunLog, max_bytes: int = 2048) -> str:
    """The end of a run's output, for a termination message."""
    return b"\n".join(log.tail)[-max_bytes:].decode(errors="replace")


def _stored_lines(log: RunLog, current: BinaryIO) -> Iterator[bytes]:
    if log.rotated.exists():
        with log.rotated.open("rb") as older:
            yield from older
    yield from current


def _shown(line: bytes, timestamps: bool) -> bytes:
    return line if timestamps else line.partition(b" ")[2]


def _stamp(at_ns: int) -> bytes:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{rest:09d}Z ").encode()
