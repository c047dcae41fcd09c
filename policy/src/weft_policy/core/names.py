"""What proxies ask for, as text and as values: targets, client tokens, workloads.

Reads strings from the wire; a string that cannot be read becomes a Refusal value, never an exception.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from weft_policy.core.objects import Name

DEFAULT_PORT: Final = 80


@unique
class RefusalCode(Enum):
    """The gRPC code a refusal ends a call with."""

    INVALID_ARGUMENT = "invalid argument"
    NOT_FOUND = "not found"
    FAILED_PRECONDITION = "failed precondition"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Refusal:
    """There is no answer. message: for people."""

    code: RefusalCode
    message: str


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """A port of a Service. instance: the hostname of one of its pods, empty for all of them."""

    service: Name
    port: int
    instance: str = ""


@dataclass(frozen=True, slots=True)
class AddressTarget:
    """An address, in canonical spelling, and a port."""

    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, as far as the answer depends on it. Everything may be empty."""

    namespace: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadRef:
    """A pod, or an external workload."""

    name: Name
    is_external: bool = False


def target_from_path(path: str, cluster_domain: str) -> ServiceTarget | AddressTarget | Refusal:
    """Read `host[:port]` with the port defaulting to 80; a name must be inside svc.<cluster domain>."""
    host, port = _split_port(path)
    if port is None:
        return _invalid(f"{path!r} has no usable port: expected 1 to 65535")
    if ip := canonical_ip(host):
        return AddressTarget(ip, port)
    suffix = f".svc.{cluster_domain}"
    name = host.removesuffix(".")
    if not name.endswith(suffix):
        return _invalid(f"{path!r} is not of the form <service>.<namespace>{suffix}[:port]")
    labels = name.removesuffix(suffix).split(".")
    if not all(labels) or len(labels) not in (2, 3):
        return _invalid(f"{path!r} is not of the form [<instance>.]<service>.<namespace>{suffix}[:port]")
    *instance, service, namespace = labels
    return ServiceTarget(Name(namespace, service), port, "".join(instance))


def canonical_ip(text: str) -> str | None:
    """The usual spelling of an address, None when it is none. Brackets of IPv6 are optional."""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def client_from_token(token: str) -> Client:
    """Read a context token: JSON with ns, nodeName, pod, or the old `ns:<namespace>`. Anything else is nobody."""
    if token.startswith("ns:"):
        return Client(namespace=token.removeprefix("ns:"))
    fields = _json_strings(token)
    return Client(namespace=fields.get("ns", ""), node=fields.get("nodeName", ""))


def workload_from_token(token: str) -> WorkloadRef | Refusal:
    """Read a workload: JSON with ns and either pod or external_workload, or the old `ns:pod`."""
    if token.startswith("{"):
        fields = _json_strings(token)
        namespace, pod, external = (fields.get(key, "") for key in ("ns", "pod", "external_workload"))
        if namespace and not pod and external:
            return WorkloadRef(Name(namespace, external), is_external=True)
    else:
        namespace, _, pod = token.partition(":")
    if not namespace or not pod:
        return _invalid(f"{token!r} names no workload: expected a JSON object with ns and pod")
    return WorkloadRef(Name(namespace, pod))


def _split_port(path: str) -> tuple[str, int | None]:
    host, colon, port = path.rpartition(":")
    # A bare IPv6 address has colons too; a port after one needs brackets.
    if not colon or path.endswith("]") or (":" in host and not host.startswith("[")):
        return path, DEFAULT_PORT
    usable = port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535
    return host, int(port) if usable else None


def _json_strings(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {str(key): item for key, item in value.items() if isinstance(item, str)}


def _invalid(message: str) -> Refusal:
    return Refusal(RefusalCode.INVALID_ARGUMENT, message)
