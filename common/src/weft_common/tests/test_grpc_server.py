"""The server that services share, over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from weft_common.grpc_server import serve_grpc

CALLS_AT_ONCE = 3_500


async def _echo(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return request


def _register(server: grpc.aio.Server) -> None:
    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(_echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))


async def test_no_call_of_a_thundering_herd_is_dropped() -> None:
    async with serve_grpc("127.0.0.1:0", _register) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo: Any = channel.unary_unary("/test.Test/Echo")
        # All leave before this loop, which the server shares, takes the first of them.
        calls = [echo(b"%d" % number) for number in range(CALLS_AT_ONCE)]
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(CALLS_AT_ONCE)]
