"""Runs one probe or hook check: HTTP, TCP, gRPC from the node against the pod, exec inside the container."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, assert_never

from weft_local.node.core.spec import Check, ContainerSpec, Exec, Grpc, HttpGet, TcpSocket

USER_AGENT: Final = "kube-probe/weft"
_MAX_HEAD: Final = 16 * 1024
_OUTPUT_SHOWN: Final = 512

Execute = Callable[[tuple[str, ...]], Awaitable[asyncio.subprocess.Process]]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """detail: what went wrong, as kubelet's events word it."""

    passed: bool
    detail: str = ""


async def run_check(
    check: Check, container: ContainerSpec, pod_ip: str, execute: Execute, timeout_s: float
) -> CheckResult:
    """Never raises for a failing target; a timeout is a failure."""
    try:
        async with asyncio.timeout(timeout_s):
            match check:
                case HttpGet():
                    return await _http(check, container, pod_ip)
                case TcpSocket():
                    return await _tcp(check.host or pod_ip, container.port_number(check.port))
                case Grpc():
                    return await _grpc(check, pod_ip, timeout_s)
                case Exec():
                    return await _exec(check, execute)
                case _:
                    assert_never(check)
    except TimeoutError:
        return CheckResult(False, f"timed out after {timeout_s:g} s")
    except (OSError, ValueError) as error:
        return CheckResult(False, str(error))


async def _http(check: HttpGet, container: ContainerSpec, pod_ip: str) -> CheckResult:
    host, port = check.host or pod_ip, container.port_number(check.port)
    tls: ssl.SSLContext | None = None
    if check.scheme == "HTTPS":
        # A probe asks whether the server answers, not who it is; kubelet does not verify either.
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=_MAX_HEAD)
    try:
        names = {name.lower() for name, _ in check.headers}
        headers = [("Host", f"{host}:{port}"), ("User-Agent", USER_AGENT), ("Accept", "*/*")]
        lines = [f"{name}: {value}" for name, value in headers if name.lower() not in names]
        lines += [f"{name}: {value}" for name, value in check.headers]
        path = check.path if check.path.startswith("/") else f"/{check.path}"
        request = "\r\n".join([f"GET {path} HTTP/1.1", *lines, "Connection: close", "", ""])
        writer.write(request.encode("latin-1", errors="replace"))
        await writer.drain()
        words = (await reader.readline()).split(None, 2)
        if len(words) < 2 or not words[1].isdigit():
            return CheckResult(False, f"port {port} answered something that is not HTTP")
        status = int(words[1])
        return CheckResult(200 <= status < 400, f"HTTP probe failed with statuscode: {status}")
    finally:
        await _close(writer)


async def _tcp(host: str, port: int) -> CheckResult:
    _, writer = await asyncio.open_connection(host, port)
    await _close(writer)
    return CheckResult(True)


async def _grpc(check: Grpc, pod_ip: str, timeout_s: float) -> CheckResult:
    # Imported where used: 17 MiB that few pods need.
    import grpc

    name = check.service.encode()
    request = b"\x0a" + bytes([len(name)]) + name if name else b""
    async with grpc.aio.insecure_channel(f"{pod_ip}:{check.port}") as channel:
        health = channel.unary_unary(
            "/grpc.health.v1.Health/Check", request_serializer=bytes, response_deserializer=bytes
        )
        try:
            answer = await health(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return CheckResult(False, f"gRPC health check failed: {error.code().name} {error.details() or ''}".strip())
    # HealthCheckResponse is one enum, field 1; SERVING is 1.
    return CheckResult(answer[:2] == b"\x08\x01", "service unhealthy")


async def _exec(check: Exec, execute: Execute) -> CheckResult:
    process = await execute(check.command)
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.kill()
        raise
    said = (out + err).decode(errors="replace").strip()[:_OUTPUT_SHOWN]
    return CheckResult(process.returncode == 0, said or f"command exited with {process.returncode}")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
