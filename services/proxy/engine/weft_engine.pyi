"""Compiled data path of the Weft proxy. Messages are those of `weft.engine.v1`, serialized."""

from ipaddress import IPv4Address, IPv6Address

VERSION: str

class Engine:
    """One proxy's data path. Every method may be called from any thread."""

    def __init__(self, settings: bytes) -> None: ...
    """Raises ValueError, naming the field, when the `Settings` cannot be used."""
    def start(self) -> None: ...
    """Opens the control tunnels and the admin port. Raises OSError."""
    def event_fd(self) -> int: ...
    """Readable while events wait."""
    def drain_events(self) -> list[bytes]: ...
    def apply(self, command: bytes) -> None: ...
    """Raises ValueError for a `Command` that cannot be used, OSError when a listener cannot be opened."""
    def metrics(self) -> bytes: ...
    """Prometheus text without the final `# EOF`."""
    def decisions(self, asked: bytes) -> bytes: ...
    """asked: a `weft.decision.v1.ListDecisions`. A `DecisionList`. Raises ValueError for what is no such message."""
    def stop(self) -> None: ...

def generate_key_and_csr(name: str) -> tuple[bytes, bytes]:
    """Private key (PKCS#8 DER) and signing request (DER) for a workload's DNS name. Raises ValueError."""

def verify_leaf(leaf: bytes, intermediates: list[bytes], anchors_pem: str, name: str) -> None:
    """Raises ValueError unless the leaf (DER) is for `name` and chains to an anchor now."""

def outbound_rule(
    policy: bytes, is_http2: bool, method: str, authority: str, target: str, headers: list[tuple[str, str]]
) -> tuple[int, int] | None:
    """Places of the route and the rule of an `OutboundPolicy` that take the request; None when none do. target: path
    and query. Raises ValueError for a request that cannot be, or a policy that no proxy would use."""

def reception(
    server: bytes,
    method: str,
    authority: str,
    target: str,
    headers: list[tuple[str, str]],
    client: IPv4Address | IPv6Address,
    client_id: str | None,
) -> tuple[bool, tuple[int, int] | None, tuple[str, str, str] | None]:
    """Whether a route of an inbound `Server` takes the request, which (None on servers without routes), and group, kind
    and name of what admits the client (None when nothing does). client_id: None without mesh TLS. Raises as above."""
