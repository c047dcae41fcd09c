"""Who is admitted where, by literal objects and by any order of events."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from weft_policy.core.authorization import ANY_IDENTITY, Authorization, Identities, Source, Unidentified, plain
from weft_policy.core.inbound import InboundServer, inbound_server_of
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import EVERYWHERE, Mesh
from weft_policy.core.names import WorkloadRef
from weft_policy.core.objects import DefaultPolicy, Name, Pod
from weft_policy.core.policy_objects import (
    AuthorizationPolicy,
    ClientNetwork,
    LabelExpression,
    LabelSelector,
    MeshTlsAuthentication,
    NetworkAuthentication,
    ObjectRef,
    Operator,
    Server,
    ServerAuthorization,
    ServerProtocol,
)

MESH = Mesh()
GROUP = "policy.linkerd.io"
WEB = Name("shop", "web-0")
POD = Pod(WEB, mesh="linkerd", labels=(("app", "web"),), named_ports=frozenset({("http", 8080), ("http", 8081)}))
SERVER = Server(Name("shop", "web"), "http", LabelSelector((("app", "web"),)), created="2026-01-02T00:00:00Z")
TO_SERVER = ObjectRef(GROUP, "Server", "web")
POLICY = AuthorizationPolicy(Name("shop", "p"), TO_SERVER)


def index_with(*objects: object) -> ClusterIndex:
    index = ClusterIndex()
    for obj in objects:
        put(index, obj)
    return index


def put(index: ClusterIndex, obj: object) -> None:
    tables = index.policy
    match obj:
        case Pod():
            index.pods.apply(obj.name, obj)
        case Server():
            tables.servers.apply(obj.name, obj)
        case ServerAuthorization():
            tables.server_authorizations.apply(obj.name, obj)
        case AuthorizationPolicy():
            tables.authorization_policies.apply(obj.name, obj)
        case MeshTlsAuthentication():
            tables.mesh_authentications.apply(obj.name, obj)
        case NetworkAuthentication():
            tables.network_authentications.apply(obj.name, obj)


def remove(index: ClusterIndex, obj: object) -> None:
    tables = index.policy
    match obj:
        case Server():
            tables.servers.delete(obj.name)
        case ServerAuthorization():
            tables.server_authorizations.delete(obj.name)
        case AuthorizationPolicy():
            tables.authorization_policies.delete(obj.name)
        case MeshTlsAuthentication():
            tables.mesh_authentications.delete(obj.name)


def server_at(index: ClusterIndex, port: int = 8080) -> InboundServer:
    found = inbound_server_of(index, MESH, WorkloadRef(WEB), port)
    assert isinstance(found, InboundServer)
    return found


def admitted(*objects: object) -> tuple[Authorization, ...]:
    return server_at(index_with(POD, SERVER, *objects)).authorizations


def test_a_server_without_authorizations_admits_nobody_on_every_port_of_its_name() -> None:
    index = index_with(POD, SERVER)
    expected = InboundServer(Source(GROUP, "server", "web"), ServerProtocol.DETECT, (), ())
    assert server_at(index, 8080) == server_at(index, 8081) == expected
    assert server_at(index, 9000).source == Source("", "default", "all-unauthenticated")


def test_the_oldest_server_wins_then_the_first_name() -> None:
    older = replace(SERVER, name=Name("shop", "z"), created="2026-01-01T00:00:00Z", protocol=ServerProtocol.GRPC)
    twin = replace(SERVER, name=Name("shop", "a"))
    assert server_at(index_with(POD, SERVER, twin)).source.name == "a"
    found = server_at(index_with(POD, SERVER, twin, older))
    assert (found.source.name, found.protocol) == ("z", ServerProtocol.GRPC)


def test_servers_of_other_namespaces_pods_and_workloads_say_nothing() -> None:
    strangers = (
        replace(SERVER, name=Name("bank", "web")),
        replace(SERVER, pods=None),
        replace(SERVER, pods=LabelSelector((("app", "other"),))),
    )
    for stranger in strangers:
        assert server_at(index_with(POD, stranger)).source.kind == "default"


def test_label_expressions_as_kubernetes_reads_them() -> None:
    labels = (("app", "web"),)
    cases = {
        (Operator.IN, "app"): True,
        (Operator.NOT_IN, "app"): False,
        (Operator.NOT_IN, "tier"): True,
        (Operator.EXISTS, "tier"): False,
        (Operator.DOES_NOT_EXIST, "tier"): True,
    }
    for (operator, key), expected in cases.items():
        selector = LabelSelector(expressions=(LabelExpression(key, operator, ("web",)),))
        assert selector.selects(labels) is expected, (operator, key)


def test_a_policy_without_requirements_admits_everyone_to_a_server_or_its_namespace() -> None:
    source = Source(GROUP, "authorizationpolicy", "p")
    everyone = (Authorization(source, plain(EVERYWHERE), Unidentified.ANYBODY),)
    assert admitted(POLICY) == everyone
    assert admitted(replace(POLICY, target=ObjectRef("", "namespace", "shop"))) == everyone
    assert admitted(replace(POLICY, target=ObjectRef("core", "Namespace", "bank"))) == ()
    assert admitted(replace(POLICY, target=ObjectRef(GROUP, "Server", "other"))) == ()


def test_identities_and_networks_are_both_required() -> None:
    who = MeshTlsAuthentication(
        Name("auth", "who"),
        identities=("*.a.b", "me.x"),
        refs=(ObjectRef("core", "ServiceAccount", "front"), ObjectRef("core", "Namespace", "ops")),
    )
    network = ClientNetwork(ipaddress.ip_network("10.0.0.0/8"), (ipaddress.ip_network("10.1.0.0/16"),))
    where = NetworkAuthentication(Name("shop", "where"), (network,))
    required = (
        ObjectRef(GROUP, "MeshTLSAuthentication", "who", "auth"),
        ObjectRef(GROUP, "NetworkAuthentication", "where"),
    )
    (found,) = admitted(replace(POLICY, required=required), who, where)
    tail = ("serviceaccount", "identity", "linkerd", "cluster", "local")
    assert found.networks == (network,)
    assert found.authentication == Identities(
        ("front.auth.serviceaccount.identity.linkerd.cluster.local", "me.x"), (("a", "b"), ("ops", *tail))
    )


def test_a_policy_whose_referent_is_missing_or_unreadable_admits_nobody() -> None:
    account = ObjectRef("core", "ServiceAccount", "front")
    for required in (
        (ObjectRef(GROUP, "MeshTLSAuthentication", "gone"),),
        (account, ObjectRef(GROUP, "NetworkAuthentication", "gone")),
        (account, account),
        (ObjectRef("core", "Secret", "x"),),
    ):
        assert admitted(replace(POLICY, required=required)) == ()


def test_server_authorizations_default_to_the_cluster_networks_and_never_to_everyone() -> None:
    name = Name("shop", "s")
    inside = plain(MESH.cluster_networks)
    source = Source(GROUP, "serverauthorization", "s")
    anybody = ServerAuthorization(name, "web", is_unauthenticated=True)
    assert admitted(anybody) == (Authorization(source, inside, Unidentified.ANYBODY),)
    assert admitted(replace(anybody, server=LabelSelector())) == admitted(anybody)
    assert admitted(replace(anybody, server="other")) == ()
    any_tls = ServerAuthorization(name, "web", is_any_tls=True)
    assert admitted(any_tls) == (Authorization(source, inside, Unidentified.ANY_TLS),)
    assert admitted(ServerAuthorization(name, "web", identities=("*",)))[0].authentication == ANY_IDENTITY
    assert admitted(ServerAuthorization(name, "web")) == ()


def test_the_access_policy_is_added_under_its_own_name() -> None:
    index = index_with(POD, replace(SERVER, access_policy=DefaultPolicy.AUDIT), POLICY)
    assert [a.source.name for a in server_at(index).authorizations] == ["p", "audit"]


AUTHENTICATION = MeshTlsAuthentication(Name("auth", "who"), identities=("me.x",))
OBJECTS = (
    SERVER,
    replace(SERVER, name=Name("shop", "a"), port=8080),
    POLICY,
    replace(POLICY, required=(ObjectRef(GROUP, "MeshTLSAuthentication", "who", "auth"),)),
    AUTHENTICATION,
    ServerAuthorization(Name("shop", "s"), "web", is_unauthenticated=True),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(OBJECTS), st.booleans()), max_size=20))
def test_after_any_events_the_answer_is_the_one_made_from_scratch_and_each_change_has_a_topic(
    events: list[tuple[object, bool]],
) -> None:
    index = index_with(POD)
    live: dict[tuple[type, Name], object] = {}
    for obj, is_added in events:
        before = server_at(index)
        index.take_changes()
        key = (type(obj), obj.name)  # type: ignore[attr-defined]
        if is_added:
            live[key] = obj
            put(index, obj)
        else:
            live.pop(key, None)
            remove(index, obj)
        assert server_at(index) == server_at(index_with(POD, *live.values()))
        assert server_at(index) == before or index.take_changes()
