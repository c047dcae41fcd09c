"""What a name in the cluster's domain resolves to, after the Kubernetes DNS specification, version 1.1.0.

Tells three things apart: records, a name that exists without records of that type (NODATA), and one that does not exist
(NXDOMAIN). A client searching its domains goes on after NXDOMAIN and stops at NODATA, so mixing them up breaks lookups.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum
from typing import Final

from weft_local.dns.core.index import NameIndex, ServiceEntry, endpoint_label

TTL_S: Final = 5
SCHEMA_VERSION: Final = "1.1.0"


class RecordType(Enum):
    A = "A"
    AAAA = "AAAA"
    SRV = "SRV"
    PTR = "PTR"
    CNAME = "CNAME"
    TXT = "TXT"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class Record:
    """value: address, target name or text. port is for SRV only. Names are absolute, without the final dot."""

    name: str
    kind: RecordType
    value: str
    port: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """exists False is NXDOMAIN; exists with no records is NODATA. additional: addresses of SRV targets."""

    exists: bool
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()


NO_SUCH_NAME: Final = Answer(exists=False)
NO_DATA: Final = Answer(exists=True)


def resolve(index: NameIndex, name: str, kind: RecordType, domain: str) -> Answer | None:
    """name: any case, final dot optional. None when the name is not ours and the host's resolvers should be asked."""
    name = name.rstrip(".").lower()
    if reverse := _reversed_address(name):
        found = index.names_of(reverse)
        if not found:
            return None
        if kind is not RecordType.PTR:
            return NO_DATA
        return Answer(True, tuple(Record(name, RecordType.PTR, f"{host}.svc.{domain}") for host in found))
    if name != domain and not name.endswith(f".{domain}"):
        return None
    labels = name.removesuffix(domain).rstrip(".").split(".") if name != domain else []
    if not labels or labels == ["svc"]:
        return NO_DATA
    if labels == ["dns-version"]:
        return _only(Record(name, RecordType.TXT, SCHEMA_VERSION), kind)
    if labels[-1] == "pod":
        return _pod_name(name, labels, kind)
    if labels[-1] != "svc":
        return NO_SUCH_NAME
    return _service_name(index, name, labels[:-1], kind, domain)


def _service_name(index: NameIndex, name: str, labels: list[str], kind: RecordType, domain: str) -> Answer:
    if len(labels) == 1:
        return NO_DATA if index.has_namespace(labels[0]) else NO_SUCH_NAME
    *rest, service_name, namespace = labels
    service = index.service(namespace, service_name)
    if service is None:
        return NO_SUCH_NAME
    base = f"{service_name}.{namespace}.svc.{domain}"
    if service.external_name:
        target = service.external_name.rstrip(".").lower()
        return Answer(True, (Record(name, RecordType.CNAME, target),)) if not rest else NO_SUCH_NAME
    match rest:
        case []:
            return _addresses(index, service, name, service_name, namespace, kind)
        case [port, protocol] if port.startswith("_") and protocol.startswith("_"):
            return _srv(index, service, name, (port[1:], protocol[1:]), (service_name, namespace, base), kind)
        case [protocol] if protocol in ("_tcp", "_udp"):
            return NO_DATA
        case [label]:
            hits = [e for e in index.endpoints_of(namespace, service_name) if endpoint_label(e).lower() == label]
            dashed = [e for e in index.endpoints_of(namespace, service_name) if e.ip.replace(".", "-") == label]
            found = {e.ip for e in hits + dashed}
            if not found or service.cluster_ip:
                return NO_SUCH_NAME
            return _a_records(name, sorted(found), kind)
        case _:
            return NO_SUCH_NAME


def _addresses(
    index: NameIndex, service: ServiceEntry, name: str, service_name: str, namespace: str, kind: RecordType
) -> Answer:
    if service.cluster_ip:
        if kind is RecordType.SRV:
            return NO_DATA
        return _a_records(name, [service.cluster_ip], kind)
    ips = [endpoint.ip for endpoint in index.endpoints_of(namespace, service_name)]
    # A headless service without endpoints has no name: a client must not cache it as an empty success.
    return _a_records(name, ips, kind) if ips else NO_SUCH_NAME


def _srv(
    index: NameIndex,
    service: ServiceEntry,
    name: str,
    wanted: tuple[str, str],
    where: tuple[str, str, str],
    kind: RecordType,
) -> Answer:
    service_name, namespace, base = where
    if service.cluster_ip:
        ports = [p for p in service.ports if (p.name, p.protocol) == wanted]
        if not ports:
            return NO_SUCH_NAME
        records = tuple(Record(name, RecordType.SRV, base, p.number) for p in ports)
        additional: tuple[Record, ...] = (Record(base, RecordType.A, service.cluster_ip),)
        return Answer(True, records, additional) if kind is RecordType.SRV else NO_DATA
    ready = {e.ip for e in index.endpoints_of(namespace, service_name)}
    targets = [
        (f"{endpoint_label(e)}.{base}", e.ip, port.number)
        for entry in index.slices_of(namespace, service_name)
        for port in entry.ports
        if (port.name, port.protocol) == wanted
        for e in entry.endpoints
        if e.ip in ready
    ]
    if not targets:
        return NO_SUCH_NAME
    if kind is not RecordType.SRV:
        return NO_DATA
    return Answer(
        True,
        tuple(Record(name, RecordType.SRV, host, port) for host, _, port in targets),
        tuple(Record(host, RecordType.A, ip) for host, ip, _ in targets),
    )


def _pod_name(name: str, labels: list[str], kind: RecordType) -> Answer:
    """`10-250-0-5.namespace.pod`: the address is in the name itself."""
    if len(labels) != 3:
        return NO_DATA if len(labels) < 3 else NO_SUCH_NAME
    try:
        address = str(ipaddress.IPv4Address(labels[0].replace("-", ".")))
    except ValueError:
        return NO_SUCH_NAME
    return _a_records(name, [address], kind)


def _a_records(name: str, ips: list[str], kind: RecordType) -> Answer:
    if kind is RecordType.A:
        return Answer(True, tuple(Record(name, RecordType.A, ip) for ip in ips))
    return NO_DATA


def _only(record: Record, kind: RecordType) -> Answer:
    return Answer(True, (record,)) if kind is record.kind else NO_DATA


def _reversed_address(name: str) -> str | None:
    if not name.endswith(".in-addr.arpa"):
        return None
    parts = name.removesuffix(".in-addr.arpa").split(".")
    try:
        return str(ipaddress.IPv4Address(".".join(reversed(parts))))
    except ValueError:
        return None
