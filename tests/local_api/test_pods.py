"""Logs, commands and attachments through the real kubectl; the commands really run."""

from __future__ import annotations

import asyncio

from weft_common.kube.resource import PODS

from .conftest import Cluster
from .manifests import POD


async def test_logs_are_printed(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=POD)
    assert await cluster.kubectl("logs", "app", "-n", "x") == "first line\nsecond line\nthird line\n"
    assert await cluster.kubectl("logs", "app", "-n", "x", "--tail=1", "-c", "main") == "third line\n"


async def test_exec_returns_output_errors_and_exit_code(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=POD)
    assert await cluster.kubectl("exec", "app", "-n", "x", "--", "echo", "a b") == "a b\n"
    process = await cluster.start_kubectl("exec", "app", "-n", "x", "--", "sh", "-c", "echo oops >&2; exit 7")
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out) == (7, b"")
    assert b"oops" in err


async def test_exec_in_a_container_that_is_not_there_says_which_there_are(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=POD)
    process = await cluster.start_kubectl("exec", "app", "-n", "x", "-c", "wrong", "--", "true")
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"container wrong is not valid for pod app: it has main" in err


async def test_exec_passes_input_and_its_end(cluster: Cluster) -> None:
    await cluster.kubectl("apply", "-f", "-", stdin=POD)
    out = await cluster.kubectl("exec", "-i", "app", "-n", "x", "--", "sort", stdin="b\na\n")
    assert out == "a\nb\n"


async def test_port_forward_carries_bytes_both_ways(cluster: Cluster) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.readline())
        await writer.drain()
        writer.close()

    await cluster.kubectl("apply", "-f", "-", stdin=POD)
    await cluster.kube.patch(PODS.path("x", "app", "status"), {"status": {"phase": "Running"}})
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    forward = await cluster.start_kubectl("port-forward", "pod/app", "-n", "x", f":{port}", "--address=127.0.0.1")
    try:
        assert forward.stdout is not None
        async with asyncio.timeout(20):
            line = (await forward.stdout.readline()).decode()
            assert line, await forward.stderr.read()
            local_port = int(line.split("127.0.0.1:")[1].split(" ")[0])
            for word in (b"one\n", b"two\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", local_port)
                writer.write(word)
                assert await reader.read() == b"you said " + word
                writer.close()
    finally:
        forward.terminate()
        await forward.wait()
        server.close()
