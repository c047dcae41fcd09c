"""From the rules that exist and the settings to the iptables commands that are missing (kubernetes.md 2).

Only the nat table is touched: two chains of ours, and one jump into each. A second run flushes and refills the chains
and leaves the jumps alone, so it changes nothing. Arguments come without the binary; the runner picks that.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from weft_proxy.core.values import IpNetwork, PortRange

REDIRECT_CHAIN = "PROXY_INIT_REDIRECT"
OUTPUT_CHAIN = "PROXY_INIT_OUTPUT"
PORT_SLOTS_PER_RULE = 15
"""Limit of iptables' multiport match; a range takes two."""

Arguments = tuple[str, ...]


class Family(Enum):
    """The value is the IP version, as `ipaddress` counts."""

    V4 = 4
    V6 = 6


@dataclass(frozen=True, slots=True)
class FirewallSettings:
    """Ports may be ranges. proxy_uid and proxy_gid: 0 or less means no rule for it."""

    incoming_proxy_port: int
    outgoing_proxy_port: int
    proxy_uid: int = 0
    proxy_gid: int = 0
    ports_to_redirect: tuple[PortRange, ...] = ()
    inbound_ports_to_ignore: tuple[PortRange, ...] = ()
    outbound_ports_to_ignore: tuple[PortRange, ...] = ()
    subnets_to_ignore: tuple[IpNetwork, ...] = ()
    """Of both families; each pass takes its own."""


def plan(existing: str, settings: FirewallSettings, family: Family) -> list[Arguments]:
    """existing: the output of `iptables-save -t nat` for this family; empty when the table is."""
    return [
        *_chain(existing, REDIRECT_CHAIN, _inbound_rules(settings, family)),
        *_jump(existing, "PREROUTING", REDIRECT_CHAIN, "install-proxy-init-prerouting"),
        *_chain(existing, OUTPUT_CHAIN, _outbound_rules(settings)),
        *_jump(existing, "OUTPUT", OUTPUT_CHAIN, "install-proxy-init-output"),
    ]


def _inbound_rules(settings: FirewallSettings, family: Family) -> Iterator[Arguments]:
    yield from _ignore_ports(settings.inbound_ports_to_ignore)
    for subnet in settings.subnets_to_ignore:
        if subnet.version == family.value:
            yield ("-p", "all", "-s", str(subnet), "-j", "RETURN", *_comment(f"ignore-subnet-{subnet}"))
    to_proxy = ("-j", "REDIRECT", "--to-port", str(settings.incoming_proxy_port))
    if not settings.ports_to_redirect:
        yield ("-p", "tcp", *to_proxy, *_comment("redirect-all-incoming-to-proxy-port"))
    for ports in settings.ports_to_redirect:
        text = _port_text(ports)
        yield ("-p", "tcp", "--dport", text, *to_proxy, *_comment(f"redirect-port-{text}-to-proxy-port"))


def _outbound_rules(settings: FirewallSettings) -> Iterator[Arguments]:
    if settings.proxy_uid > 0:
        owner = ("-m", "owner", "--uid-owner", str(settings.proxy_uid))
        yield (*owner, "-j", "RETURN", *_comment("ignore-proxy-user-id"))
    if settings.proxy_gid > 0:
        owner = ("-m", "owner", "--gid-owner", str(settings.proxy_gid))
        yield (*owner, "-j", "RETURN", *_comment("ignore-proxy-group-id"))
    yield ("-o", "lo", "-j", "RETURN", *_comment("ignore-loopback"))
    yield from _ignore_ports(settings.outbound_ports_to_ignore)
    to_proxy = ("-j", "REDIRECT", "--to-port", str(settings.outgoing_proxy_port))
    yield ("-p", "tcp", *to_proxy, *_comment("redirect-all-outgoing-to-proxy-port"))


def _chain(existing: str, name: str, rules: Iterable[Arguments]) -> Iterator[Arguments]:
    present = any(line.startswith(f":{name} ") for line in existing.splitlines())
    yield ("-t", "nat", "-F" if present else "-N", name)
    for rule in rules:
        yield ("-t", "nat", "-A", name, *rule)


def _jump(existing: str, hook: str, chain: str, purpose: str) -> Iterator[Arguments]:
    present = any(
        words[:2] == ["-A", hook] and words[-2:] == ["-j", chain] for words in map(str.split, existing.splitlines())
    )
    if not present:
        yield ("-t", "nat", "-A", hook, *_comment(purpose), "-j", chain)


def _ignore_ports(ports: tuple[PortRange, ...]) -> Iterator[Arguments]:
    for group in port_groups(ports):
        text = ",".join(map(_port_text, group))
        yield ("-p", "tcp", "-m", "multiport", "--dports", text, "-j", "RETURN", *_comment(f"ignore-port-{text}"))


def port_groups(ports: tuple[PortRange, ...]) -> Iterator[list[PortRange]]:
    """The ports in order, in groups that each fit one multiport rule."""
    group: list[PortRange] = []
    used = 0
    for port in ports:
        slots = 1 if port.first == port.last else 2
        if used + slots > PORT_SLOTS_PER_RULE:
            yield group
            group, used = [], 0
        group.append(port)
        used += slots
    if group:
        yield group


def _port_text(ports: PortRange) -> str:
    return str(ports.first) if ports.first == ports.last else f"{ports.first}:{ports.last}"


def _comment(purpose: str) -> Arguments:
    return ("-m", "comment", "--comment", f"proxy-init/{purpose}")
