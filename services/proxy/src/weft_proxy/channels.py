"""One gRPC channel per control-plane service, through the engine's tunnel.

gRPC dials the abstract Unix socket `weft/<pid>/<service>`; the engine resolves the real address, adds mesh TLS and
copies bytes. The authority on the wire is the configured address verbatim.
"""

import os

import grpc.aio

from weft_proxy.core.settings import ControlService

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The first `add` of a service with tens of thousands of endpoints passes gRPC's default of 4 MiB."""


def open_channel(service: ControlService) -> grpc.aio.Channel:
    options: list[tuple[str, str | int]] = [
        ("grpc.default_authority", service.address.text),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Our own backoff decides when to try; gRPC's must not add to it.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Despite its name also how long one attempt may take: the tunnel resolves, connects and shakes hands within it.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
        # Two channels to one socket must not share a connection pool entry with another process's view of it.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if not service.address.is_loopback:
        # A peer that vanished without a packet is noticed. Plain gRPC servers, which loopback reaches, punish pings.
        options += [("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000)]
    return grpc.aio.insecure_channel(f"unix-abstract:weft/{os.getpid()}/{service.name}", options=options)
