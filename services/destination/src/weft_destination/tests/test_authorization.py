"""Policy objects reach open WatchPort streams, whether their definitions came before the service or after it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from weft_destination.testing.raw import Raw, raw_pod
from weft_destination.testing.served import Cluster, served
from weft_proto.linkerd import inbound_pb2

GROUP = "policy.linkerd.io"
SPEC = inbound_pb2.PortSpec(workload='{"ns":"shop","pod":"web-0"}', port=8080)


def raw_policy(kind: str, version: str, name: str, **spec: Any) -> Raw:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": f"{GROUP}/{version}", "kind": kind, "metadata": metadata, "spec": spec}


SERVER = raw_policy("Server", "v1beta3", "web", podSelector={}, port="http", proxyProtocol="HTTP/1")
WHO = raw_policy("MeshTLSAuthentication", "v1alpha1", "who", identityRefs=[{"kind": "ServiceAccount", "name": "front"}])
POLICY = raw_policy(
    "AuthorizationPolicy",
    "v1alpha1",
    "front-only",
    targetRef={"group": GROUP, "kind": "Server", "name": "web"},
    requiredAuthenticationRefs=[{"group": GROUP, "kind": "MeshTLSAuthentication", "name": "who"}],
)


async def next_of(call: Any) -> inbound_pb2.Server:
    async with asyncio.timeout(20):
        message = await call.read()
    assert message is not grpc.aio.EOF
    assert isinstance(message, inbound_pb2.Server)
    return message


async def test_objects_that_come_change_and_go_reach_an_open_stream(cluster: Cluster) -> None:
    await cluster.install_policy_kinds()
    await cluster.put(raw_pod("web-0", "10.1.0.1"))
    async with served(cluster.kube) as stubs:
        call = stubs.inbound.WatchPort(SPEC)
        assert (await next_of(call)).labels["kind"] == "default"

        await cluster.put(SERVER)
        denied = await next_of(call)
        assert dict(denied.labels) == {"group": GROUP, "kind": "server", "name": "web"}
        assert denied.protocol.HasField("http1")
        assert not denied.authorizations

        await cluster.put(WHO)
        await cluster.put(POLICY)
        (authorization,) = (await next_of(call)).authorizations
        (identity,) = authorization.authentication.meshTLS.identities.identities
        assert identity.name == "front.shop.serviceaccount.identity.linkerd.cluster.local"
        assert authorization.metadata.resource.kind == "authorizationpolicy"
        assert len(authorization.networks) == 2

        await cluster.remove("MeshTLSAuthentication", "who")
        assert not (await next_of(call)).authorizations
        await cluster.remove("Server", "web")
        assert (await next_of(call)).labels["kind"] == "default"


async def test_definitions_installed_later_are_picked_up(cluster: Cluster) -> None:
    await cluster.put(raw_pod("web-0", "10.1.0.1"))
    async with served(cluster.kube) as stubs:
        call = stubs.inbound.WatchPort(SPEC)
        assert (await next_of(call)).labels["kind"] == "default"
        await cluster.install_policy_kinds()
        await cluster.put(SERVER)
        assert (await next_of(call)).labels["name"] == "web"
