"""Logs of pods, and commands inside them, over the API: what the JSON client does not do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import aiohttp
from weft_common.kube.client import KubeError, KubeUnreachable, ssl_context
from weft_common.kube.config import KubeConfig
from weft_common.kube.resource import PODS

# Channels of the exec protocol, its first byte. Source: Kubernetes, v5.channel.k8s.io.
PROTOCOL: Final = "v5.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_MAX_MESSAGE: Final = 32 * 1024 * 1024


class Terminal(Protocol):
    """The user's side of a command in a pod."""

    async def read(self) -> bytes:
        """Some input; empty at its end."""

    def write(self, data: bytes, *, is_error: bool) -> None:
        """Show output."""

    async def resized(self) -> tuple[int, int]:
        """(columns, rows): at once the first time, then on every change."""


async def log_chunks(config: KubeConfig, namespace: str, pod: str, params: Mapping[str, str]) -> AsyncIterator[bytes]:
    """The log as it comes. params: as the API takes them, such as follow, tailLines, previous. Raises KubeError."""
    async with _session(config) as session, session.get(PODS.path(namespace, pod, "log"), params=params) as response:
        if response.status >= 400:
            raise _refusal(response.status, await response.text())
        async for chunk in response.content.iter_any():
            yield chunk


async def run_in_pod(
    config: KubeConfig,
    namespace: str,
    pod: str,
    container: str,
    argv: Sequence[str],
    terminal: Terminal,
    *,
    tty: bool,
) -> int:
    """Run a command in a container and return its exit code. Raises KubeError."""
    flags = {"stdin": "true", "stdout": "true", "stderr": "false" if tty else "true", "tty": "true" if tty else "false"}
    params = [*flags.items(), *(("command", word) for word in argv)]
    if container:
        params.append(("container", container))
    async with _session(config) as session:
        try:
            socket = await session.ws_connect(
                PODS.path(namespace, pod, "exec"), params=params, protocols=(PROTOCOL,), max_msg_size=_MAX_MESSAGE
            )
        except aiohttp.WSServerHandshakeError as error:
            raise KubeError(error.status, "", error.message) from error
        async with socket:
            feeders: list[Callable[[], Awaitable[None]]] = [lambda: _send_input(socket, terminal)]
            if tty:
                feeders.append(lambda: _send_sizes(socket, terminal))
            tasks = [asyncio.ensure_future(feeder()) for feeder in feeders]
            try:
                return await _receive(socket, terminal)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def _send_input(socket: aiohttp.ClientWebSocketResponse, terminal: Terminal) -> None:
    while data := await terminal.read():
        await socket.send_bytes(bytes([_STDIN]) + data)
    await socket.send_bytes(bytes([_CLOSE, _STDIN]))


async def _send_sizes(socket: aiohttp.ClientWebSocketResponse, terminal: Terminal) -> None:
    while True:
        columns, rows = await terminal.resized()
        await socket.send_bytes(bytes([_RESIZE]) + json.dumps({"Width": columns, "Height": rows}).encode())


async def _receive(socket: aiohttp.ClientWebSocketResponse, terminal: Terminal) -> int:
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == _ERROR:
            return exit_code_from_status(data)
        if channel in (_STDOUT, _STDERR) and data:
            terminal.write(data, is_error=channel == _STDERR)
    raise KubeUnreachable("the connection ended before the command did")


def exit_code_from_status(text: bytes) -> int:
    """The exit code in the Status that ends a command. Raises KubeError when the command could not run."""
    status = json.loads(text)
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise KubeError(int(status.get("code") or 500), str(status.get("reason", "")), str(status.get("message", "")))


@asynccontextmanager
async def _session(config: KubeConfig) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"authorization": f"Bearer {config.token}"}
    connector = aiohttp.TCPConnector(ssl=ssl_context(config))
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    try:
        async with aiohttp.ClientSession(
            config.server, headers=headers, connector=connector, timeout=timeout
        ) as session:
            yield session
    except aiohttp.ClientError as error:
        raise KubeUnreachable(str(error) or type(error).__name__) from error


def _refusal(status: int, text: str) -> KubeError:
    try:
        body = json.loads(text)
        return KubeError(status, str(body.get("reason", "")), str(body.get("message", text)), body)
    except (ValueError, AttributeError):
        return KubeError(status, "", text[:500])
