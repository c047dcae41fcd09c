"""Discovery follows the objects of a cluster: EndpointSlices, pods, Servers and their policies."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from typing import Any

import grpc
from weft_destination.testing.raw import raw_endpoint, raw_pod, raw_service, raw_slice
from weft_proto.linkerd import destination_pb2, destination_pb2_grpc, inbound_pb2, inbound_pb2_grpc

from tests.kubernetes.installation import Installation, Service

WITHIN_S = 10


def put_pod(mesh: Installation, namespace: str, name: str, ip: str, **fields: Any) -> None:
    """A pod that runs, as a kubelet would report it."""
    pod = raw_pod(name, ip, namespace, **fields)
    status = pod.pop("status")
    mesh.apply(pod)
    patch = [{"op": "replace", "path": "/status", "value": status}]
    mesh.kubectl("patch", "pod", name, "-n", namespace, "--subresource=status", "--type=json", "-p", json.dumps(patch))


def put_web(mesh: Installation, namespace: str, *pods: tuple[str, str]) -> None:
    """The Service `web` with these pods behind it."""
    mesh.apply(raw_service("web", namespace))
    for name, ip in pods:
        put_pod(mesh, namespace, name, ip)
    put_slice(mesh, namespace, *pods)


def put_slice(mesh: Installation, namespace: str, *pods: tuple[str, str]) -> None:
    mesh.apply(raw_slice("web-1", "web", [raw_endpoint(name, ip, namespace) for name, ip in pods], namespace))


async def next_update(call: Any) -> Any:
    async with asyncio.timeout(WITHIN_S):
        update = await call.read()
    assert update is not grpc.aio.EOF
    return update


def addresses(addrs: Any) -> list[str]:
    return sorted(f"{ipaddress.IPv4Address(one.ip.ipv4)}:{one.port}" for one in addrs)


async def test_endpoint_slices_drive_discovery(mesh: Installation, destination: Service, namespace: str) -> None:
    put_web(mesh, namespace, ("web-0", "10.1.0.1"))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{destination.ports['dest-grpc']}") as channel:
        stub: Any = destination_pb2_grpc.DestinationStub(channel)
        call = stub.Get(destination_pb2.GetDestination(path=f"web.{namespace}.svc.cluster.local:80"))
        first = await next_update(call)
        assert addresses(one.addr for one in first.add.addrs) == ["10.1.0.1:8080"]
        identity = f"default.{namespace}.serviceaccount.identity.linkerd.cluster.local"
        assert first.add.addrs[0].tls_identity.dns_like_identity.name == identity

        put_pod(mesh, namespace, "web-1", "10.1.0.2")
        put_slice(mesh, namespace, ("web-1", "10.1.0.2"))
        assert addresses(one.addr for one in (await next_update(call)).add.addrs) == ["10.1.0.2:8080"]
        assert addresses((await next_update(call)).remove.addrs) == ["10.1.0.1:8080"]

        mesh.kubectl("delete", "service", "web", "--namespace", namespace)
        last = await next_update(call)
        assert addresses(last.remove.addrs) == ["10.1.0.2:8080"] or last.HasField("no_endpoints")


async def test_policy_objects_decide_who_may_reach_a_port(
    mesh: Installation, destination: Service, namespace: str
) -> None:
    put_pod(mesh, namespace, "web-0", "10.2.0.1")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{destination.ports['policy-grpc']}") as channel:
        stub: Any = inbound_pb2_grpc.InboundServerPoliciesStub(channel)
        call = stub.WatchPort(inbound_pb2.PortSpec(workload=f"{namespace}:web-0", port=8080))
        assert (await next_update(call)).labels["name"] == "all-unauthenticated"
        mesh.apply(
            {
                "apiVersion": "policy.linkerd.io/v1beta3",
                "kind": "Server",
                "metadata": {"name": "web-http", "namespace": namespace},
                "spec": {"podSelector": {}, "port": 8080, "proxyProtocol": "HTTP/1"},
            }
        )
        update = await next_update(call)
        assert update.labels["name"] == "web-http"
        assert not update.authorizations
        mesh.kubectl("delete", "server.policy.linkerd.io", "web-http", "--namespace", namespace)
        assert (await next_update(call)).labels["name"] == "all-unauthenticated"
