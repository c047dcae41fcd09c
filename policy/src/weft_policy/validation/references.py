"""References to other objects. Group and kind compare without case; an empty group is core."""

from __future__ import annotations

from typing import Final, NamedTuple

from weft_policy.validation.findings import Field

POLICY_GROUP: Final = "policy.linkerd.io"
GATEWAY_GROUP: Final = "gateway.networking.k8s.io"


class Target(NamedTuple):
    """What a reference names, in lower case."""

    group: str
    kind: str


SERVER: Final = Target(POLICY_GROUP, "server")
SERVICE: Final = Target("core", "service")
EGRESS_NETWORK: Final = Target(POLICY_GROUP, "egressnetwork")
NAMESPACE: Final = Target("core", "namespace")
SERVICE_ACCOUNT: Final = Target("core", "serviceaccount")
MESH_TLS_AUTHENTICATION: Final = Target(POLICY_GROUP, "meshtlsauthentication")
NETWORK_AUTHENTICATION: Final = Target(POLICY_GROUP, "networkauthentication")
ROUTES_OF_SERVERS: Final = frozenset(
    {Target(POLICY_GROUP, "httproute"), Target(GATEWAY_GROUP, "httproute"), Target(GATEWAY_GROUP, "grpcroute")}
)


def target_of(ref: Field, *, group: str = "core", kind: str | None = None) -> Target:
    """group: of a reference that names none. kind: likewise; None makes it required."""
    named = ref["group"]
    return Target(((named.text() if named else group) or "core").lower(), ref["kind"].text(kind).lower())


def shown(ref: Field) -> str:
    """A reference's kind as a person would write it: ServiceAccount, or Server.policy.linkerd.io."""
    group, kind = ref["group"].text(""), ref["kind"].text("nothing")
    return f"{kind}.{group}" if group not in ("", "core") else kind
