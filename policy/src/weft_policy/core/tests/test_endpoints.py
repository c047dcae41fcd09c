"""Which endpoints a client is told, and how to speak to each, from objects as the API has them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from weft_policy.core.endpoints import Address, Endpoint, EndpointSet, Locality, ProtocolHint, endpoints_of
from weft_policy.core.inbound import InboundServer, inbound_server_of
from weft_policy.core.index import ClusterIndex, service_topic
from weft_policy.core.mesh import Mesh
from weft_policy.core.names import AddressTarget, Refusal, ServiceTarget, WorkloadRef
from weft_policy.core.objects import Name
from weft_policy.core.policy_objects import ServerProtocol
from weft_policy.core.profile import EndpointProfileAnswer, profile_of
from weft_policy.kube.kinds import apply_object, index_from_objects
from weft_policy.wire.encode_destination import weighted_addr

WEB = ServiceTarget(Name("shop", "web"), 80)
MANIFESTS = """
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80, name: http}]}
---
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web, linkerd.io/control-plane-ns: linkerd}}
spec: {nodeName: n1, containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.1.0.1}, {ip: "fd00::1"}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: four, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.1], hostname: web-0, targetRef: {kind: Pod, name: web-0}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: six, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["fd00::1"], targetRef: {kind: Pod, name: web-0}}]
"""
VM = """
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata:
  name: vm
  namespace: shop
  labels: {app: vm, topology.kubernetes.io/zone: east}
  ownerReferences: [{kind: ExternalGroup, name: vms, controller: true}]
spec:
  meshTLS: {identity: "spiffe://root/vm", serverName: vm.example.com}
  workloadIPs: [{ip: 192.0.2.7}]
  ports: [{name: http, port: 8080}, {name: linkerd-proxy, port: 5143}]
status: {conditions: [{type: Ready, status: "True"}]}
"""
VM_SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: vms, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [192.0.2.7], targetRef: {kind: ExternalWorkload, name: vm}}]
"""


def index_of(*texts: str) -> ClusterIndex:
    return index_from_objects(raw for text in texts for raw in yaml.safe_load_all(text))


def endpoints(index: ClusterIndex, mesh: Mesh | None = None, **locality: Any) -> dict[Address, Endpoint]:
    found = endpoints_of(index, mesh or Mesh(), WEB, Locality(**locality))
    assert isinstance(found, EndpointSet)
    return dict(found.endpoints)


def test_a_pod_of_both_families_is_told_once_and_as_ipv6_where_that_is_on() -> None:
    index = index_of(MANIFESTS)
    assert list(endpoints(index)) == [Address("10.1.0.1", 8080)]
    assert list(endpoints(index, Mesh(uses_ipv6=True))) == [Address("fd00::1", 8080)]


def test_a_server_can_make_a_port_opaque_to_clients() -> None:
    index = index_of(MANIFESTS)
    index.take_changes()
    server = """
    apiVersion: policy.linkerd.io/v1beta3
    kind: Server
    metadata: {name: raw, namespace: shop}
    spec: {podSelector: {matchLabels: {app: web}}, port: http, proxyProtocol: opaque}
    """
    apply_object(index, yaml.safe_load(server))
    assert service_topic(WEB.service) in index.take_changes()
    (found,) = endpoints(index).values()
    assert found.hint is ProtocolHint.OPAQUE


def test_an_external_workload_is_spoken_to_by_its_own_identity() -> None:
    index = index_of(MANIFESTS, VM_SLICE)
    assert Address("192.0.2.7", 8080) not in endpoints(index)
    apply_object(index, yaml.safe_load(VM))
    found = endpoints(index, zone="east")[Address("192.0.2.7", 8080)]
    assert (found.identity, found.hint, found.inbound_port) == ("spiffe://root/vm", ProtocolHint.H2, 5143)
    assert dict(found.labels) == {
        "external_workload": "vm",
        "externalgroup": "vms",
        "zone": "east",
        "zone_locality": "local",
    }
    tls = weighted_addr(Address("192.0.2.7", 8080), found).tls_identity
    assert (tls.uri_like_identity.uri, tls.server_name.name) == ("spiffe://root/vm", "vm.example.com")


def test_an_external_workload_has_a_profile_and_an_inbound_policy() -> None:
    index = index_of(VM)
    by_address = profile_of(index, Mesh(), AddressTarget("192.0.2.7", 8080), "")
    assert isinstance(by_address, EndpointProfileAnswer)
    assert dict(by_address.endpoint.labels)["namespace"] == "shop"
    vm = WorkloadRef(Name("shop", "vm"), is_external=True)
    found = inbound_server_of(index, Mesh(), vm, 8080)
    assert isinstance(found, InboundServer)
    server = """
    apiVersion: policy.linkerd.io/v1beta3
    kind: Server
    metadata: {name: vms, namespace: shop}
    spec: {externalWorkloadSelector: {matchLabels: {app: vm}}, port: http, proxyProtocol: HTTP/2}
    """
    apply_object(index, yaml.safe_load(server))
    found = inbound_server_of(index, Mesh(), vm, 8080)
    assert isinstance(found, InboundServer)
    assert found.protocol is ServerProtocol.HTTP2
    missing = inbound_server_of(index, Mesh(), WorkloadRef(Name("shop", "gone"), is_external=True), 8080)
    assert isinstance(missing, Refusal)


@pytest.mark.parametrize(
    ("conditions", "is_told"),
    [("{}", True), ("{ready: true}", True), ("{ready: false, serving: true, terminating: true}", False)],
)
def test_readiness_alone_decides(conditions: str, is_told: bool) -> None:
    text = MANIFESTS.replace("{addresses: [10.1.0.1],", f"{{addresses: [10.1.0.1], conditions: {conditions},")
    assert bool(endpoints(index_of(text))) is is_told


def test_zone_hints_count_only_where_every_endpoint_has_them_and_some_fit() -> None:
    hinted = MANIFESTS.replace("{addresses: [10.1.0.1],", "{addresses: [10.1.0.1], hints: {forZones: [{name: a}]},")
    other = MANIFESTS.split("---\n")[2].replace("name: four", "name: more").replace("10.1.0.1", "10.1.0.2")
    other = other.replace("targetRef: {kind: Pod, name: web-0}", "hints: {forZones: [{name: b}]}")
    index = index_of(hinted, other)
    assert list(endpoints(index, zone="a")) == [Address("10.1.0.1", 8080)]
    assert list(endpoints(index, zone="b")) == [Address("10.1.0.2", 8080)]
    assert len(endpoints(index, zone="c")) == 2
    unhinted = index_of(hinted, other.replace(", hints: {forZones: [{name: b}]}", ""))
    assert len(endpoints(unhinted, zone="a")) == 2
