"""GetProfile and the policy APIs over real gRPC against a real API server."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import grpc
from weft_destination.testing.raw import raw_pod, raw_service
from weft_destination.testing.served import Cluster, Stubs, served
from weft_proto.linkerd import destination_pb2, http_types_pb2, inbound_pb2, net_pb2, outbound_pb2

CLIENT = '{"ns":"shop","pod":"client"}'


def at(ip: str, port: int) -> net_pb2.TcpAddress:
    return net_pb2.TcpAddress(ip=net_pb2.IPAddress(ipv4=int(ipaddress.IPv4Address(ip))), port=port)


async def first_of(call: Any) -> Any:
    async with asyncio.timeout(10):
        message = await call.read()
    assert message is not grpc.aio.EOF
    return message


async def code_of(call: Any) -> grpc.StatusCode:
    async with asyncio.timeout(10):
        return await call.code()  # type: ignore[no-any-return]


async def profile(stubs: Stubs, path: str) -> destination_pb2.DestinationProfile:
    found = await first_of(stubs.destination.GetProfile(destination_pb2.GetDestination(path=path)))
    assert isinstance(found, destination_pb2.DestinationProfile)
    return found


async def test_profiles_by_cluster_ip_name_and_pod_address(cluster: Cluster) -> None:
    service = await cluster.put(raw_service("web"))
    await cluster.put(raw_pod("web-0", "10.1.0.1", annotations={"config.linkerd.io/opaque-ports": "9000-9002"}))
    ip = service["spec"]["clusterIP"]
    async with served(cluster.kube) as stubs:
        by_ip = await profile(stubs, f"{ip}:80")
        assert by_ip.fully_qualified_name == "web.shop.svc.cluster.local"
        assert (by_ip.parent_ref.resource.group, by_ip.parent_ref.resource.port) == ("core", 80)
        assert by_ip == await profile(stubs, "web.shop.svc.cluster.local:80")
        assert by_ip.retry_budget.min_retries_per_second == 10
        assert await profile(stubs, f"{ip}:81") == destination_pb2.DestinationProfile()
        by_pod = await profile(stubs, "10.1.0.1:9001")
        assert by_pod.opaque_protocol
        assert by_pod.endpoint.metric_labels["namespace"] == "shop"
        assert by_pod.endpoint.protocol_hint.HasField("opaque")
        unknown = await profile(stubs, "10.9.9.9:3306")
        assert unknown.opaque_protocol
        assert not unknown.endpoint.HasField("tls_identity")
        missing = destination_pb2.GetDestination(path="missing.shop.svc.cluster.local:80")
        assert await code_of(stubs.destination.GetProfile(missing)) is grpc.StatusCode.UNKNOWN


async def test_profile_follows_the_opaque_annotation_and_repeats_nothing(cluster: Cluster) -> None:
    await cluster.put(raw_service("web"))
    async with served(cluster.kube) as stubs:
        call = stubs.destination.GetProfile(destination_pb2.GetDestination(path="web.shop.svc.cluster.local:80"))
        assert not (await first_of(call)).opaque_protocol
        await cluster.put(raw_service("web", annotations={"unrelated": "x"}))
        await cluster.put(raw_service("web", annotations={"config.linkerd.io/opaque-ports": "http"}))
        assert (await first_of(call)).opaque_protocol


async def test_outbound_policies_by_lookup_row(cluster: Cluster) -> None:
    service = await cluster.put(raw_service("web", annotations={"retry.linkerd.io/http": "5xx"}))
    ip = service["spec"]["clusterIP"]

    def spec(**target: Any) -> outbound_pb2.TrafficSpec:
        return outbound_pb2.TrafficSpec(source_workload=CLIENT, **target)

    async with served(cluster.kube) as stubs:
        watch = stubs.outbound.Watch
        policy = await first_of(watch(spec(addr=at(ip, 80))))
        detect = policy.protocol.detect
        backend = detect.http1.routes[0].rules[0].backends.first_available.backends[0].backend
        assert backend.balancer.discovery.dst.path == "web.shop.svc.cluster.local:80"
        assert backend.queue.capacity == 100
        assert detect.http1.routes[0].rules[0].retry.conditions.status_ranges[0].end == 599
        assert detect.timeout.seconds == 10
        assert policy == await first_of(watch(spec(authority="web.shop.svc.cluster.local.:80")))
        assert policy == await stubs.outbound.Get(spec(addr=at(ip, 80)))
        forbidden = await first_of(watch(spec(addr=at(ip, 81))))
        assert forbidden.protocol.opaque.routes[0].metadata.default == "undefined-port"
        outside = await first_of(watch(spec(addr=at("93.184.216.34", 443))))
        assert outside.metadata.default == "egress-fallback"
        forward = outside.protocol.detect.opaque.routes[0].rules[0].backends.first_available.backends[0].backend
        assert forward.forward.addr == at("93.184.216.34", 443)
        assert await code_of(watch(spec(addr=at("10.1.0.1", 80)))) is grpc.StatusCode.NOT_FOUND
        assert await code_of(watch(spec(authority="example.com:80"))) is grpc.StatusCode.NOT_FOUND
        assert await code_of(watch(spec())) is grpc.StatusCode.INVALID_ARGUMENT
        assert await code_of(watch(spec(addr=at(ip, 0)))) is grpc.StatusCode.INVALID_ARGUMENT
        nobody = outbound_pb2.TrafficSpec(source_workload="", addr=at(ip, 80))
        assert await code_of(watch(nobody)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_inbound_server_follows_annotations(cluster: Cluster) -> None:
    probed = {
        "name": "app",
        "image": "app",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "livenessProbe": {"httpGet": {"port": "http", "path": "/live?x=1"}},
        "readinessProbe": {"grpc": {"port": 8080}},
    }
    await cluster.put(raw_pod("web-0", "10.1.0.1", containers=[probed]))
    async with served(cluster.kube) as stubs:
        call = stubs.inbound.WatchPort(inbound_pb2.PortSpec(workload='{"ns":"shop","pod":"web-0"}', port=8080))
        server = await first_of(call)
        assert dict(server.labels) == {"group": "", "kind": "default", "name": "all-unauthenticated"}
        default, probe = server.protocol.detect.http_routes
        assert default.metadata.default == "default"
        probed_by = {m.path.exact: m.method.registered for m in probe.rules[0].matches}
        methods = http_types_pb2.HttpMethod
        assert probed_by == {"/live": methods.GET, "/grpc.health.v1.Health/Check": methods.POST}
        assert probe.authorizations[0].authentication.HasField("unauthenticated")
        assert len(server.authorizations[0].networks) == 2

        annotations = {"config.linkerd.io/default-inbound-policy": "all-authenticated"}
        await cluster.put({"kind": "Namespace", "metadata": {"name": "shop", "annotations": annotations}})
        server = await first_of(call)
        assert server.labels["name"] == "all-authenticated"
        assert server.authorizations[0].authentication.meshTLS.identities.suffixes[0].parts == []

        annotations = {"config.linkerd.io/default-inbound-policy": "deny", "config.linkerd.io/opaque-ports": "8080"}
        await cluster.put(raw_pod("web-0", "10.1.0.1", containers=[probed], annotations=annotations))
        server = await first_of(call)
        assert server.protocol.HasField("opaque")
        assert not server.authorizations

        for workload, port, code in (
            ('{"ns":"shop","pod":"missing"}', 80, grpc.StatusCode.NOT_FOUND),
            ("shop:web-0", 0, grpc.StatusCode.INVALID_ARGUMENT),
            ("nonsense", 80, grpc.StatusCode.INVALID_ARGUMENT),
        ):
            spec = inbound_pb2.PortSpec(workload=workload, port=port)
            assert await code_of(stubs.inbound.WatchPort(spec)) is code
