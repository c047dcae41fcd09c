"""Text of one setting to one value.

Owns the spellings that LINKERD2_PROXY_* variables use (wire.md 6). Knows no variable names; every parser raises
ValueError and the table in `variables` says what was expected.
"""

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

MAX_PORT = 65535
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


class AccessLogFormat(Enum):
    """Of the lines on stderr, one per inbound request (observability.md 7.2)."""

    APACHE = "apache"
    JSON = "json"


class DefaultPolicy(Enum):
    """What inbound ports admit until the policy service answers."""

    DENY = "deny"
    ALL_AUTHENTICATED = "all-authenticated"
    ALL_UNAUTHENTICATED = "all-unauthenticated"
    CLUSTER_AUTHENTICATED = "cluster-authenticated"
    CLUSTER_UNAUTHENTICATED = "cluster-unauthenticated"
    AUDIT = "audit"

    @property
    def needs_cluster_networks(self) -> bool:
        return self in (DefaultPolicy.CLUSTER_AUTHENTICATED, DefaultPolicy.CLUSTER_UNAUTHENTICATED, DefaultPolicy.AUDIT)


@dataclass(frozen=True, slots=True)
class SocketAddr:
    """A literal address and port, as in 127.0.0.1:4140 or [::1]:4140."""

    ip: IpAddress
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class HostPort:
    """A control-plane address. `text` keeps the configured spelling: it becomes the gRPC authority verbatim."""

    text: str
    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """A loopback literal, or `localhost.` with the dot. `localhost` without it is an ordinary name (wire.md 0)."""
        if self.host == "localhost.":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class PortRange:
    """Inclusive on both ends."""

    first: int
    last: int


def parse_text(text: str) -> str:
    return text


def parse_bool(text: str) -> bool:
    if text == "true":
        return True
    if text == "false":
        return False
    raise ValueError(text)


def parse_count(text: str) -> int:
    """A whole number that fits 32 bits."""
    if not (text.isascii() and text.isdigit()) or int(text) > 0xFFFF_FFFF:
        raise ValueError(text)
    return int(text)


def parse_ratio(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1e6:
        raise ValueError(text)
    return value


def parse_duration_ms(text: str) -> int:
    """Milliseconds of `250ms`, `3s`, `5m`, `1h`, `365d` or a bare `0`."""
    if text == "0":
        return 0
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return int(match[1]) * _UNIT_MS[match[2]]


def parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= MAX_PORT:
        raise ValueError(text)
    return int(text)


def parse_socket_addr(text: str) -> SocketAddr:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise ValueError(text)
    if host.startswith("[") and host.endswith("]"):
        return SocketAddr(IPv6Address(host[1:-1]), int(port))
    return SocketAddr(IPv4Address(host), int(port))


def parse_host_port(text: str) -> HostPort:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(text)
    if host.startswith("[") and host.endswith("]"):
        host = str(IPv6Address(host[1:-1]))
    elif not _HOST.fullmatch(host):
        raise ValueError(text)
    return HostPort(text, host, parse_port(port))


def parse_network(text: str) -> IpNetwork:
    """A network, or an address that stands for itself. Host bits are dropped, as the injector allows them."""
    return ip_network(text, strict=False)


def parse_port_range(text: str) -> PortRange:
    first, dash, last = text.partition("-")
    ports = PortRange(parse_port(first), parse_port(last) if dash else parse_port(first))
    if ports.first > ports.last:
        raise ValueError(text)
    return ports


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def parse_socket_addrs(text: str) -> tuple[SocketAddr, ...]:
    addrs = tuple(parse_socket_addr(item) for item in _items(text))
    if not 1 <= len(addrs) <= 2:
        raise ValueError(text)
    return addrs


def parse_ips(text: str) -> tuple[IpAddress, ...]:
    return tuple(ip_address(item) for item in _items(text))


def parse_networks(text: str) -> tuple[IpNetwork, ...]:
    return tuple(parse_network(item) for item in _items(text))


def parse_ports(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(parse_port(item) for item in _items(text)))


def parse_port_ranges(text: str) -> tuple[PortRange, ...]:
    return tuple(parse_port_range(item) for item in _items(text))


def parse_names(text: str) -> tuple[str, ...]:
    return tuple(_items(text))


def parse_access_log(text: str) -> AccessLogFormat:
    return AccessLogFormat(text.lower())


def parse_attributes(text: str) -> tuple[tuple[str, str], ...]:
    """`key=value` by the line, as the injector writes them, or by the comma, as OpenTelemetry does."""
    pairs = [part.strip().partition("=") for line in text.splitlines() for part in line.split(",") if part.strip()]
    if any(not key or not equals for key, equals, _ in pairs):
        raise ValueError(text)
    return tuple((key.strip(), value.strip()) for key, _, value in pairs)


def parse_default_policy(text: str) -> DefaultPolicy:
    return DefaultPolicy(text)
