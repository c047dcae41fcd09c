"""Servers and who may reach them. Source: the Kubernetes contract, 3.3."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from weft_policy.core.mesh import IpNetwork
from weft_policy.core.objects import DefaultPolicy
from weft_policy.core.policy_objects import Operator, ServerProtocol
from weft_policy.validation.findings import Field, Finding
from weft_policy.validation.references import (
    MESH_TLS_AUTHENTICATION,
    NAMESPACE,
    NETWORK_AUTHENTICATION,
    ROUTES_OF_SERVERS,
    SERVER,
    SERVICE_ACCOUNT,
    shown,
    target_of,
)

# An optional wildcard in front, then labels.
_DNS_LIKE: Final = re.compile(r"(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_SPIFFE: Final = re.compile(r"spiffe://[a-z0-9._-]+((?:/[A-Za-z0-9._-]+)*)", re.ASCII)


def server(obj: Field) -> Iterator[Finding]:
    """A Server."""
    spec = obj["spec"]
    selectors = [name for name in ("podSelector", "externalWorkloadSelector") if spec[name]]
    if len(selectors) != 1:
        yield spec.finding("expected exactly one of podSelector and externalWorkloadSelector")
    for name in selectors:
        yield from _selector(spec[name])
    port = spec["port"]
    if not isinstance(port.value, str):
        port.whole(1, 65_535)
    elif not port.value:
        yield port.finding("expected a number or the name of a container port")
    yield from _one_of(spec["proxyProtocol"], [protocol.value for protocol in ServerProtocol])
    yield from _one_of(spec["accessPolicy"], [policy.value for policy in DefaultPolicy])


def server_authorization(obj: Field) -> Iterator[Finding]:
    """A ServerAuthorization."""
    spec = obj["spec"]
    named, client = spec["server"], spec["client"]
    if bool(named["name"]) == bool(named["selector"]):
        yield named.finding("expected exactly one of name and selector")
    if named["selector"]:
        yield from _selector(named["selector"])
    mesh_tls = client["meshTLS"]
    if mesh_tls:
        if client["unauthenticated"].flag():
            yield client["unauthenticated"].finding("must not be true beside meshTLS; keep one of them")
        someone = [*mesh_tls["identities"].items(), *mesh_tls["serviceAccounts"].items()]
        if mesh_tls["unauthenticatedTLS"].flag() and someone:
            message = "must not be true beside identities or serviceAccounts; keep one of them"
            yield mesh_tls["unauthenticatedTLS"].finding(message)
    yield from networks(client["networks"])


def authorization_policy(obj: Field) -> Iterator[Finding]:
    """An AuthorizationPolicy."""
    spec = obj["spec"]
    target = target_of(spec["targetRef"])
    if target == NAMESPACE:
        own, named = obj["metadata"]["namespace"].text("default"), spec["targetRef"]["name"]
        if named.text() != own:
            yield named.finding(f"cannot target another namespace ({named.text()}); a policy speaks for its own, {own}")
    elif target != SERVER and target not in ROUTES_OF_SERVERS:
        message = f"cannot target a {shown(spec['targetRef'])}; expected a Server, HTTPRoute, GRPCRoute or Namespace"
        yield spec["targetRef"]["kind"].finding(message)
    required = spec["requiredAuthenticationRefs"]
    if not required:
        yield required.finding("missing; an empty list admits everyone")
    yield from _required(required)


def _required(required: Field) -> Iterator[Finding]:
    refs = [(ref, target_of(ref)) for ref in required.items()]
    kinds = [target for _, target in refs]
    mesh, accounts = kinds.count(MESH_TLS_AUTHENTICATION), kinds.count(SERVICE_ACCOUNT)
    if mesh > 1:
        yield required.finding("only one MeshTLSAuthentication may be required; put the identities into one")
    if accounts > 1:
        yield required.finding("only one ServiceAccount may be required; use a MeshTLSAuthentication with both")
    if mesh and accounts:
        yield required.finding("a MeshTLSAuthentication and a ServiceAccount may not be required together")
    if kinds.count(NETWORK_AUTHENTICATION) > 1:
        yield required.finding("only one NetworkAuthentication may be required; put the networks into one")
    known = (MESH_TLS_AUTHENTICATION, SERVICE_ACCOUNT, NETWORK_AUTHENTICATION)
    for ref, target in refs:
        if target not in known:
            yield ref["kind"].finding(
                f"{shown(ref)} is no kind of authentication; "
                "expected MeshTLSAuthentication, NetworkAuthentication or ServiceAccount"
            )


def mesh_tls_authentication(obj: Field) -> Iterator[Finding]:
    """A MeshTLSAuthentication."""
    spec = obj["spec"]
    identities, refs = list(spec["identities"].items()), list(spec["identityRefs"].items())
    if bool(identities) == bool(refs):
        yield spec.finding("expected exactly one of identities and identityRefs, with at least one item")
    for identity in identities:
        if problem := identity_problem(identity.text()):
            yield identity.finding(problem)
    for ref in refs:
        target = target_of(ref)
        if target == NAMESPACE:
            if ref["namespace"]:
                yield ref["namespace"].finding("a reference to a Namespace has no namespace of its own; remove it")
        elif target != SERVICE_ACCOUNT:
            yield ref["kind"].finding(f"{shown(ref)} has no identity; expected ServiceAccount or Namespace")


def identity_problem(text: str) -> str:
    """Why this is no identity; empty when it is one."""
    if text.startswith("spiffe://"):
        found = _SPIFFE.fullmatch(text)
        if found is None or any(segment in (".", "..") for segment in found[1].split("/")):
            return f"{text!r} is no SPIFFE id: expected spiffe://trust-domain/path with plain path segments"
        return ""
    if not _DNS_LIKE.fullmatch(text):
        return f"{text!r} is no identity: expected a DNS name, with * as its first label at most, or a SPIFFE id"
    return ""


def network_authentication(obj: Field) -> Iterator[Finding]:
    """A NetworkAuthentication."""
    listed = obj["spec"]["networks"]
    if not any(listed.items()):
        yield listed.finding("at least one network is needed")
    yield from networks(listed)


def networks(listed: Field) -> Iterator[Finding]:
    """Networks with exceptions, wherever they are listed."""
    for network in listed.items():
        cidr = network["cidr"]
        net = _network(cidr)
        for exception in network["except"].items():
            hole = _network(exception)
            if _contains(hole, net):
                yield exception.finding(f"the exception {exception.text()} leaves nothing of {cidr.text()}")
            elif not _contains(net, hole):
                yield exception.finding(f"the exception {exception.text()} lies outside {cidr.text()}")


def _network(field: Field) -> IpNetwork:
    try:
        return ipaddress.ip_network(field.text(), strict=False)
    except ValueError as error:
        raise field.malformed("an address or CIDR such as 10.0.0.0/8") from error


def _contains(outer: IpNetwork, inner: IpNetwork) -> bool:
    return outer.version == inner.version and outer.prefixlen <= inner.prefixlen and inner.network_address in outer


def _selector(selector: Field) -> Iterator[Finding]:
    selector["matchLabels"].object()
    for expression in selector["matchExpressions"].items():
        expression["key"].text()
        expression["operator"].text()
        yield from _one_of(expression["operator"], [operator.value for operator in Operator])


def _one_of(field: Field, values: list[str]) -> Iterator[Finding]:
    if field and field.text() not in values:
        yield field.finding(f"{field.text()!r} is not one of {', '.join(values)}")
