"""Tables of routes, grants and egress networks, and which routes attach where.

A change is reported as the parents whose traffic it may move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from weft_policy.core.objects import Name
from weft_policy.core.policy_tables import in_namespace
from weft_policy.core.routes import (
    GATEWAY_GROUP,
    EgressNetwork,
    Parent,
    ReferenceGrant,
    Route,
    RouteId,
    RouteKind,
)
from weft_policy.core.tables import Postings, Table

POLICY_GROUP: Final = "policy.linkerd.io"
ROUTE_KINDS: Final = (
    (GATEWAY_GROUP, RouteKind.GRPC),
    (GATEWAY_GROUP, RouteKind.HTTP),
    (POLICY_GROUP, RouteKind.HTTP),
    (GATEWAY_GROUP, RouteKind.TLS),
    (GATEWAY_GROUP, RouteKind.TCP),
)


class RouteTables:
    """parents_changed: told of parents whose routes, or what these name, changed.

    egress_changed: told that any egress network did.
    """

    def __init__(self, parents_changed: Callable[[set[Parent]], None], egress_changed: Callable[[], None]) -> None:
        self._parents_changed = parents_changed
        self.routes: Final = {kind: Table[Route](self._route_changed) for kind in ROUTE_KINDS}
        self.grants: Final = Table[ReferenceGrant](self._grant_changed)
        self.egress_networks: Final = Table[EgressNetwork](lambda _old, _new: egress_changed())
        self._by_parent: Final = Postings[Parent, RouteId]()
        self._by_backend: Final = Postings[Name, RouteId]()

    def all(self) -> Iterator[Route]:
        """Every route, in no order."""
        for table in self.routes.values():
            for name in table.names():
                route = table.get(*name)
                if route is not None:
                    yield route

    def get(self, route_id: RouteId) -> Route | None:
        """One route."""
        return self.routes[(route_id.group, route_id.kind)].get(*route_id.name)

    def named(self, group: str, kind: str, name: tuple[str, str]) -> Route | None:
        """One route, by the words of the API; None too where they name no kind of route."""
        table = self.routes.get((group, RouteKind(kind))) if kind in set(RouteKind) else None
        return table.get(*name) if table else None

    def attached_to(self, parent: Parent) -> list[Route]:
        """Routes that name this parent: oldest first, then by name, those of unknown age last."""
        found = (self.get(route_id) for route_id in self._by_parent.get(parent))
        return sorted((route for route in found if route is not None), key=route_order)

    def parents_naming(self, backend: Name) -> set[Parent]:
        """Parents of routes that have this Service as a backend."""
        found = (self.get(route_id) for route_id in self._by_backend.get(backend))
        return {ref.parent for route in found if route is not None for ref in route.parents}

    def grants_in(self, namespace: str) -> list[ReferenceGrant]:
        """Grants of a namespace, by name."""
        return in_namespace(self.grants, namespace)

    def networks_in(self, namespace: str) -> list[EgressNetwork]:
        """Egress networks of a namespace, by name."""
        return in_namespace(self.egress_networks, namespace)

    def _route_changed(self, old: Route | None, new: Route | None) -> None:
        route = new if new is not None else old
        assert route is not None, "a change has at least one side"
        self._by_parent.move(route.id, _parents(old), _parents(new))
        self._by_backend.move(route.id, _backends(old), _backends(new))
        self._parents_changed(_parents(old) | _parents(new))

    def _grant_changed(self, _old: ReferenceGrant | None, _new: ReferenceGrant | None) -> None:
        # Grants change seldom, and which routes one reaches takes as long to say as to look at all.
        self._parents_changed(set(self._by_parent.keys()))


def route_order(route: Route) -> tuple[bool, str, Name, str]:
    """Which of two routes that match equally well is asked first. Source: Gateway API, HTTPRouteRule."""
    return (not route.created, route.created, route.name, route.id.group)


def _parents(route: Route | None) -> set[Parent]:
    return {ref.parent for ref in route.parents} if route is not None else set()


def _backends(route: Route | None) -> set[Name]:
    if route is None:
        return set()
    refs = (backend.ref for rule in route.rules for backend in rule.backends)
    return {Name(ref.namespace, ref.name) for ref in refs if ref.is_a("core", "Service")}
