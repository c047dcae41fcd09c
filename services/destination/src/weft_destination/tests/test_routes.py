"""Routes reach open Watch streams, whatever version they were written in."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from weft_common.kube.resource import LEASES
from weft_destination.kube.status import LEASE
from weft_destination.testing.raw import Raw, raw_pod, raw_service
from weft_destination.testing.served import Cluster, served
from weft_policy.core.status import CONTROLLER as OURS
from weft_policy.kube.parse_routes import HTTP_ROUTES
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


async def status_of(cluster: Cluster, expected: list[tuple[str, str, str]]) -> Raw:
    """The route once its conditions are as expected: (type, status, reason)."""
    found: list[Any] = []
    try:
        async with asyncio.timeout(20):
            while True:
                raw = await cluster.kube.get(HTTP_ROUTES.path("shop", "split"))
                parents = [p for p in (raw.get("status") or {}).get("parents") or [] if p["controllerName"] == OURS]
                found = [(c["type"], c["status"], c["reason"]) for p in parents for c in p["conditions"]]
                if found == expected:
                    return raw
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"conditions stayed {found}") from None


async def test_status_says_what_traffic_does_and_keeps_the_words_of_others(cluster: Cluster) -> None:
    await cluster.install_policy_kinds()
    await cluster.kube.create("/api/v1/namespaces", {"metadata": {"name": "linkerd"}})
    raw = raw_route("v1", {"v1": 1})
    other = {"parentRef": {"name": "gw"}, "controllerName": "example.com/other", "conditions": []}
    await cluster.put({**raw, "status": {"parents": [other]}})
    async with served(cluster.kube):
        await status_of(
            cluster, [("Accepted", "False", "NoMatchingParent"), ("ResolvedRefs", "False", "BackendNotFound")]
        )
        await cluster.put(raw_service("web"))
        await status_of(cluster, [("Accepted", "True", "Accepted"), ("ResolvedRefs", "False", "BackendNotFound")])
        await cluster.put(raw_service("v1"))
        found = await status_of(cluster, [("Accepted", "True", "Accepted"), ("ResolvedRefs", "True", "ResolvedRefs")])
        theirs, ours = found["status"]["parents"]
        assert theirs == other
        assert ours["parentRef"] == {"group": "core", "kind": "Service", "namespace": "shop", "name": "web", "port": 80}
        assert ours["conditions"][0]["observedGeneration"] == found["metadata"]["generation"]
        lease = await cluster.kube.get(LEASES.path("linkerd", LEASE))
        assert lease["spec"]["holderIdentity"]
    lease = await cluster.kube.get(LEASES.path("linkerd", LEASE))
    assert not lease["spec"]["holderIdentity"]
