"""Pieces that several messages share: addresses, metadata, durations."""

from __future__ import annotations

import ipaddress
from typing import Final

from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import meta_pb2, net_pb2

from weft_policy.core.objects import Name

_LOW_64_BITS: Final = (1 << 64) - 1


def ip_message(ip: str) -> net_pb2.IPAddress:
    """Big-endian integers, as the schema has it."""
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv4Address):
        return net_pb2.IPAddress(ipv4=int(address))
    return net_pb2.IPAddress(ipv6=net_pb2.IPv6(first=int(address) >> 64, last=int(address) & _LOW_64_BITS))


def tcp_address(ip: str, port: int) -> net_pb2.TcpAddress:
    """An address and a port."""
    return net_pb2.TcpAddress(ip=ip_message(ip), port=port)


def ip_from_message(message: net_pb2.IPAddress) -> str | None:
    """The address in canonical spelling, None when the message holds none."""
    match message.WhichOneof("ip"):
        case "ipv4":
            return str(ipaddress.IPv4Address(message.ipv4))
        case "ipv6":
            return str(ipaddress.IPv6Address(message.ipv6.first << 64 | message.ipv6.last))
        case _:
            return None


def default_metadata(name: str) -> meta_pb2.Metadata:
    """Metadata of something that no object stands behind."""
    return meta_pb2.Metadata(default=name)


def service_metadata(service: Name, port: int) -> meta_pb2.Metadata:
    """Metadata of a Service port."""
    return meta_pb2.Metadata(
        resource=meta_pb2.Resource(
            group="core", kind="Service", name=service.name, namespace=service.namespace, port=port
        )
    )


def milliseconds(value: int) -> Duration:
    """A duration message."""
    return Duration(seconds=value // 1000, nanos=value % 1000 * 1_000_000)
