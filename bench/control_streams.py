"""Simulated proxies: Get streams over real gRPC, as cheap as a client in Python can be made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from weft_proto.linkerd import destination_pb2 as pb

# A proxy holds all its streams on one connection.
STREAMS_PER_CONNECTION: Final = 20
GET: Final = "/io.linkerd.proxy.destination.Destination/Get"


class Watcher:
    """One open stream. Messages stay bytes: decoding them is not what is measured."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.messages = 0
        self.bytes = 0
        self.last_at = 0.0
        """When the newest message came, by the monotonic clock."""

    async def next(self) -> bytes:
        """The next message. Raises AssertionError at the end of the stream."""
        message = await self.call.read()
        assert message is not grpc.aio.EOF, "the stream ended"
        self.last_at = time.monotonic()
        self.messages += 1
        self.bytes += len(message)
        return bytes(message)


class Proxies:
    """Connections to one server, and the streams on them."""

    def __init__(self, port: int) -> None:
        self._target = f"127.0.0.1:{port}"
        self._channels: list[grpc.aio.Channel] = []
        self._opened = 0

    def open(self, authorities: Iterable[str]) -> list[Watcher]:
        """One stream per authority; the requests leave at once."""
        watchers = []
        for name in authorities:
            if self._opened % STREAMS_PER_CONNECTION == 0:
                # Channels with equal options share a connection unless told not to.
                options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
                self._channels.append(grpc.aio.insecure_channel(self._target, options))
            self._opened += 1
            request = pb.GetDestination(path=name).SerializeToString()
            watchers.append(Watcher(self._channels[-1].unary_stream(GET)(request)))
        return watchers

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))


@asynccontextmanager
async def proxies(port: int) -> AsyncIterator[Proxies]:
    """Connect to a server of this machine; everything closes with the block."""
    found = Proxies(port)
    try:
        yield found
    finally:
        await found.close()


async def first_messages(watchers: Iterable[Watcher]) -> None:
    """Wait until every stream has been answered."""
    await asyncio.gather(*(watcher.next() for watcher in watchers))
