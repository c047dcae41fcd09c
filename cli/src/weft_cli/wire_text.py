"""Addresses and gRPC codes of messages, as people read them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from weft_proto.linkerd import net_pb2

GRPC_NAMES: Final = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip


def grpc_text(code: int) -> str:
    """Name of a status code; the number of one that is not known."""
    return GRPC_NAMES[code] if code < len(GRPC_NAMES) else str(code)


def ip_text(ip: net_pb2.IPAddress) -> str:
    """Empty when there is none."""
    match ip.WhichOneof("ip"):
        case "ipv4":
            return str(ip_address(ip.ipv4))
        case "ipv6":
            return str(ip_address((ip.ipv6.first << 64) | ip.ipv6.last))
        case _:
            return ""


def address(at: net_pb2.TcpAddress) -> str:
    """host:port, with brackets around IPv6."""
    host = ip_text(at.ip)
    return f"[{host}]:{at.port}" if ":" in host else f"{host}:{at.port}"
