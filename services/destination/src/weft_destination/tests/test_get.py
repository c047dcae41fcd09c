"""Get over real gRPC against a real API server."""

from __future__ import annotations

import asyncio
import ipaddress

import aiohttp
import grpc
import pytest
from redis.asyncio import Redis
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_common.kube.resource import ENDPOINT_SLICES
from weft_destination.testing.raw import raw_endpoint, raw_pod, raw_service, raw_slice
from weft_destination.testing.served import Cluster, Stubs, free_ports, served
from weft_proto.linkerd import destination_pb2 as pb

WEB = "web.shop.svc.cluster.local:80"
SNAPSHOT = "weft:destination:endpoints:shop/web:80"


class Stream:
    """One Get call, read message by message."""

    def __init__(self, stubs: Stubs, path: str = WEB, token: str = "") -> None:
        self.call = stubs.destination.Get(pb.GetDestination(path=path, context_token=token))

    async def next(self) -> pb.Update:
        async with asyncio.timeout(10):
            update = await self.call.read()
        assert isinstance(update, pb.Update), update
        return update

    async def ends(self) -> grpc.StatusCode:
        async with asyncio.timeout(10):
            assert await self.call.read() is grpc.aio.EOF
            return await self.call.code()


def addresses(addrs: object) -> list[tuple[str, int]]:
    return sorted((str(ipaddress.IPv4Address(a.ip.ipv4)), a.port) for a in addrs)  # type: ignore[attr-defined]


async def put_web(cluster: Cluster, *pods: tuple[str, str]) -> None:
    await cluster.put(raw_service("web"))
    for name, ip in pods:
        await cluster.put(raw_pod(name, ip))
    await cluster.put(raw_slice("web-1", "web", [raw_endpoint(name, ip) for name, ip in pods]))


async def test_stream_starts_with_the_full_set_and_goes_on_with_differences(cluster: Cluster) -> None:
    await put_web(cluster, ("web-0", "10.1.0.1"), ("web-1", "10.1.0.2"))
    async with served(cluster.kube) as stubs:
        stream = Stream(stubs)
        first = await stream.next()
        assert addresses(a.addr for a in first.add.addrs) == [("10.1.0.1", 8080), ("10.1.0.2", 8080)]
        assert dict(first.add.metric_labels) == {"service": "web", "namespace": "shop"}
        endpoint = first.add.addrs[0]
        assert endpoint.weight == 10_000
        identity = "default.shop.serviceaccount.identity.linkerd.cluster.local"
        assert endpoint.tls_identity.dns_like_identity.name == endpoint.tls_identity.server_name.name == identity
        assert endpoint.protocol_hint.HasField("h2")
        assert endpoint.protocol_hint.opaque_transport.inbound_port == 4143
        assert endpoint.http2.keep_alive.interval.seconds == 10

        await cluster.put(raw_pod("web-2", "10.1.0.3"))
        await cluster.put(
            raw_slice("web-1", "web", [raw_endpoint("web-1", "10.1.0.2"), raw_endpoint("web-2", "10.1.0.3")])
        )
        added = await stream.next()
        assert addresses(a.addr for a in added.add.addrs) == [("10.1.0.3", 8080)]
        removed = await stream.next()
        assert addresses(removed.remove.addrs) == [("10.1.0.1", 8080)]


async def test_stream_survives_the_loss_of_all_endpoints(cluster: Cluster) -> None:
    await put_web(cluster)
    async with served(cluster.kube) as stubs:
        stream = Stream(stubs)
        assert (await stream.next()).no_endpoints.exists
        await put_web(cluster, ("web-0", "10.1.0.1"))
        assert len((await stream.next()).add.addrs) == 1
        await cluster.put(raw_slice("web-1", "web", [raw_endpoint("web-0", "10.1.0.1", ready=False)]))
        assert addresses((await stream.next()).remove.addrs) == [("10.1.0.1", 8080)]
        await cluster.remove("Service", "web")
        assert not (await stream.next()).no_endpoints.exists


async def test_refusals_have_their_codes(cluster: Cluster) -> None:
    await cluster.put(raw_service("elsewhere", ports=[], type="ExternalName", externalName="example.com", selector={}))
    async with served(cluster.kube) as stubs:
        for path, code in (
            ("10.1.2.3:80", grpc.StatusCode.INVALID_ARGUMENT),
            ("web.shop.svc.cluster.local:0", grpc.StatusCode.INVALID_ARGUMENT),
            ("web.shop.svc.cluster.local:http", grpc.StatusCode.INVALID_ARGUMENT),
            ("example.com:80", grpc.StatusCode.INVALID_ARGUMENT),
            ("elsewhere.shop.svc.cluster.local:80", grpc.StatusCode.INVALID_ARGUMENT),
            ("missing.shop.svc.cluster.local:80", grpc.StatusCode.NOT_FOUND),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in stubs.destination.Get(pb.GetDestination(path=path)):
                    pass
            assert refused.value.code() is code, path


async def test_streams_end_well_when_the_service_stops(cluster: Cluster) -> None:
    await put_web(cluster, ("web-0", "10.1.0.1"))
    async with served(cluster.kube) as stubs:
        stream = Stream(stubs)
        await stream.next()
        stubs.stop.set()
        assert await stream.ends() is grpc.StatusCode.OK


async def test_a_reader_that_stops_reading_holds_up_nobody(cluster: Cluster) -> None:
    await put_web(cluster, ("web-0", "10.1.0.1"))
    async with served(cluster.kube) as stubs:
        slow, fast = Stream(stubs), Stream(stubs)
        await slow.next()
        await fast.next()
        for turn in range(1, 30):
            await cluster.put(raw_slice("web-1", "web", [raw_endpoint("web-0", "10.1.0.1")], port=8080 + turn))
        while addresses(a.addr for a in (await fast.next()).add.addrs) != [("10.1.0.1", 8109)]:
            pass


async def metric(stubs: Stubs, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{stubs.admin_url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


async def snapshot_appears(redis: Redis) -> None:
    async with asyncio.timeout(10):
        while not await redis.exists(SNAPSHOT):  # noqa: ASYNC110 - Redis tells nobody when a key appears
            await asyncio.sleep(0.01)


async def test_replica_that_cannot_reach_the_cluster_answers_from_the_snapshot(
    cluster: Cluster, redis_url: str
) -> None:
    await put_web(cluster, ("web-0", "10.1.0.1"), ("web-1", "10.1.0.2"))
    async with served(cluster.kube, WEFT_REDIS_URL=redis_url) as stubs, Redis.from_url(redis_url) as redis:
        await Stream(stubs).next()
        await snapshot_appears(redis)
        assert await redis.keys() == [SNAPSHOT.encode()]
        assert 0 < await redis.ttl(SNAPSHOT) <= 86_400
        version = (await cluster.kube.list(ENDPOINT_SLICES.path("shop")))["metadata"]["resourceVersion"]
        assert 0 < int(await redis.hget(SNAPSHOT, "version") or 0) <= int(version)
    nowhere = KubeConfig(server=f"http://127.0.0.1:{free_ports(1)[0]}")
    async with KubeClient(nowhere) as kube, served(kube, WEFT_REDIS_URL=redis_url) as stubs:
        for asked in (1, 2):
            first = await Stream(stubs).next()
            assert addresses(a.addr for a in first.add.addrs) == [("10.1.0.1", 8080), ("10.1.0.2", 8080)]
            assert await metric(stubs, "weft_destination_snapshot_answers_total") == asked
        assert await metric(stubs, "weft_destination_snapshot_age_seconds") > 0
        assert await metric(stubs, 'weft_destination_stale{resource="endpointslices.discovery.k8s.io"}') == 1


async def test_snapshot_lives_on_while_somebody_listens_and_then_expires(cluster: Cluster, redis_url: str) -> None:
    await put_web(cluster, ("web-0", "10.1.0.1"))
    async with Redis.from_url(redis_url) as redis:
        async with served(cluster.kube, WEFT_REDIS_URL=redis_url, WEFT_SNAPSHOT_TTL="1500ms") as stubs:
            stream = Stream(stubs)
            await stream.next()
            await snapshot_appears(redis)
            written = await redis.hget(SNAPSHOT, "written_at_s")
            async with asyncio.timeout(10):
                while await redis.hget(SNAPSHOT, "written_at_s") == written:
                    assert await redis.exists(SNAPSHOT), "it went while a stream was open"
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            while await redis.exists(SNAPSHOT):  # noqa: ASYNC110 - nor when one goes
                await asyncio.sleep(0.05)


async def test_a_crowd_is_told_the_last_of_many_quick_changes(cluster: Cluster) -> None:
    await put_web(cluster, ("web-0", "10.1.0.1"))
    async with served(cluster.kube) as stubs:
        crowd = [Stream(stubs) for _ in range(100)]
        await asyncio.gather(*(stream.next() for stream in crowd))
        for turn in range(1, 30):
            await cluster.put(raw_slice("web-1", "web", [raw_endpoint("web-0", "10.1.0.1")], port=8080 + turn))

        async def told_the_last(stream: Stream) -> int:
            messages = 1
            while addresses(a.addr for a in (await stream.next()).add.addrs) != [("10.1.0.1", 8109)]:
                messages += 1
            return messages

        # Each change is an addition and a removal.
        assert max(await asyncio.gather(*map(told_the_last, crowd))) < 2 * 29
