"""Whatever happens, in whatever order: views are what an index made from scratch would answer, and so are clients.

Changes are applied together at random, as loop turns do; clients read late, drop and reconnect at random.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weft_destination.answers import (
    EndpointQuestion,
    OutboundQuestion,
    ProfileQuestion,
    ServerQuestion,
    make_answers,
)
from weft_destination.views import View
from weft_policy.core.endpoints import Address, EndpointSet, Locality, endpoints_of
from weft_policy.core.inbound import inbound_server_of
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import AddressTarget, Refusal, ServiceTarget, WorkloadRef
from weft_policy.core.objects import Name
from weft_policy.core.outbound import outbound_policy_of
from weft_policy.core.profile import profile_of
from weft_policy.kube.kinds import KINDS, apply_object
from weft_policy.wire.encode_common import ip_from_message
from weft_policy.wire.encode_destination import full_update, updates_between
from weft_proto.linkerd import destination_pb2 as pb

Raw = dict[str, Any]

MESH = Mesh(uses_ipv6=True)
WEB = ServiceTarget(Name("shop", "web"), 80)
EVERYTHING = """
- {kind: Service, metadata: {name: web}, spec: {clusterIP: 10.0.0.1, ports: [{port: 80, name: http}]}}
- {kind: Service, metadata: {name: web}, spec: {clusterIP: 10.0.0.9, ports: [{port: 80, name: http}]}}
- kind: Service
  metadata: {name: web, annotations: {config.linkerd.io/opaque-ports: "80", retry.linkerd.io/http: 5xx}}
  spec: {clusterIP: 10.0.0.1, internalTrafficPolicy: Local, ports: [{port: 80, name: http}]}
- {kind: Service, metadata: {name: web}, spec: {type: ExternalName, externalName: example.com}}
- {kind: Service, metadata: {name: v2}, spec: {clusterIP: 10.0.0.2, ports: [{port: 80}]}}
- {kind: Service, metadata: {name: api, namespace: other}, spec: {clusterIP: 10.0.0.3, ports: [{port: 80}]}}
- {kind: Namespace, metadata: {name: shop, annotations: {config.linkerd.io/opaque-ports: "8080"}}}
- {kind: Namespace, metadata: {name: shop, annotations: {config.linkerd.io/default-inbound-policy: deny}}}
- {kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}}
- {kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: b}}}
- apiVersion: apps/v1
  kind: ReplicaSet
  metadata: {name: rs, ownerReferences: [{kind: Deployment, name: web, controller: true}]}
- kind: Pod
  metadata: {name: p0, labels: &meshed {app: web, linkerd.io/control-plane-ns: linkerd}}
  spec: {nodeName: n1, containers: &app [{name: app, ports: [{name: http, containerPort: 8080}]}]}
  status: {phase: Running, podIPs: [{ip: 10.1.0.1}, {ip: "fd00::1"}]}
- kind: Pod
  metadata:
    name: p0
    labels: *meshed
    ownerReferences: [{kind: ReplicaSet, name: rs, controller: true}]
    annotations: {config.linkerd.io/opaque-ports: "8080"}
  spec: {nodeName: n1, containers: *app}
  status: {phase: Running, podIPs: [{ip: 10.1.0.1}]}
- kind: Pod
  metadata: {name: p1}
  spec: {nodeName: n1, containers: [{name: app, ports: [{containerPort: 8080, hostPort: 9000}]}]}
  status: {phase: Running, hostIP: 192.168.0.1, podIPs: [{ip: 10.1.0.2}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: s4, labels: &web {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: &ports [{name: http, port: 8080}]
  endpoints:
  - {addresses: [10.1.0.1], hostname: p0, targetRef: {kind: Pod, name: p0}}
  - {addresses: [10.1.0.2], targetRef: {kind: Pod, name: p1}, conditions: {ready: false}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: s4, labels: *web}
  addressType: IPv4
  ports: *ports
  endpoints:
  - {addresses: [10.1.0.2], targetRef: {kind: Pod, name: p1}, hints: {forZones: [{name: a}]}}
  - {addresses: [192.0.2.7], targetRef: {kind: ExternalWorkload, name: vm}, hints: {forZones: [{name: b}]}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: s6, labels: *web}
  addressType: IPv6
  ports: *ports
  endpoints: [{addresses: ["fd00::1"], targetRef: {kind: Pod, name: p0}}]
- apiVersion: workload.linkerd.io/v1beta1
  kind: ExternalWorkload
  metadata: {name: vm, labels: {app: web}}
  spec: {meshTLS: {identity: vm, serverName: vm}, workloadIPs: [{ip: 192.0.2.7}], ports: [{port: 8080, name: http}]}
- apiVersion: policy.linkerd.io/v1beta3
  kind: Server
  metadata: {name: web}
  spec: {podSelector: {matchLabels: {app: web}}, port: http, proxyProtocol: opaque}
- apiVersion: policy.linkerd.io/v1beta3
  kind: Server
  metadata: {name: web}
  spec: {podSelector: {}, port: 8080}
- apiVersion: policy.linkerd.io/v1beta3
  kind: Server
  metadata: {name: vms}
  spec: {externalWorkloadSelector: {}, port: http, proxyProtocol: opaque}
- apiVersion: policy.linkerd.io/v1alpha1
  kind: AuthorizationPolicy
  metadata: {name: who}
  spec:
    targetRef: {group: policy.linkerd.io, kind: Server, name: web}
    requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: all, namespace: other}]
- apiVersion: policy.linkerd.io/v1alpha1
  kind: MeshTLSAuthentication
  metadata: {name: all, namespace: other}
  spec: {identities: ["*"]}
- apiVersion: policy.linkerd.io/v1alpha1
  kind: HTTPLocalRateLimitPolicy
  metadata: {name: limit}
  spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, total: {requestsPerSecond: 9}}
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  metadata: {name: split}
  spec:
    parentRefs: [&parent {group: "", kind: Service, name: web, namespace: shop}]
    rules: [{backendRefs: [{name: v2, port: 80}, {name: api, namespace: other, port: 80}]}]
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  metadata: {name: split}
  spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}], rules: [{}]}
- apiVersion: policy.linkerd.io/v1beta3
  kind: HTTPRoute
  metadata: {name: consumer, namespace: client}
  spec: {parentRefs: [*parent], rules: [{backendRefs: [{name: api, namespace: other, port: 80}]}]}
- apiVersion: gateway.networking.k8s.io/v1
  kind: GRPCRoute
  metadata: {name: rpc}
  spec: {parentRefs: [*parent], rules: [{}]}
- apiVersion: gateway.networking.k8s.io/v1alpha2
  kind: TCPRoute
  metadata: {name: raw, namespace: client}
  spec:
    parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: out, port: 443}]
    rules: [{backendRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: out}]}]
- apiVersion: gateway.networking.k8s.io/v1beta1
  kind: ReferenceGrant
  metadata: {name: open, namespace: other}
  spec:
    from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
    to: [{group: "", kind: Service}]
- apiVersion: policy.linkerd.io/v1alpha1
  kind: EgressNetwork
  metadata: {name: out, namespace: client}
  spec: {trafficPolicy: Deny}
- apiVersion: policy.linkerd.io/v1alpha1
  kind: EgressNetwork
  metadata: {name: out, namespace: linkerd-egress}
  spec: {trafficPolicy: Allow}
- apiVersion: linkerd.io/v1alpha2
  kind: ServiceProfile
  metadata: {name: web.shop.svc.cluster.local, namespace: client}
  spec: {dstOverrides: [{authority: v2.shop.svc.cluster.local, weight: 1}]}
"""


def objects() -> Iterator[Raw]:
    for raw in yaml.safe_load(EVERYTHING):
        yield {"apiVersion": "v1", **raw, "metadata": {"namespace": "shop", **raw["metadata"]}}


OBJECTS = tuple(objects())
TABLES = {(kind.resource.group, kind.resource.kind): kind for kind in KINDS}


def identity_of(raw: Raw) -> tuple[tuple[str, str], tuple[str, str]]:
    group = raw["apiVersion"].rpartition("/")[0]
    kind = TABLES[(group, raw["kind"])]
    namespace = raw["metadata"]["namespace"] if kind.resource.namespaced else ""
    return (group, raw["kind"]), (namespace, raw["metadata"]["name"])


def put(index: ClusterIndex, raw: Raw) -> None:
    (kind, key) = identity_of(raw)
    found = TABLES[kind]
    metadata = {**raw["metadata"], "namespace": key[0]}
    if found.resource.namespaced:
        assert apply_object(index, {**raw, "metadata": metadata})
    else:
        found.table(index).apply(key, found.parse(raw))


@dataclass
class Client:
    """A proxy's side of a Get stream: the contract's rules for each message (wire contract, 2.2)."""

    view: View[EndpointSet | Refusal]
    sent: EndpointSet | None = None
    have: dict[Address, bytes] = field(default_factory=dict)

    def read(self) -> None:
        value = self.view.value
        if isinstance(value, Refusal):
            self.reconnect()
            return
        is_first = self.sent is None
        for update in updates_between(self.sent, value):
            self.apply(pb.Update.FromString(update.SerializeToString()), is_first=is_first)
            is_first = False
        self.sent = value

    def reconnect(self) -> None:
        self.sent = None

    def apply(self, update: pb.Update, *, is_first: bool) -> None:
        match update.WhichOneof("update"):
            case "add":
                added = decoded(update)
                self.have = added if is_first else self.have | added
            case "remove" if not is_first:
                for addr in update.remove.addrs:
                    self.have.pop(Address(str(ip_from_message(addr.ip)), addr.port), None)
            case "no_endpoints":
                self.have = {}


def decoded(update: pb.Update) -> dict[Address, bytes]:
    return {
        Address(str(ip_from_message(a.addr.ip)), a.addr.port): a.SerializeToString(deterministic=True)
        for a in update.add.addrs
    }


ENDPOINTS = [
    EndpointQuestion(target, locality)
    for target in (WEB, ServiceTarget(WEB.service, 80, "p0"), ServiceTarget(WEB.service, 8080))
    for locality in (Locality(), Locality("a"), Locality("a", "n1"))
]
TARGETS = (WEB, AddressTarget("10.0.0.1", 80), AddressTarget("10.1.0.1", 8080), AddressTarget("192.0.2.7", 8080))
PROFILES = [
    ProfileQuestion(target, "a", namespace)
    for target in (*TARGETS, AddressTarget("192.168.0.1", 9000), ServiceTarget(WEB.service, 80, "p0"))
    for namespace in ("shop", "client")
]
OUTBOUND = [
    OutboundQuestion(target, namespace)
    for target in (*TARGETS, AddressTarget("93.184.216.34", 443))
    for namespace in ("shop", "client")
]
INBOUND = [
    ServerQuestion(WorkloadRef(Name("shop", "p0")), 8080),
    ServerQuestion(WorkloadRef(Name("shop", "vm"), is_external=True), 8080),
]

# Put an object, or take it away; then perhaps let the loop turn; then perhaps have a client read or reconnect.
STEPS = st.lists(
    st.tuples(
        st.integers(0, len(OBJECTS) - 1),
        st.sampled_from([True, True, True, False]),
        st.booleans(),
        st.sampled_from(["wait", "wait", "read", "reconnect"]),
        st.integers(0, len(ENDPOINTS) - 1),
    ),
    min_size=20,
    max_size=80,
)


@given(STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_views_and_clients_end_where_an_index_made_from_scratch_would(steps: list[Any]) -> None:
    asyncio.run(follow(steps))


@dataclass(frozen=True)
class Followed:
    """Every view of every kind, held open."""

    endpoints: list[View[Any]]
    profiles: list[View[Any]]
    outbound: list[View[Any]]
    inbound: list[View[Any]]

    def check(self, index: ClusterIndex) -> None:
        """Every view says what this index answers."""
        for asked, view in zip(ENDPOINTS, self.endpoints, strict=True):
            assert view.value == endpoints_of(index, MESH, asked.target, asked.locality), asked
        for profile, view in zip(PROFILES, self.profiles, strict=True):
            wanted = profile_of(index, MESH, profile.target, profile.client_zone, profile.client_namespace)
            assert view.value == wanted, profile
        for outbound, view in zip(OUTBOUND, self.outbound, strict=True):
            assert view.value == outbound_policy_of(index, MESH, outbound.target, outbound.client_namespace), outbound
        for server, view in zip(INBOUND, self.inbound, strict=True):
            assert view.value == inbound_server_of(index, MESH, server.workload, server.port), server


async def follow(steps: list[Any]) -> None:
    answers = make_answers(MESH)
    present: dict[Any, Raw] = {}
    with ExitStack() as stack:
        enter = stack.enter_context
        views = Followed(
            [enter(answers.endpoints.open(question)) for question in ENDPOINTS],
            [enter(answers.profiles.open(question)) for question in PROFILES],
            [enter(answers.outbound.open(question)) for question in OUTBOUND],
            [enter(answers.inbound.open(question)) for question in INBOUND],
        )
        clients = [Client(view) for view in views.endpoints]
        for number, is_there, turns, act, which in steps:
            raw = OBJECTS[number]
            kind, key = identity_of(raw)
            if is_there:
                present[kind, key] = raw
                put(answers.index, raw)
            else:
                present.pop((kind, key), None)
                TABLES[kind].table(answers.index).delete(key)
            if turns:
                await asyncio.sleep(0)
                views.check(answers.index)
            if act == "read":
                clients[which].read()
            elif act == "reconnect":
                clients[which].reconnect()
        await asyncio.sleep(0)
        scratch = ClusterIndex()
        for raw in present.values():
            put(scratch, raw)
        views.check(scratch)
        for client in clients:
            client.read()
            if isinstance(client.view.value, EndpointSet):
                assert client.have == decoded(full_update(client.view.value))
