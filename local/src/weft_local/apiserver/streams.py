"""Commands, attachments and forwarded ports over WebSocket, as kubectl and the client libraries speak them.

Channels: every message begins with one byte that names its channel. The v4 and v5 protocols differ in one thing: v5 has
a channel to say that one direction is finished, so a command can see the end of its input.
Source: k8s.io/apimachinery pkg/util/remotecommand and the Kubernetes enhancement 4006.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from weft_local.apiserver.runtime import ContainerProcess, PodRuntime, RuntimeRefused

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE: Final = 255
EXEC_PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
PORT_FORWARD_PROTOCOLS: Final = ("v4.channel.k8s.io", "portforward.k8s.io")
_CHUNK: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """What a client asked for. container: "" for the default one."""

    container: str
    command: tuple[str, ...]
    stdin: bool
    tty: bool


def exit_status(code: int) -> dict[str, Any]:
    """The Status on the error channel that tells a client how a command ended."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure_status(message: str) -> dict[str, Any]:
    """The Status for a command that never started."""
    return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500}


def chosen_protocol(websocket: WebSocket, known: tuple[str, ...]) -> str | None:
    """The first protocol of ours that the client offered, or None."""
    offered = websocket.scope.get("subprotocols") or []
    return next((protocol for protocol in known if protocol in offered), None)


async def serve_exec(websocket: WebSocket, runtime: PodRuntime, namespace: str, pod: str, options: ExecOptions) -> None:
    """Run one command for one client, until either ends."""
    protocol = chosen_protocol(websocket, EXEC_PROTOCOLS)
    await websocket.accept(subprotocol=protocol)
    try:
        process = await runtime.exec(namespace, pod, options.container, options.command, options.tty)
    except (RuntimeRefused, OSError) as error:
        await _send(websocket, ERROR, json.dumps(failure_status(str(error))).encode())
        await websocket.close()
        return
    try:
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(_feed(websocket, process, options.stdin), name="exec-stdin")
            outputs = [
                group.create_task(_copy_out(websocket, stream, channel), name=f"exec-{channel}")
                for stream, channel in ((process.stdout, STDOUT), (process.stderr, STDERR))
                if stream is not None
            ]
            code = await process.wait()
            # A child that kept the pipe open must not hold the answer back for ever.
            await asyncio.wait(outputs, timeout=2)
            for task in (reader, *outputs):
                task.cancel()
            await _send(websocket, ERROR, json.dumps(exit_status(code)).encode())
        await websocket.close()
    except* (WebSocketDisconnect, ConnectionError, RuntimeError):
        # The client left (Starlette reports a send after that as RuntimeError); its command goes with it.
        pass
    finally:
        _kill(process)


async def serve_attach(websocket: WebSocket, lines: Callable[[], Any]) -> None:
    """Follow a container's output. Input is not offered: containers here have no attached terminal."""
    await websocket.accept(subprotocol=chosen_protocol(websocket, EXEC_PROTOCOLS))
    try:
        async for chunk in lines():
            await _send(websocket, STDOUT, chunk)
        await _send(websocket, ERROR, json.dumps(exit_status(0)).encode())
        await websocket.close()
    except (WebSocketDisconnect, RuntimeError):
        return


async def serve_port_forward(
    websocket: WebSocket, runtime: PodRuntime, namespace: str, pod: str, ports: tuple[int, ...]
) -> None:
    """One connection per asked port: channel 2n carries its bytes, 2n+1 its error. Each begins with the port number."""
    await websocket.accept(subprotocol=chosen_protocol(websocket, PORT_FORWARD_PROTOCOLS))
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await _send(websocket, channel, struct.pack("<H", port))
    writers: dict[int, asyncio.StreamWriter] = {}
    try:
        async with asyncio.TaskGroup() as group:
            for index, port in enumerate(ports):
                try:
                    reader, writer = await runtime.dial(namespace, pod, port)
                except (RuntimeRefused, OSError) as error:
                    await _send(websocket, 2 * index + 1, f"error forwarding port {port}: {error}".encode())
                    continue
                writers[2 * index] = writer
                group.create_task(_copy_out(websocket, reader, 2 * index), name=f"forward-{port}")
            if writers:
                await _scatter(websocket, writers)
            raise WebSocketDisconnect
    except* (WebSocketDisconnect, ConnectionError, RuntimeError):
        pass
    finally:
        for writer in writers.values():
            writer.close()


async def _scatter(websocket: WebSocket, writers: dict[int, asyncio.StreamWriter]) -> None:
    while True:
        message = await websocket.receive_bytes()
        writer = writers.get(message[0]) if message else None
        if writer is not None and not writer.is_closing():
            writer.write(message[1:])
            await writer.drain()


async def _feed(websocket: WebSocket, process: ContainerProcess, wanted: bool) -> None:
    """Messages to the command's input. Raises WebSocketDisconnect when the client leaves."""
    stdin = process.stdin
    if not wanted and stdin is not None:
        stdin.close()
        stdin = None
    while True:
        message = await _receive(websocket)
        if not message:
            continue
        channel, data = message[0], message[1:]
        if stdin is None:
            continue
        if channel == CLOSE and data[:1] == bytes([STDIN]):
            stdin.close()
            stdin = None
        elif channel == STDIN and data:
            try:
                stdin.write(data)
                await stdin.drain()
            except (BrokenPipeError, ConnectionResetError):
                # The command closed its input; that is its right.
                stdin = None


async def _receive(websocket: WebSocket) -> bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    data = message.get("bytes")
    return bytes(data) if data is not None else str(message.get("text") or "").encode()


async def _copy_out(websocket: WebSocket, stream: asyncio.StreamReader, channel: int) -> None:
    while chunk := await stream.read(_CHUNK):
        await _send(websocket, channel, chunk)


def _send(websocket: WebSocket, channel: int, data: bytes) -> Awaitable[None]:
    return websocket.send_bytes(bytes([channel]) + data)


def _kill(process: ContainerProcess) -> None:
    try:
        process.kill()
    except ProcessLookupError:
        return
