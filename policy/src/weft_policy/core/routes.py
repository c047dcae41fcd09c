"""Routes of every kind as values, and the grants that let them name backends elsewhere.

Sources: Gateway API v1 (HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, ReferenceGrant) and the Kubernetes contract, 3.2.
A namespace that an object leaves out is the object's own, and is filled in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, unique
from typing import Final, NamedTuple

from weft_policy.core.mesh import IpNetwork
from weft_policy.core.objects import Name
from weft_policy.core.policy_objects import ClientNetwork, ObjectRef
from weft_policy.core.resilience import NO_TIMEOUTS, GrpcRetry, HttpRetry, Timeouts

GATEWAY_GROUP: Final = "gateway.networking.k8s.io"


@unique
class RouteKind(StrEnum):
    """In order of precedence: on one parent, a kind silences those after it."""

    GRPC = "GRPCRoute"
    HTTP = "HTTPRoute"
    TLS = "TLSRoute"
    TCP = "TCPRoute"


PRECEDENCE: Final = tuple(RouteKind)


@unique
class ParentKind(Enum):
    """What routes attach to; a parent of any other kind is somebody else's."""

    SERVICE = "Service"
    EGRESS_NETWORK = "EgressNetwork"
    SERVER = "Server"


class Parent(NamedTuple):
    """One object that routes attach to."""

    kind: ParentKind
    name: Name


@dataclass(frozen=True, slots=True)
class ParentRef:
    """port: None for every port. section: as written, empty when unset."""

    parent: Parent
    port: int | None = None
    section: str = ""


class RouteId(NamedTuple):
    """A route among all kinds."""

    group: str
    kind: RouteKind
    name: Name


@dataclass(frozen=True, slots=True)
class TextMatch:
    """A whole value, literally or by a regular expression."""

    value: str
    is_regex: bool = False


@unique
class PathKind(Enum):
    """How a path is compared; a prefix ends at a slash."""

    EXACT = "Exact"
    PREFIX = "PathPrefix"
    REGEX = "RegularExpression"


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A condition on the path."""

    kind: PathKind
    value: str


EVERY_PATH: Final = PathMatch(PathKind.PREFIX, "/")


@dataclass(frozen=True, slots=True)
class HttpMatch:
    """All parts must hold. headers, query_params: by name. method: empty for any."""

    path: PathMatch = EVERY_PATH
    headers: tuple[tuple[str, TextMatch], ...] = ()
    query_params: tuple[tuple[str, TextMatch], ...] = ()
    method: str = ""


@dataclass(frozen=True, slots=True)
class GrpcMatch:
    """service, method: empty for any."""

    service: str = ""
    method: str = ""
    headers: tuple[tuple[str, TextMatch], ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """Applied in the order add, set, remove."""

    on_response: bool
    add: tuple[tuple[str, str], ...] = ()
    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PathChange:
    """A new path, or a new prefix in place of the one that matched."""

    value: str
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class Redirect:
    """Sends the client elsewhere; empty and None keep what the request says."""

    scheme: str = ""
    host: str = ""
    path: PathChange | None = None
    port: int | None = None
    status: int = 302


@dataclass(frozen=True, slots=True)
class UrlRewrite:
    """Sends the request on under another host or path; empty and None keep the request's."""

    host: str = ""
    path: PathChange | None = None


@unique
class FailReason(Enum):
    """Why traffic is answered instead of sent on."""

    INVALID = "invalid"
    """The route or backend cannot be used: 500, gRPC UNAVAILABLE, a refused connection."""
    DENIED = "denied"
    """Policy says no: 403, gRPC PERMISSION_DENIED, a refused connection."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Answers every request with an error. message: for people."""

    reason: FailReason
    message: str


Filter = HeaderChange | Redirect | UrlRewrite | Fail


@dataclass(frozen=True, slots=True)
class BackendRef:
    """ref.namespace is never empty. port: None when unset. problem: why its share must fail, empty for none."""

    ref: ObjectRef
    port: int | None = None
    weight: int = 1
    filters: tuple[Filter, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RouteRule:
    """matches: any of them; empty for everything. backends: empty for the parent itself.

    request_timeout_ms, backend_timeout_ms, retry: of the rule's own fields; annotations of the route beat them.
    backend_timeout_ms: for each try, until its response has ended.
    """

    matches: tuple[HttpMatch | GrpcMatch, ...] = ()
    filters: tuple[Filter, ...] = ()
    backends: tuple[BackendRef, ...] = ()
    name: str = ""
    request_timeout_ms: int | None = None
    backend_timeout_ms: int | None = None
    retry: HttpRetry | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """created: RFC 3339, empty when unknown. hostnames: empty for any; `*.` opens a suffix; server names for TLS.

    problems: why it cannot be used at all, one line each. mistakes: annotations that were left out of it.
    """

    id: RouteId
    parents: tuple[ParentRef, ...] = ()
    rules: tuple[RouteRule, ...] = ()
    hostnames: tuple[str, ...] = ()
    created: str = ""
    timeouts: Timeouts = NO_TIMEOUTS
    http_retry: HttpRetry | None = None
    grpc_retry: GrpcRetry | None = None
    problems: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()

    @property
    def name(self) -> Name:
        """Namespace and name."""
        return self.id.name


@dataclass(frozen=True, slots=True)
class EgressNetwork:
    """Destinations outside the cluster. networks: empty for everything that is not the cluster's.

    annotations: those of retries, timeouts and load balancing, sorted pairs.
    """

    name: Name
    allows: bool
    networks: tuple[ClientNetwork, ...] = ()
    created: str = ""
    annotations: tuple[tuple[str, str], ...] = ()


class GrantedFrom(NamedTuple):
    """Who is trusted."""

    group: str
    kind: str
    namespace: str


class GrantedTo(NamedTuple):
    """What may be named. name: empty for every object of the kind."""

    group: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class ReferenceGrant:
    """Lets routes of other namespaces name objects of its own."""

    name: Name
    sources: tuple[GrantedFrom, ...] = ()
    targets: tuple[GrantedTo, ...] = ()

    def permits(self, source: GrantedFrom, target: ObjectRef) -> bool:
        """Whether a reference from there to an object of this namespace is allowed."""
        group = "" if target.group == "core" else target.group
        return source in self.sources and any(
            to.group in (group, target.group) and to.kind == target.kind and to.name in ("", target.name)
            for to in self.targets
        )


def contains(network: EgressNetwork, address: IpNetwork, cluster: tuple[IpNetwork, ...]) -> int | None:
    """How many leading bits of an address (a network of one) the narrowest fitting block fixes; None when outside.

    cluster: the cluster's networks, which a network without list leaves out.
    """
    if not network.networks:
        return None if any(_inside(address, block) for block in cluster) else 0
    fitting = [
        block.net.prefixlen
        for block in network.networks
        if _inside(address, block.net) and not any(_inside(address, hole) for hole in block.exceptions)
    ]
    return max(fitting, default=None)


def covers(outer: IpNetwork, inner: IpNetwork) -> bool:
    """Whether all of one block lies in another."""
    return _inside(inner, outer) and inner.prefixlen >= outer.prefixlen


def _inside(address: IpNetwork, block: IpNetwork) -> bool:
    return address.version == block.version and address.network_address in block
