"""Routes reach open Watch streams, whatever version they were written in."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from weft_destination.testing.raw import Raw, raw_pod, raw_service
from weft_destination.testing.served import Cluster, served
from weft_proto.linkerd import outbound_pb2 as pb

GATEWAY = "gateway.networking.k8s.io"


def raw_route(version: str, weights: dict[str, int], **rule: Any) -> Raw:
    backends = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
    return {
        "apiVersion": f"{GATEWAY}/{version}",
        "kind": "HTTPRoute",
        "metadata": {"name": "split", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80}],
            "rules": [{"backendRefs": backends, **rule}],
        },
    }


async def next_of(call: Any) -> pb.OutboundPolicy:
    async with asyncio.timeout(20):
        message = await call.read()
    assert message is not grpc.aio.EOF
    assert isinstance(message, pb.OutboundPolicy)
    return message


def spec(pod: str = "client", authority: str = "web.shop.svc.cluster.local:80") -> pb.TrafficSpec:
    return pb.TrafficSpec(source_workload=f'{{"ns":"shop","pod":"{pod}"}}', authority=authority)


async def test_a_split_and_its_changes_reach_an_open_stream(cluster: Cluster) -> None:
    await cluster.install_policy_kinds()
    for name in ("web", "v1", "v2"):
        await cluster.put(raw_service(name))
    async with served(cluster.kube) as stubs:
        call = stubs.outbound.Watch(spec())
        assert (await next_of(call)).protocol.detect.http1.routes[0].metadata.default == "http"
        await cluster.put(raw_route("v1beta1", {"v1": 90, "v2": 10}))
        detect = (await next_of(call)).protocol.detect
        assert detect.http1.routes == detect.http2.routes
        (route,) = detect.http1.routes
        assert (route.metadata.resource.kind, route.metadata.resource.name) == ("HTTPRoute", "split")
        first, second = route.rules[0].backends.random_available.backends
        assert (first.weight, second.weight) == (90, 10)
        assert first.backend.backend.balancer.discovery.dst.path == "v1.shop.svc.cluster.local:80"
        assert route.rules[0].matches[0].path.prefix == "/"

        await cluster.remove("Service", "v2")
        invalid = (await next_of(call)).protocol.detect.http1.routes[0].rules[0].backends.random_available.backends[1]
        assert invalid.backend.backend.WhichOneof("kind") is None
        assert invalid.backend.filters[0].failure_injector.status == 500
        assert invalid.weight == 10

        await cluster.remove("HTTPRoute", "split")
        assert (await next_of(call)).protocol.detect.http1.routes[0].metadata.default == "http"


async def test_only_our_proxies_are_sent_rewrites(cluster: Cluster) -> None:
    await cluster.install_policy_kinds()
    await cluster.put(raw_service("web"))
    rewrite = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}}}
    await cluster.put(raw_route("v1", {"web": 1}, filters=[rewrite]))
    linkerds = raw_pod("theirs", "10.1.0.9")
    linkerds["spec"]["initContainers"][0]["image"] = "cr.l5d.io/linkerd/proxy:stable"
    await cluster.put(linkerds)
    await cluster.put(raw_pod("ours", "10.1.0.8"))
    async with served(cluster.kube) as stubs:
        ours = await next_of(stubs.outbound.Watch(spec("ours")))
        theirs = await next_of(stubs.outbound.Watch(spec("theirs")))
    (filter_,) = ours.protocol.detect.http1.routes[0].rules[0].filters
    assert filter_.url_rewrite.path.full == "/new"
    (filter_,) = theirs.protocol.detect.http1.routes[0].rules[0].filters
    assert filter_.failure_injector.status == 500
