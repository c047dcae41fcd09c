"""The plaintext gRPC server of a service; the sidecar proxy beside it terminates mesh TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import grpc

# A replica that comes back is asked by every proxy at once.
_CALLS_THAT_WAIT: Final = 100_000


@asynccontextmanager
async def serve_grpc(
    address: str, register: Callable[[grpc.aio.Server], None], grace_s: float = 5.0
) -> AsyncIterator[int]:
    """Serve until the block ends, then let calls in flight finish for up to grace_s. Yields the bound port.

    address: host:port, port 0 for a free one. register: adds the service's handlers.
    Raises OSError when the address cannot be bound.
    """
    server = grpc.aio.server(
        options=[
            # Proxies keep idle discovery streams open and ping every 10 s; the default would answer "too many pings".
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_ping_strikes", 0),
            # gRPC cancels calls at random once a thousand wait to be taken; each costs its proxy a backoff.
            ("grpc.server.max_pending_requests", _CALLS_THAT_WAIT),
            ("grpc.server.max_pending_requests_hard_limit", _CALLS_THAT_WAIT),
            # Two servers on one port would each get a share of the connections without anybody noticing.
            ("grpc.so_reuseport", 0),
        ]
    )
    register(server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(grace_s)
