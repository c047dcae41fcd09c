"""Authorization objects as values. Source: the Kubernetes contract, 3.2."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from weft_policy.core.mesh import IpNetwork
from weft_policy.core.objects import DefaultPolicy, Name

Labels = tuple[tuple[str, str], ...]


@unique
class ServerProtocol(Enum):
    """How a proxy treats connections to a port. The value is the Server's word."""

    DETECT = "unknown"
    HTTP1 = "HTTP/1"
    HTTP2 = "HTTP/2"
    GRPC = "gRPC"
    OPAQUE = "opaque"
    TLS = "TLS"


@unique
class Operator(Enum):
    """How a label expression compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class LabelExpression:
    """One requirement on a label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether these labels satisfy it; a missing label satisfies NotIn, as in Kubernetes."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold; none selects everything."""

    labels: Labels = ()
    expressions: tuple[LabelExpression, ...] = ()

    def selects(self, labels: Labels) -> bool:
        """Whether something with these labels is meant."""
        found = dict(labels)
        return all(found.get(key) == value for key, value in self.labels) and all(
            expression.matches(found) for expression in self.expressions
        )


@dataclass(frozen=True, slots=True)
class ClientNetwork:
    """Addresses inside net and outside every exception."""

    net: IpNetwork
    exceptions: tuple[IpNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """group: `core` for the core group. namespace: empty for the referrer's own."""

    group: str
    kind: str
    name: str
    namespace: str = ""

    def is_a(self, group: str, kind: str) -> bool:
        """Whether it names this kind; case does not count."""
        return (self.group.lower() or "core", self.kind.lower()) == (group.lower(), kind.lower())


@dataclass(frozen=True, slots=True)
class Server:
    """A port of selected pods or external workloads; the other is None. created: RFC 3339; sorts as text."""

    name: Name
    port: int | str
    pods: LabelSelector | None = LabelSelector()
    workloads: LabelSelector | None = None
    protocol: ServerProtocol = ServerProtocol.DETECT
    access_policy: DefaultPolicy = DefaultPolicy.DENY
    labels: Labels = ()
    created: str = ""


@dataclass(frozen=True, slots=True)
class ServerAuthorization:
    """server: a Server's name, or a selector of Servers. networks: empty for the cluster's."""

    name: Name
    server: str | LabelSelector
    is_unauthenticated: bool = False
    is_any_tls: bool = False
    identities: tuple[str, ...] = ()
    service_accounts: tuple[Name, ...] = ()
    networks: tuple[ClientNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorizationPolicy:
    """Clients that satisfy every required authentication may reach the target.

    is_audit: whoever else comes is let in too, and counted as audited. Ours, by annotation.
    """

    name: Name
    target: ObjectRef
    required: tuple[ObjectRef, ...] = ()
    is_audit: bool = False


@dataclass(frozen=True, slots=True)
class MeshTlsAuthentication:
    """Any of these identities, `*` forms included, or of these accounts and namespaces."""

    name: Name
    identities: tuple[str, ...] = ()
    refs: tuple[ObjectRef, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkAuthentication:
    """Any of these networks."""

    name: Name
    networks: tuple[ClientNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class RateOverride:
    """A rate of their own for some clients."""

    requests_per_second: int
    clients: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests per second to a Server of its namespace: in total, of each identity, of chosen ones. None: no limit."""

    name: Name
    server: str
    total: int | None = None
    identity: int | None = None
    overrides: tuple[RateOverride, ...] = ()
    created: str = ""
