"""Which clients a Server admits, from the objects that speak about it. Source: the wire contract, 3.2 and 3.3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, assert_never

from weft_policy.core.mesh import EVERYWHERE, IpNetwork, Mesh
from weft_policy.core.objects import DefaultPolicy, Name
from weft_policy.core.policy_objects import (
    AuthorizationPolicy,
    ClientNetwork,
    MeshTlsAuthentication,
    ObjectRef,
    Server,
    ServerAuthorization,
)
from weft_policy.core.policy_tables import PolicyTables, in_namespace
from weft_policy.core.routes import Route

POLICY_GROUP: Final = "policy.linkerd.io"


@dataclass(frozen=True, slots=True)
class Source:
    """The object behind something; group empty and kind `default` when only a default is."""

    group: str
    kind: str
    name: str


@unique
class Unidentified(Enum):
    """Clients whose identity does not matter."""

    ANYBODY = "anybody"
    ANY_TLS = "any mesh TLS"


@dataclass(frozen=True, slots=True)
class Identities:
    """Clients that proved one of these. A suffix without parts stands for whoever proved any."""

    exact: tuple[str, ...] = ()
    suffixes: tuple[tuple[str, ...], ...] = ()


Authentication = Unidentified | Identities
ANY_IDENTITY: Final = Identities(suffixes=((),))


@dataclass(frozen=True, slots=True)
class Authorization:
    """Clients from these networks that authenticate so may connect."""

    source: Source
    networks: tuple[ClientNetwork, ...]
    authentication: Authentication


def default_source(policy: DefaultPolicy) -> Source:
    """What stands behind a default."""
    return Source("", "default", policy.value)


def default_authorizations(policy: DefaultPolicy, mesh: Mesh) -> tuple[Authorization, ...]:
    """What a default policy permits."""
    networks: tuple[IpNetwork, ...]
    match policy:
        case DefaultPolicy.ALL_UNAUTHENTICATED | DefaultPolicy.AUDIT:
            networks, clients = EVERYWHERE, Unidentified.ANYBODY
        case DefaultPolicy.ALL_AUTHENTICATED:
            return (Authorization(default_source(policy), plain(EVERYWHERE), ANY_IDENTITY),)
        case DefaultPolicy.CLUSTER_UNAUTHENTICATED:
            networks, clients = mesh.cluster_networks, Unidentified.ANYBODY
        case DefaultPolicy.CLUSTER_AUTHENTICATED:
            return (Authorization(default_source(policy), plain(mesh.cluster_networks), ANY_IDENTITY),)
        case DefaultPolicy.DENY:
            return ()
        case _:
            assert_never(policy)
    return (Authorization(default_source(policy), plain(networks), clients),)


def server_authorizations(tables: PolicyTables, mesh: Mesh, server: Server) -> tuple[Authorization, ...]:
    """Everything that permits clients of a Server: policies, older authorizations, its own access policy.

    The first that fits a client is the one that is told, so what audits comes last.
    """
    policies = [policy for policy in _policies_of(tables, server.name.namespace) if _targets(policy.target, server)]
    return (
        *_permitted(tables, mesh, policies),
        *_from_server_authorizations(tables, mesh, server),
        *default_authorizations(server.access_policy, mesh),
        *_audited(policies),
    )


def route_authorizations(tables: PolicyTables, mesh: Mesh, server: Server, route: Route) -> tuple[Authorization, ...]:
    """What permits clients of one route beyond what permits them of its Server."""
    policies = [
        policy
        for policy in _policies_of(tables, route.name.namespace)
        if policy.target.is_a(route.id.group, route.id.kind) and policy.target.name == route.name.name
    ]
    permitted = _permitted(tables, mesh, policies)
    audited = _audited(policies)
    # A proxy looks at these before the Server's: whom the Server permits must not be told as audited.
    return (*permitted, *server_authorizations(tables, mesh, server), *audited) if audited else permitted


def plain(networks: Iterable[IpNetwork]) -> tuple[ClientNetwork, ...]:
    """Networks without exceptions."""
    return tuple(map(ClientNetwork, networks))


def identities_of(names: Iterable[str]) -> Identities:
    """`*` is anyone with an identity, `*.x.y` a suffix, all else literal. Sorted, without repeats."""
    exact: set[str] = set()
    suffixes: set[tuple[str, ...]] = set()
    for name in names:
        if name == "*":
            suffixes.add(())
        elif name.startswith("*."):
            suffixes.add(tuple(name.removeprefix("*.").split(".")))
        else:
            exact.add(name)
    return Identities(tuple(sorted(exact)), tuple(sorted(suffixes)))


def _policies_of(tables: PolicyTables, namespace: str) -> list[AuthorizationPolicy]:
    return in_namespace(tables.authorization_policies, namespace)


def _permitted(tables: PolicyTables, mesh: Mesh, policies: Iterable[AuthorizationPolicy]) -> tuple[Authorization, ...]:
    found = (_of_policy(tables, mesh, policy) for policy in policies)
    return tuple(authorization for authorization in found if authorization is not None)


def _audited(policies: Iterable[AuthorizationPolicy]) -> tuple[Authorization, ...]:
    """Everybody, told by the policy that would have refused them."""
    return tuple(
        Authorization(Source(POLICY_GROUP, "audit", policy.name.name), plain(EVERYWHERE), Unidentified.ANYBODY)
        for policy in policies
        if policy.is_audit
    )


def _targets(target: ObjectRef, server: Server) -> bool:
    if target.is_a(POLICY_GROUP, "Server"):
        return target.name == server.name.name
    return target.is_a("core", "Namespace") and target.name == server.name.namespace


def _of_policy(tables: PolicyTables, mesh: Mesh, policy: AuthorizationPolicy) -> Authorization | None:
    """None when a referent is missing or unknown: a requirement that cannot be read must not be dropped."""
    clients: list[Authentication] = []
    networks: list[tuple[ClientNetwork, ...]] = []
    for ref in policy.required:
        name = Name(ref.namespace or policy.name.namespace, ref.name)
        if ref.is_a(POLICY_GROUP, "MeshTLSAuthentication"):
            mesh_tls = tables.mesh_authentications.get(*name)
            if mesh_tls is None:
                return None
            clients.append(_of_mesh_tls(mesh_tls, mesh))
        elif ref.is_a("core", "ServiceAccount"):
            clients.append(identities_of([mesh.identity_of(name)]))
        elif ref.is_a(POLICY_GROUP, "NetworkAuthentication"):
            network = tables.network_authentications.get(*name)
            if network is None or not network.networks:
                return None
            networks.append(network.networks)
        else:
            return None
    if len(clients) > 1 or len(networks) > 1:
        return None
    return Authorization(
        Source(POLICY_GROUP, "authorizationpolicy", policy.name.name),
        networks[0] if networks else plain(EVERYWHERE),
        clients[0] if clients else Unidentified.ANYBODY,
    )


def _of_mesh_tls(authentication: MeshTlsAuthentication, mesh: Mesh) -> Identities:
    names = list(authentication.identities)
    for ref in authentication.refs:
        if ref.is_a("core", "ServiceAccount"):
            names.append(mesh.identity_of(Name(ref.namespace or authentication.name.namespace, ref.name)))
        elif ref.is_a("core", "Namespace"):
            names.append(mesh.identity_of(Name(ref.name, "*")))
    return identities_of(names)


def _from_server_authorizations(tables: PolicyTables, mesh: Mesh, server: Server) -> Iterator[Authorization]:
    for found in in_namespace(tables.server_authorizations, server.name.namespace):
        if not _names_server(found, server):
            continue
        clients = _clients_of(found, mesh)
        if clients is not None:
            yield Authorization(
                Source(POLICY_GROUP, "serverauthorization", found.name.name),
                found.networks or plain(mesh.cluster_networks),
                clients,
            )


def _names_server(authorization: ServerAuthorization, server: Server) -> bool:
    if isinstance(authorization.server, str):
        return authorization.server == server.name.name
    return authorization.server.selects(server.labels)


def _clients_of(authorization: ServerAuthorization, mesh: Mesh) -> Authentication | None:
    """None when it names nobody, which permits nobody."""
    if authorization.is_unauthenticated:
        return Unidentified.ANYBODY
    if authorization.is_any_tls:
        return Unidentified.ANY_TLS
    names = [*authorization.identities, *map(mesh.identity_of, authorization.service_accounts)]
    return identities_of(names) if names else None
