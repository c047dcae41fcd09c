"""Says how a long command goes: one live line with what is waited for on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.status import Status

    from weft_local.cluster.readiness import Pending

_SHOWN: Final = 8
# Without a terminal, what is waited for is repeated no more often than this, unless it changes.
_PLAIN_EVERY_S: Final = 5.0


class Spoken:
    """`cluster.up.Progress` on standard error. Use as a context manager."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._began = time.monotonic()
        self._last: tuple[float, tuple[str, ...]] = (0.0, ())
        self._text = ""

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("starting")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def step(self, text: str) -> None:
        """A new step begins."""
        self._text = text
        if self._status is None:
            self._line(text)
        else:
            self._status.update(text)

    def waiting(self, pending: Sequence[Pending]) -> None:
        """What is not ready yet, pods and reasons."""
        lines = tuple(waiting_lines(pending))
        if self._status is not None:
            self._status.update(_with_lines(f"{self._text or 'waiting'} ({len(pending)} not ready)", lines))
            return
        since, before = self._last
        now = time.monotonic()
        if lines != before and now - since >= _PLAIN_EVERY_S:
            self._last = (now, lines)
            self._line(f"waiting for {len(pending)}: " + "; ".join(lines[:_SHOWN]))

    def _line(self, text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - self._began:5.1f}s] {text}\n")
        sys.stderr.flush()


def waiting_lines(pending: Sequence[Pending]) -> list[str]:
    """One line per workload, with the reason its first pod gives."""
    return [f"{one.namespace}/{one.name}: {one.pods[0].why if one.pods else one.why}" for one in pending]


def _with_lines(title: str, lines: Sequence[str]) -> RenderableType:
    from rich.text import Text

    more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return Text("\n  ".join([title, *lines[:_SHOWN], *more]))
