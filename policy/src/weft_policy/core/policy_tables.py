"""Tables of the authorization objects, and the lookups that inbound answers need.

Objects of a namespace speak only about that namespace; authentications may be referenced from anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from weft_policy.core.objects import Name
from weft_policy.core.policy_objects import (
    AuthorizationPolicy,
    MeshTlsAuthentication,
    NetworkAuthentication,
    RateLimit,
    Server,
    ServerAuthorization,
)
from weft_policy.core.tables import Table


class _Named(Protocol):
    @property
    def name(self) -> Name: ...


N = TypeVar("N", bound=_Named)


class PolicyTables:
    """server_changed: told the old and the new Server. namespace_changed: told whose other policy objects changed.

    authentications_changed: told that any did.
    """

    def __init__(
        self,
        server_changed: Callable[[Server | None, Server | None], None],
        namespace_changed: Callable[[str], None],
        authentications_changed: Callable[[], None],
    ) -> None:
        def of_namespace(old: _Named | None, new: _Named | None) -> None:
            found = new if new is not None else old
            assert found is not None, "a change has at least one side"
            namespace_changed(found.name.namespace)

        def of_authentication(_old: object, _new: object) -> None:
            authentications_changed()

        self.servers: Final = Table[Server](server_changed)
        self.server_authorizations: Final = Table[ServerAuthorization](of_namespace)
        self.authorization_policies: Final = Table[AuthorizationPolicy](of_namespace)
        self.rate_limits: Final = Table[RateLimit](of_namespace)
        self.mesh_authentications: Final = Table[MeshTlsAuthentication](of_authentication)
        self.network_authentications: Final = Table[NetworkAuthentication](of_authentication)


def in_namespace(table: Table[N], namespace: str) -> list[N]:
    """The objects of a namespace, by name, so that answers do not depend on the order of events."""
    found = (table.get(*name) for name in table.names_in(namespace))
    return [obj for obj in found if obj is not None]
