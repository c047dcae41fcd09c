"""A pod runtime whose containers are this machine itself: commands really run, ports are really dialled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from weft_local.apiserver.runtime import RuntimeRefused

LINES = [b"first line\n", b"second line\n", b"third line\n"]


class LocalProcesses:
    """Only the pod `x/app` with its container `main` runs."""

    async def logs(
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
        _require(namespace, pod, container)
        for line in LINES if tail_lines is None else LINES[len(LINES) - tail_lines :]:
            yield line

    async def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str], tty: bool
    ) -> asyncio.subprocess.Process:
        _require(namespace, pod, container)
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)

    async def dial(self, namespace: str, pod: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        _require(namespace, pod, "main")
        return await asyncio.open_connection("127.0.0.1", port)


def _require(namespace: str, pod: str, container: str) -> None:
    if (namespace, pod) != ("x", "app") or container not in ("", "main"):
        raise RuntimeRefused(f"container {container!r} of pod {namespace}/{pod} is not running")
