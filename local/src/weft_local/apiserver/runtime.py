"""What the API server needs from whoever runs the pods: logs, commands inside containers, connections into pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol


class RuntimeRefused(Exception):
    """The container is not there or not running. The text says which and why."""


class ContainerProcess(Protocol):
    """A command running in a container; `asyncio.subprocess.Process` is one."""

    @property
    def stdin(self) -> asyncio.StreamWriter | None:
        """None when nothing can be written."""

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """With a terminal, everything the command prints."""

    @property
    def stderr(self) -> asyncio.StreamReader | None:
        """None with a terminal."""

    async def wait(self) -> int:
        """The exit code, once it has ended."""

    def kill(self) -> None:
        """End it now. Raises ProcessLookupError when it has ended already."""


class PodRuntime(Protocol):
    """The node. All raise RuntimeRefused; container "" means the pod's first or only one."""

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool,
        tail_lines: int | None,
        since_s: float | None,
        timestamps: bool,
        previous: bool,
    ) -> AsyncIterator[bytes]:
        """Chunks of whole lines."""

    async def exec(self, namespace: str, pod: str, container: str, argv: Sequence[str], tty: bool) -> ContainerProcess:
        """Start a command in a container's namespaces."""

    async def dial(self, namespace: str, pod: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a port on the pod's loopback."""
