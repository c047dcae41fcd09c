"""`kubectl port-forward`: SPDY inside a WebSocket, a pair of streams (error and data) for each forwarded connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect
from weft_common.log import get_logger

from weft_local.apiserver.runtime import PodRuntime, RuntimeRefused
from weft_local.apiserver.spdy import (
    DataReceived,
    Event,
    PingReceived,
    SpdyError,
    SpdySession,
    StreamOpened,
    StreamReset,
)

TUNNEL_PROTOCOL: Final = "SPDY/3.1+portforward.k8s.io"
_CHUNK: Final = 32 * 1024
# Chunks a client may be ahead of its pod; beyond them the client is not read, and so are not its other connections.
_QUEUED_CHUNKS: Final = 64
_log = get_logger(__name__)


@dataclass(slots=True)
class _Forwarded:
    """One connection. to_pod: None ends its input."""

    port: int
    error_stream: int
    to_pod: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(_QUEUED_CHUNKS))


class TunnelledForward:
    """All forwarded connections of one kubectl."""

    def __init__(self, websocket: WebSocket, runtime: PodRuntime, namespace: str, pod: str) -> None:
        self._websocket = websocket
        self._runtime = runtime
        self._namespace = namespace
        self._pod = pod
        self._session = SpdySession()
        # Error streams come first; their data streams name the same request.
        self._error_streams: dict[str, int] = {}
        self._connections: dict[int, _Forwarded] = {}

    async def serve(self) -> None:
        """Until the client leaves."""
        await self._websocket.accept(subprotocol=TUNNEL_PROTOCOL)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    message = await self._websocket.receive_bytes()
                    for event in self._session.receive(message):
                        await self._handle(event, group)
        except* (WebSocketDisconnect, ConnectionError, RuntimeError):
            # The client left (Starlette reports a send after that as RuntimeError); its connections go with it.
            pass
        except* SpdyError as errors:
            _log.warning("port-forward ended", pod=self._pod, reason=str(errors.exceptions[0]))

    async def _handle(self, event: Event, group: asyncio.TaskGroup) -> None:
        match event:
            case StreamOpened(stream, headers):
                await self._websocket.send_bytes(self._session.accept(stream))
                request = headers.get("requestid", "")
                if headers.get("streamtype") == "error":
                    self._error_streams[request] = stream
                elif headers.get("streamtype") == "data":
                    forwarded = _Forwarded(int(headers.get("port", "0")), self._error_streams.pop(request, 0))
                    self._connections[stream] = forwarded
                    group.create_task(self._forward(stream, forwarded), name=f"forward-{forwarded.port}")
            case DataReceived(stream, data, is_last):
                if (connection := self._connections.get(stream)) is not None:
                    if data:
                        await connection.to_pod.put(data)
                    if is_last:
                        await connection.to_pod.put(None)
            case StreamReset(stream):
                if (connection := self._connections.get(stream)) is not None:
                    await connection.to_pod.put(None)
            case PingReceived(frame):
                await self._websocket.send_bytes(frame)

    async def _forward(self, stream: int, forwarded: _Forwarded) -> None:
        try:
            reader, writer = await self._runtime.dial(self._namespace, self._pod, forwarded.port)
        except (RuntimeRefused, OSError) as error:
            text = f"failed to connect to port {forwarded.port} of pod {self._pod}: {error}"
            await self._finish(stream, forwarded, text.encode())
            return
        sender = asyncio.ensure_future(_drain(forwarded.to_pod, writer))
        try:
            while chunk := await reader.read(_CHUNK):
                await self._websocket.send_bytes(SpdySession.data(stream, chunk))
            await self._finish(stream, forwarded, b"")
        except ConnectionResetError:
            await self._finish(stream, forwarded, b"the pod closed the connection")
        finally:
            sender.cancel()
            writer.close()

    async def _finish(self, stream: int, forwarded: _Forwarded, error: bytes) -> None:
        self._connections.pop(stream, None)
        # Whoever waits to hand over more must not wait for ever.
        while not forwarded.to_pod.empty():
            forwarded.to_pod.get_nowait()
        for ended, data in ((forwarded.error_stream, error), (stream, b"")):
            await self._websocket.send_bytes(SpdySession.data(ended, data, is_last=True))


async def _drain(chunks: asyncio.Queue[bytes | None], writer: asyncio.StreamWriter) -> None:
    try:
        while (chunk := await chunks.get()) is not None:
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except ConnectionError:
        # The reader of the same connection sees its end and tells the client.
        return
