"""Makes one Service of the cluster reachable on the host's loopback, for browsers and SSH tunnels.

Each connection goes to an endpoint that is ready at that moment; with none it is closed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from weft_common.log import get_logger

MAX_CONNECTIONS: Final = 256
_CHUNK: Final = 64 * 1024
_log = get_logger(__name__)


async def forward(host: str, port: int, target: Callable[[], tuple[str, int]]) -> None:
    """Accept on host:port until cancelled. target raises LookupError while nobody can answer."""
    free = asyncio.Semaphore(MAX_CONNECTIONS)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if free.locked():
                return
            async with free:
                await _serve(reader, writer, target())
        except (LookupError, OSError) as error:
            _log.debug("forward", error=str(error))
        finally:
            writer.close()

    server = await asyncio.start_server(accept, host, port)
    async with server:
        await server.serve_forever()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: tuple[str, int]) -> None:
    upstream_reader, upstream_writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, upstream_writer))
            group.create_task(_copy(upstream_reader, writer))
    except* OSError as errors:
        raise OSError(str(errors.exceptions[0])) from errors
    finally:
        upstream_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()
