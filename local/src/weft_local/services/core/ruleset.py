"""ClusterIP as nftables rules: services and endpoints in, the text of one table out.

Shape: two maps from (address, protocol, port) to a chain or to a reject, looked up by hooks for forwarded and local
traffic; a chain per service port picks an endpoint at random. Replacing the table is one transaction, so there is no
moment without rules. Text is the same for the same input, so unchanged state costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from weft_common.kube.resource import ObjectKey


@dataclass(frozen=True, slots=True)
class ServicePort:
    """protocol: tcp or udp."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Service:
    """A service with an address of its own. client_affinity_s: None for none."""

    cluster_ip: str
    ports: tuple[ServicePort, ...]
    client_affinity_s: int | None = None


@dataclass(frozen=True, slots=True)
class Backends:
    """Ready endpoints of a service by port name and protocol: (address, port) each."""

    service: str
    by_port: Mapping[tuple[str, str], tuple[tuple[str, int], ...]]


def table_text(
    table: str,
    pod_cidr: IPv4Network,
    service_cidr: IPv4Network,
    services: Mapping[ObjectKey, Service],
    backends: Iterable[tuple[str, Backends]],
) -> str:
    """Input for `nft -f -`. backends: namespace and slice, several per service are joined."""
    targets: dict[tuple[ObjectKey, str, str], list[tuple[str, int]]] = {}
    for namespace, entry in backends:
        for (port_name, protocol), addresses in entry.by_port.items():
            targets.setdefault((ObjectKey(namespace, entry.service), port_name, protocol), []).extend(addresses)
    chains: list[str] = []
    jumps: list[str] = []
    rejects: list[str] = []
    for key in sorted(services):
        service = services[key]
        for port in service.ports:
            element = f"{service.cluster_ip} . {port.protocol} . {port.port}"
            found = sorted(set(targets.get((key, port.name, port.protocol), ())))
            if not found:
                rejects.append(element)
                continue
            chain = _chain_name(key, port)
            jumps.append(f"{element} : goto {chain}")
            chains.append(_chain(chain, key, port, found, service.client_affinity_s))
    # A pod that reaches itself through a service would see its own address as the client's and answer past us.
    themselves = [f"{ip} . {ip}" for ip in sorted({ip for found in targets.values() for ip, _ in found})]
    parts = [
        f"add table ip {table}",
        f"delete table ip {table}",
        f"table ip {table} {{",
        *chains,
        _map("services", "ipv4_addr . inet_proto . inet_service : verdict", jumps, kind="map"),
        _map("without_endpoints", "ipv4_addr . inet_proto . inet_service", rejects, kind="set"),
        _map("themselves", "ipv4_addr . ipv4_addr", themselves, kind="set"),
        _HOOKS.format(pod_cidr=pod_cidr, service_cidr=service_cidr),
        "}",
        "",
    ]
    return "\n".join(parts)


def _chain(name: str, key: ObjectKey, port: ServicePort, found: list[tuple[str, int]], affinity_s: int | None) -> str:
    lines = [f"\tchain {name} {{", f'\t\tcomment "{key.namespace}/{key.name}:{port.port}"']
    pairs = ", ".join(f"{number} : {ip} . {target}" for number, (ip, target) in enumerate(found))
    chooser = "numgen random" if affinity_s is None else "jhash ip saddr"
    lines.append(f"\t\tmeta l4proto {port.protocol} dnat ip to {chooser} mod {len(found)} map {{ {pairs} }}")
    lines.append("\t}")
    return "\n".join(lines)


def _map(name: str, kind_of_key: str, elements: list[str], *, kind: str) -> str:
    lines = [f"\t{kind} {name} {{", f"\t\ttype {kind_of_key}"]
    if elements:
        lines.append(f"\t\telements = {{ {', '.join(elements)} }}")
    lines.append("\t}")
    return "\n".join(lines)


def _chain_name(key: ObjectKey, port: ServicePort) -> str:
    identity = f"{key.namespace}/{key.name}/{port.name}/{port.protocol}/{port.port}"
    return "svc_" + hashlib.sha256(identity.encode()).hexdigest()[:12]


_HOOKS = """\tchain forwarded {{
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tip daddr . meta l4proto . th dport vmap @services
\t}}
\tchain local {{
\t\ttype nat hook output priority -100; policy accept;
\t\tip daddr . meta l4proto . th dport vmap @services
\t}}
\tchain answer_for_nobody {{
\t\tmeta l4proto tcp reject with tcp reset
\t\treject with icmp port-unreachable
\t}}
\tchain refuse_forwarded {{
\t\ttype filter hook forward priority filter; policy accept;
\t\tip daddr . meta l4proto . th dport @without_endpoints goto answer_for_nobody
\t\tip daddr {service_cidr} goto answer_for_nobody
\t}}
\tchain refuse_local {{
\t\ttype filter hook output priority filter; policy accept;
\t\tip daddr . meta l4proto . th dport @without_endpoints goto answer_for_nobody
\t\tip daddr {service_cidr} goto answer_for_nobody
\t}}
\tchain source {{
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tct status dnat ip saddr . ip daddr @themselves masquerade
\t\tip saddr {pod_cidr} ip daddr != {pod_cidr} ip daddr != 224.0.0.0/4 masquerade
\t}}"""


def service_from_json(raw: Mapping[str, Any]) -> Service | None:
    """None for one without an address: headless or ExternalName."""
    spec = raw.get("spec") or {}
    ip = spec.get("clusterIP") or ""
    if ip in ("", "None") or ":" in ip or spec.get("type") == "ExternalName":
        return None
    affinity = spec.get("sessionAffinity") == "ClientIP"
    return Service(
        cluster_ip=ip,
        ports=tuple(
            ServicePort(p.get("name") or "", (p.get("protocol") or "TCP").lower(), int(p["port"]))
            for p in spec.get("ports") or ()
            if (p.get("protocol") or "TCP") in ("TCP", "UDP")
        ),
        client_affinity_s=10800 if affinity else None,
    )


def backends_from_json(raw: Mapping[str, Any]) -> Backends | None:
    """None for a slice of no service or of another address family."""
    service = (raw["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
    if not service or raw.get("addressType", "IPv4") != "IPv4":
        return None
    ready = [
        address
        for endpoint in raw.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint.get("addresses") or ()
    ]
    by_port = {
        (p.get("name") or "", (p.get("protocol") or "TCP").lower()): tuple((ip, int(p["port"])) for ip in ready)
        for p in raw.get("ports") or ()
        if p.get("port")
    }
    return Backends(service, by_port)
