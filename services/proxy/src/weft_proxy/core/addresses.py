"""Addresses between `ipaddress` values, `net.*` messages and the text that discovery paths use."""

from ipaddress import IPv4Address, IPv6Address

from weft_proto.linkerd import net_pb2

from weft_proxy.core.values import IpAddress, IpNetwork, SocketAddr

_HALF = (1 << 64) - 1


def ip_to_message(ip: IpAddress) -> net_pb2.IPAddress:
    number = int(ip)
    if ip.version == 4:
        return net_pb2.IPAddress(ipv4=number)
    return net_pb2.IPAddress(ipv6=net_pb2.IPv6(first=number >> 64, last=number & _HALF))


def ip_from_message(message: net_pb2.IPAddress) -> IpAddress | None:
    """None when no address is set."""
    match message.WhichOneof("ip"):
        case "ipv4":
            return IPv4Address(message.ipv4)
        case "ipv6":
            return IPv6Address((message.ipv6.first << 64) | message.ipv6.last)
        case _:
            return None


def socket_addr_to_message(addr: SocketAddr) -> net_pb2.TcpAddress:
    return net_pb2.TcpAddress(ip=ip_to_message(addr.ip), port=addr.port)


def socket_addr_from_message(message: net_pb2.TcpAddress) -> SocketAddr | None:
    ip = ip_from_message(message.ip)
    return None if ip is None else SocketAddr(ip, message.port)


def network_to_message(network: IpNetwork) -> net_pb2.IPNetwork:
    return net_pb2.IPNetwork(ip=ip_to_message(network.network_address), prefix_len=network.prefixlen)


def wants_profile(ip: IpAddress, networks: tuple[IpNetwork, ...]) -> bool:
    """Only addresses inside DESTINATION_PROFILE_NETWORKS are looked up (wire.md 2.1)."""
    return any(ip in network for network in networks)


def is_under(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a suffix covers the name, by whole labels; dots at the ends mean nothing."""
    name = name.strip(".").lower()
    return any(name == suffix or name.endswith(f".{suffix}") for suffix in (s.strip(".").lower() for s in suffixes))
