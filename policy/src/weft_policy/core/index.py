"""Cluster state as one plain value: a table per kind, the lookups that answers need, and what changed since last asked.

One writer (the informers, on one event loop). A change is reported as topics: names of facts that an answer may rest
on. Whoever holds answers re-makes those whose topics changed. Equal objects change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, NamedTuple, TypeVar, assert_never

from weft_policy.core.objects import ExternalWorkload, Name, Namespace, Node, Pod, ReplicaSet, Service, Slice
from weft_policy.core.policy_objects import Server, ServerProtocol
from weft_policy.core.policy_tables import PolicyTables
from weft_policy.core.ports import PortSet
from weft_policy.core.route_tables import RouteTables
from weft_policy.core.routes import Parent, ParentKind
from weft_policy.core.service_profiles import ServiceProfile
from weft_policy.core.tables import Postings, Table

T = TypeVar("T")


@unique
class TopicKind(Enum):
    """What kind of fact changed."""

    SERVICE = "service"
    """A Service, its slices, or anything its endpoints are described by. key: (namespace, name)."""
    POD = "pod"
    """A pod or its namespace's defaults. key: (namespace, name)."""
    WORKLOAD = "workload"
    """An external workload or its namespace's defaults. key: (namespace, name)."""
    ADDRESS = "address"
    """Who answers at an IP. key: (address, "")."""
    NODES = "nodes"
    """Zones of nodes. key: ("", "")."""
    POLICY = "policy"
    """Who may reach the Servers of a namespace. key: (namespace, "")."""
    AUTHENTICATIONS = "authentications"
    """Authentications, which policies of any namespace may require. key: ("", "")."""
    ROUTES = "routes"
    """A Service itself, the routes attached to it, and what these name. key: (namespace, name)."""
    EGRESS = "egress"
    """Egress networks and the routes attached to them. key: ("", "")."""
    STATUS = "status"
    """What the status of a route or policy tells. key: ("", "")."""


class Topic(NamedTuple):
    """One fact."""

    kind: TopicKind
    key: tuple[str, str]


NODES_TOPIC: Final = Topic(TopicKind.NODES, ("", ""))
AUTHENTICATIONS_TOPIC: Final = Topic(TopicKind.AUTHENTICATIONS, ("", ""))
EGRESS_TOPIC: Final = Topic(TopicKind.EGRESS, ("", ""))
STATUS_TOPIC: Final = Topic(TopicKind.STATUS, ("", ""))


def service_topic(name: Name) -> Topic:
    """Changes of a Service and its endpoints."""
    return Topic(TopicKind.SERVICE, name)


def routes_topic(name: Name) -> Topic:
    """Changes of where a Service's traffic goes."""
    return Topic(TopicKind.ROUTES, name)


def pod_topic(name: Name) -> Topic:
    """Changes of a pod."""
    return Topic(TopicKind.POD, name)


def workload_topic(name: Name) -> Topic:
    """Changes of an external workload."""
    return Topic(TopicKind.WORKLOAD, name)


def policy_topic(namespace: str) -> Topic:
    """Changes of a namespace's policy objects."""
    return Topic(TopicKind.POLICY, (namespace, ""))


def address_topic(address: str) -> Topic:
    """Changes of who answers at an address."""
    return Topic(TopicKind.ADDRESS, (address, ""))


@dataclass(frozen=True, slots=True)
class _Lookups:
    services_by_address: Postings[str, Name]
    services_by_namespace: Postings[str, Name]
    slices_by_service: Postings[Name, Name]
    slices_by_pod: Postings[Name, Name]
    pods_by_address: Postings[str, Name]
    pods_by_host_port: Postings[tuple[str, int], Name]
    pods_by_namespace: Postings[str, Name]
    pods_by_replica_set: Postings[Name, Name]
    workloads_by_address: Postings[str, Name]
    slices_by_workload: Postings[Name, Name]


class ClusterIndex:
    """Everything known of the cluster. on_change: called after each mutation that left topics behind."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self.services: Final = Table[Service](self._service_changed)
        self.slices: Final = Table[Slice](self._slice_changed)
        self.pods: Final = Table[Pod](self._pod_changed)
        self.namespaces: Final = Table[Namespace](self._namespace_changed)
        self.nodes: Final = Table[Node](self._node_changed)
        self.replica_sets: Final = Table[ReplicaSet](self._replica_set_changed)
        self.profiles: Final = Table[ServiceProfile](self._profile_changed)
        self.external_workloads: Final = Table[ExternalWorkload](self._workload_changed)
        self.policy: Final = PolicyTables(
            self._server_changed,
            lambda namespace: self._report({policy_topic(namespace), STATUS_TOPIC}),
            lambda: self._report({AUTHENTICATIONS_TOPIC}),
        )
        self.routes: Final = RouteTables(self._parents_changed, lambda: self._report({EGRESS_TOPIC, STATUS_TOPIC}))
        self._by: Final = _Lookups(*(Postings() for _ in range(10)))
        self._changed: set[Topic] = set()
        self._on_change = on_change

    def take_changes(self) -> set[Topic]:
        """What changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def services_at(self, address: str) -> list[Service]:
        """Services with this cluster IP."""
        found = (self.services.get(*name) for name in self._by.services_by_address.get(address))
        return [service for service in found if service is not None]

    def slices_of(self, service: Name) -> list[Slice]:
        """Slices of a Service, by name."""
        found = (self.slices.get(*name) for name in self._by.slices_by_service.get(service))
        return [piece for piece in found if piece is not None]

    def running_pods_at(self, address: str) -> list[Pod]:
        """Running pods with this address of their own."""
        return self._running(self._by.pods_by_address.get(address))

    def running_pods_at_host_port(self, address: str, port: int) -> list[Pod]:
        """Running pods that publish this port on a node with this address."""
        return self._running(self._by.pods_by_host_port.get((address, port)))

    def workloads_at(self, address: str) -> list[ExternalWorkload]:
        """External workloads with this address."""
        found = (self.external_workloads.get(*name) for name in self._by.workloads_by_address.get(address))
        return [workload for workload in found if workload is not None]

    def zone_of(self, node: str) -> str:
        """The zone of a node, empty when unknown."""
        found = self.nodes.get("", node)
        return found.zone if found else ""

    def opaque_ports_of(self, own: PortSet | None, namespace: str) -> PortSet | None:
        """An object's own annotation, else its namespace's, else None."""
        if own is not None:
            return own
        found = self.namespaces.get("", namespace)
        return found.opaque_ports if found else None

    def _running(self, names: Iterable[Name]) -> list[Pod]:
        found = (self.pods.get(*name) for name in names)
        return [pod for pod in found if pod is not None and pod.is_running]

    def _report(self, topics: Iterable[Topic]) -> None:
        self._changed.update(topics)
        if self._changed:
            self._on_change()

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        name = _either(old, new).name
        old_ips, new_ips = (old.cluster_ips if old else ()), (new.cluster_ips if new else ())
        self._by.services_by_address.move(name, old_ips, new_ips)
        self._by.services_by_namespace.move(name, (), (name.namespace,))
        if new is None:
            self._by.services_by_namespace.move(name, (name.namespace,), ())
        topics = {service_topic(name), routes_topic(name), *map(address_topic, {*old_ips, *new_ips})}
        if parents := self.routes.parents_naming(name):
            topics |= self._parent_topics(parents)
        if self.routes.attached_to(Parent(ParentKind.SERVICE, name)) or parents:
            topics.add(STATUS_TOPIC)
        self._report(topics)

    def _parents_changed(self, parents: set[Parent]) -> None:
        self._report(self._parent_topics(parents) | {STATUS_TOPIC})

    def _parent_topics(self, parents: set[Parent]) -> set[Topic]:
        topics: set[Topic] = set()
        for kind, name in parents:
            match kind:
                case ParentKind.SERVICE:
                    service = self.services.get(*name)
                    topics |= {routes_topic(name), *map(address_topic, service.cluster_ips if service else ())}
                case ParentKind.EGRESS_NETWORK:
                    topics.add(EGRESS_TOPIC)
                case ParentKind.SERVER:
                    topics.add(policy_topic(name.namespace))
                case _:
                    assert_never(kind)
        return topics

    def _slice_changed(self, old: Slice | None, new: Slice | None) -> None:
        name = _either(old, new).name
        old_services, new_services = ({piece.service} if piece else set() for piece in (old, new))
        self._by.slices_by_service.move(name, old_services, new_services)
        self._by.slices_by_pod.move(name, _pods_in(old), _pods_in(new))
        self._by.slices_by_workload.move(name, _workloads_in(old), _workloads_in(new))
        self._report(map(service_topic, old_services | new_services))

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        name = _either(old, new).name
        self._by.pods_by_address.move(name, _addresses(old), _addresses(new))
        self._by.pods_by_host_port.move(name, _host_ports(old), _host_ports(new))
        self._by.pods_by_replica_set.move(name, _replica_sets(old), _replica_sets(new))
        self._by.pods_by_namespace.move(name, (), (name.namespace,))
        if new is None:
            self._by.pods_by_namespace.move(name, (name.namespace,), ())
        addresses = {*_addresses(old), *_addresses(new), *(ip for ip, _ in (*_host_ports(old), *_host_ports(new)))}
        self._report({*self._pod_topics(name), *map(address_topic, addresses)})

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        self._report(self._namespace_topics(_either(old, new).name))

    def _namespace_topics(self, namespace: str) -> set[Topic]:
        """Everything that is described by its namespace's objects."""
        topics: set[Topic] = set()
        for service_name in self._by.services_by_namespace.get(namespace):
            service = self.services.get(*service_name)
            topics |= {service_topic(service_name), routes_topic(service_name)}
            topics.update(map(address_topic, service.cluster_ips if service else ()))
        for pod_name in self._by.pods_by_namespace.get(namespace):
            topics |= self._pod_topics(pod_name) | self._pod_address_topics(pod_name)
        for workload_name in self.external_workloads.names_in(namespace):
            workload = self.external_workloads.get(*workload_name)
            topics |= self._workload_topics(workload_name)
            topics.update(map(address_topic, workload.ips if workload else ()))
        return topics

    def _workload_changed(self, old: ExternalWorkload | None, new: ExternalWorkload | None) -> None:
        name = _either(old, new).name
        old_ips, new_ips = (old.ips if old else ()), (new.ips if new else ())
        self._by.workloads_by_address.move(name, old_ips, new_ips)
        self._report(self._workload_topics(name) | set(map(address_topic, {*old_ips, *new_ips})))

    def _workload_topics(self, name: Name) -> set[Topic]:
        """The workload, and every Service whose slices point at it."""
        found = (self.slices.get(*piece) for piece in self._by.slices_by_workload.get(name))
        return {workload_topic(name), *(service_topic(piece.service) for piece in found if piece is not None)}

    def _server_changed(self, old: Server | None, new: Server | None) -> None:
        namespace = _either(old, new).name.namespace
        topics = {policy_topic(namespace), STATUS_TOPIC}
        if any(server is not None and server.protocol is ServerProtocol.OPAQUE for server in (old, new)):
            # Clients are told which ports are opaque together with the endpoints.
            topics |= self._namespace_topics(namespace)
        self._report(topics)

    def _profile_changed(self, old: ServiceProfile | None, new: ServiceProfile | None) -> None:
        service = _either(old, new).service
        if service is not None:
            found = self.services.get(*service)
            self._report({service_topic(service), *map(address_topic, found.cluster_ips if found else ())})

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if (old.zone if old else "") != (new.zone if new else ""):
            self._report({NODES_TOPIC})

    def _replica_set_changed(self, old: ReplicaSet | None, new: ReplicaSet | None) -> None:
        topics: set[Topic] = set()
        for pod_name in self._by.pods_by_replica_set.get(_either(old, new).name):
            topics |= self._pod_topics(pod_name) | self._pod_address_topics(pod_name)
        self._report(topics)

    def _pod_topics(self, name: Name) -> set[Topic]:
        """The pod, and every Service whose slices point at it."""
        topics = {pod_topic(name)}
        for slice_name in self._by.slices_by_pod.get(name):
            piece = self.slices.get(*slice_name)
            if piece is not None:
                topics.add(service_topic(piece.service))
        return topics

    def _pod_address_topics(self, name: Name) -> set[Topic]:
        pod = self.pods.get(*name)
        return {address_topic(ip) for ip in (*_addresses(pod), *(ip for ip, _ in _host_ports(pod)))}


def _either(old: T | None, new: T | None) -> T:
    found = new if new is not None else old
    assert found is not None, "a change has at least one side"
    return found


def _pods_in(piece: Slice | None) -> set[Name]:
    return {endpoint.pod for endpoint in piece.endpoints if endpoint.pod} if piece else set()


def _workloads_in(piece: Slice | None) -> set[Name]:
    return {endpoint.workload for endpoint in piece.endpoints if endpoint.workload} if piece else set()


def _addresses(pod: Pod | None) -> tuple[str, ...]:
    # A pod on the host's network shares its node's address, which therefore says nothing about it.
    return pod.ips if pod and not pod.is_host_network else ()


def _host_ports(pod: Pod | None) -> set[tuple[str, int]]:
    if pod is None or not pod.host_ip:
        return set()
    return {(published.host_ip or pod.host_ip, published.host_port) for published in pod.host_ports}


def _replica_sets(pod: Pod | None) -> tuple[Name, ...]:
    if pod is None or pod.owner is None or pod.owner.kind != "ReplicaSet":
        return ()
    return (Name(pod.name.namespace, pod.owner.name),)
