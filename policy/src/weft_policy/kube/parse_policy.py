"""Raw authorization objects to values; raises as `kube.parse` does for what it cannot read."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from weft_common.kube.resource import Resource

from weft_policy.core.objects import DefaultPolicy, Name
from weft_policy.core.policy_objects import (
    AuthorizationPolicy,
    ClientNetwork,
    LabelExpression,
    Labels,
    LabelSelector,
    MeshTlsAuthentication,
    NetworkAuthentication,
    ObjectRef,
    Operator,
    RateLimit,
    RateOverride,
    Server,
    ServerAuthorization,
    ServerProtocol,
)

Raw = dict[str, Any]

_GROUP: Final = "policy.linkerd.io"
SERVERS: Final = Resource(_GROUP, "v1beta3", "servers", "Server")
SERVER_AUTHORIZATIONS: Final = Resource(_GROUP, "v1beta1", "serverauthorizations", "ServerAuthorization")
AUTHORIZATION_POLICIES: Final = Resource(_GROUP, "v1alpha1", "authorizationpolicies", "AuthorizationPolicy")
MESH_AUTHENTICATIONS: Final = Resource(_GROUP, "v1alpha1", "meshtlsauthentications", "MeshTLSAuthentication")
NETWORK_AUTHENTICATIONS: Final = Resource(_GROUP, "v1alpha1", "networkauthentications", "NetworkAuthentication")
RATE_LIMITS: Final = Resource(_GROUP, "v1alpha1", "httplocalratelimitpolicies", "HTTPLocalRateLimitPolicy")

AUDIT: Final = "policy.weft.dev/audit"
"""On an AuthorizationPolicy: `true` admits the clients that it would refuse, and says so in metrics and decisions."""


def parse_server(raw: Raw) -> Server:
    """A Server."""
    spec, metadata = raw["spec"], raw["metadata"]
    pods, workloads = spec.get("podSelector"), spec.get("externalWorkloadSelector")
    if pods is None and workloads is None:
        raise ValueError("a Server needs podSelector or externalWorkloadSelector")
    return Server(
        name=object_name(raw),
        port=spec["port"],
        pods=None if pods is None else _selector(pods),
        workloads=None if workloads is None else _selector(workloads),
        protocol=ServerProtocol(spec.get("proxyProtocol") or "unknown"),
        access_policy=DefaultPolicy(spec.get("accessPolicy") or "deny"),
        labels=labels_of(metadata.get("labels")),
        created=metadata.get("creationTimestamp") or "",
    )


def parse_server_authorization(raw: Raw) -> ServerAuthorization:
    """A ServerAuthorization."""
    name, spec = object_name(raw), raw["spec"]
    server, client = spec["server"], spec.get("client") or {}
    tls = client.get("meshTLS") or {}
    return ServerAuthorization(
        name=name,
        server=server["name"] if server.get("name") else _selector(server["selector"]),
        is_unauthenticated=bool(client.get("unauthenticated")),
        is_any_tls=bool(tls.get("unauthenticatedTLS")),
        identities=tuple(tls.get("identities") or ()),
        service_accounts=tuple(
            Name(account.get("namespace") or name.namespace, account["name"])
            for account in tls.get("serviceAccounts") or ()
        ),
        networks=client_networks(client.get("networks")),
    )


def parse_authorization_policy(raw: Raw) -> AuthorizationPolicy:
    """An AuthorizationPolicy."""
    spec = raw["spec"]
    # Without this list the object would admit everyone by omission; only an empty list says so.
    return AuthorizationPolicy(
        name=object_name(raw),
        target=_ref(spec["targetRef"]),
        required=_refs(spec["requiredAuthenticationRefs"]),
        is_audit=(raw["metadata"].get("annotations") or {}).get(AUDIT) == "true",
    )


def parse_mesh_authentication(raw: Raw) -> MeshTlsAuthentication:
    """A MeshTLSAuthentication."""
    spec = raw["spec"]
    return MeshTlsAuthentication(
        object_name(raw), tuple(spec.get("identities") or ()), _refs(spec.get("identityRefs") or ())
    )


def parse_network_authentication(raw: Raw) -> NetworkAuthentication:
    """A NetworkAuthentication."""
    return NetworkAuthentication(object_name(raw), client_networks(raw["spec"]["networks"]))


def parse_rate_limit(raw: Raw) -> RateLimit:
    """An HTTPLocalRateLimitPolicy."""
    name, spec = object_name(raw), raw["spec"]
    target = _ref(spec["targetRef"])
    if not target.is_a(_GROUP, "Server"):
        raise ValueError("targetRef: expected a Server")

    def rate(limit: Raw | None) -> int | None:
        return None if limit is None else int(limit["requestsPerSecond"])

    return RateLimit(
        name=name,
        server=target.name,
        total=rate(spec.get("total")),
        identity=rate(spec.get("identity")),
        overrides=tuple(
            RateOverride(
                int(each["requestsPerSecond"]),
                tuple(Name(ref.get("namespace") or name.namespace, ref["name"]) for ref in each["clientRefs"]),
            )
            for each in spec.get("overrides") or ()
        ),
        created=raw["metadata"].get("creationTimestamp") or "",
    )


def labels_of(raw: Raw | None) -> Labels:
    """Labels as sorted pairs."""
    return tuple(sorted((raw or {}).items()))


def object_name(raw: Raw) -> Name:
    """Namespace and name of a namespaced object."""
    return Name(raw["metadata"]["namespace"], raw["metadata"]["name"])


def _selector(raw: Raw) -> LabelSelector:
    return LabelSelector(
        labels_of(raw.get("matchLabels")),
        tuple(
            LabelExpression(e["key"], Operator(e["operator"]), tuple(e.get("values") or ()))
            for e in raw.get("matchExpressions") or ()
        ),
    )


def _refs(raw: Any) -> tuple[ObjectRef, ...]:
    return tuple(_ref(ref) for ref in raw)


def _ref(raw: Raw) -> ObjectRef:
    return ObjectRef(raw.get("group") or "core", raw["kind"], raw["name"], raw.get("namespace") or "")


def client_networks(raw: Any) -> tuple[ClientNetwork, ...]:
    """Networks with their exceptions; empty when there are none."""
    return tuple(
        ClientNetwork(
            ipaddress.ip_network(network["cidr"], strict=False),
            tuple(ipaddress.ip_network(text, strict=False) for text in network.get("except") or ()),
        )
        for network in raw or ()
    )
