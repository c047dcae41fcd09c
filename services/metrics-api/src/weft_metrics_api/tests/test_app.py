"""The whole service over real sockets: an API server that lists pods, proxies that serve metrics, a gRPC client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from aiohttp import ClientSession, web
from weft_common.kube.config import KubeConfig
from weft_proto.weft import metrics_pb2 as pb
from weft_proto.weft import metrics_pb2_grpc

from weft_metrics_api.app import run
from weft_metrics_api.config import MetricsApiSettings, load_settings
from weft_metrics_api.core.tests.proxies import ID, connections, inbound

CART_TO_PRICE = (
    f'tls="true",server_id="{ID.format("price")}",dst_namespace="shop",dst_pod="price-0",dst_deployment="price"'
)


class Cluster:
    """An API server and the proxies of two pods. Each scrape of price shows ten more. env: of their proxies."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {}
        self.requests_served = 0
        self.env: dict[str, list[dict[str, Any]]] = {}
        self.scrapes: dict[str, int] = {"price": 0, "cart": 0}
        self.scraped = asyncio.Condition()

    async def list_or_watch(self, request: web.Request) -> web.StreamResponse:
        plural = request.path.rpartition("/")[2]
        if "watch" not in request.query:
            return web.json_response(
                {"metadata": {"resourceVersion": "1"}, "items": json.loads(json.dumps(self.objects.get(plural, [])))}
            )
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    def proxy(self, name: str) -> web.Application:
        async def metrics(_: web.Request) -> web.Response:
            async with self.scraped:
                self.scrapes[name] += 1
                self.scraped.notify_all()
            self.requests_served += 10
            price = inbound(ok=self.requests_served)
            text = price if name == "price" else connections("outbound", "dst", 1, CART_TO_PRICE)
            return web.Response(text=text)

        app = web.Application()
        app.add_routes([web.get("/metrics", metrics)])
        return app

    async def until_scraped(self, name: str, times: int) -> None:
        async with self.scraped:
            await self.scraped.wait_for(lambda: self.scrapes[name] >= times)


def pod(name: str, port: int, env: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop",
            "name": f"{name}-0",
            "uid": name,
            "labels": {"linkerd.io/control-plane-ns": "linkerd"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"{name}-5d", "controller": True}],
        },
        "spec": {
            "serviceAccountName": name,
            "initContainers": [
                {
                    "name": "linkerd-proxy",
                    "ports": [{"name": "linkerd-admin", "containerPort": port}],
                    "env": [
                        {"name": "_pod_ns", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                        {"name": "_pod_sa", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
                        {"name": "_l5d_ns", "value": "linkerd"},
                        {"name": "_l5d_trustdomain", "value": "cluster.local"},
                        {
                            "name": "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
                            "value": "$(_pod_sa).$(_pod_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)",
                        },
                        *env,
                    ],
                }
            ],
        },
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    }


def replica_set(name: str) -> dict[str, Any]:
    owner = {"kind": "Deployment", "name": name, "controller": True}
    return {"metadata": {"namespace": "shop", "name": f"{name}-5d", "ownerReferences": [owner]}}


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until_ready(admin_port: int) -> None:
    """Until every list is there; questions are refused before."""
    async with ClientSession(f"http://127.0.0.1:{admin_port}") as session, asyncio.timeout(20):
        while True:
            async with session.get("/ready") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def service(cluster: Cluster) -> AsyncIterator[tuple[MetricsApiSettings, metrics_pb2_grpc.MetricsAsyncStub]]:
    api = web.Application()
    api.router.add_get("/{path:.*}", cluster.list_or_watch)
    settings = replace(
        load_settings({}),
        grpc_port=free_port(),
        admin_port=free_port(),
        scrape_interval=timedelta(seconds=0.2),
        log_format="console",
    )
    async with (
        serving(api) as api_port,
        serving(cluster.proxy("price")) as price_port,
        serving(cluster.proxy("cart")) as cart_port,
    ):
        cluster.objects = {
            "pods": [
                pod(name, port, cluster.env.get(name, []))
                for name, port in (("price", price_port), ("cart", cart_port))
            ],
            "replicasets": [replica_set("price"), replica_set("cart")],
            "deployments": [{"metadata": {"namespace": "shop", "name": name}} for name in ("price", "cart", "idle")],
        }
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run(settings, KubeConfig(server=f"http://127.0.0.1:{api_port}"), stop))
            async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.grpc_port}") as channel:
                await channel.channel_ready()
                await until_ready(settings.admin_port)
                yield settings, metrics_pb2_grpc.MetricsStub(channel)
            stop.set()


async def test_scraped_requests_come_back_as_rows_and_edges() -> None:
    cluster = Cluster()
    async with service(cluster) as (_, metrics):
        await cluster.until_scraped("price", 4)
        answer = await metrics.StatSummary(pb.StatSummaryRequest(selector=pb.Resource(kind="deployment")))
        rows = {row.resource.name: row for row in answer.rows}
        assert set(rows) == {"price", "cart", "idle"}
        assert (rows["price"].meshed_pods, rows["price"].running_pods) == (1, 1)
        assert rows["price"].http.success_rate == 1.0
        assert rows["price"].http.rps == pytest.approx(rows["price"].http.success_count / answer.covered_s)
        assert rows["price"].http.latency_ms_p50 == pytest.approx(7.5)
        assert not rows["cart"].HasField("http")
        (edge,) = (await metrics.Edges(pb.EdgesRequest(selector=pb.Resource(kind="deployment")))).edges
        assert (edge.src.name, edge.dst.name, edge.secured) == ("cart", "price", True)
        assert (edge.client_id, edge.server_id) == (ID.format("cart"), ID.format("price"))


async def test_self_check_is_content_while_everything_answers() -> None:
    cluster = Cluster()
    async with service(cluster) as (_, metrics):
        await cluster.until_scraped("price", 2)
        results = (await metrics.SelfCheck(pb.SelfCheckRequest())).results
        assert [(result.subsystem, result.status) for result in results] == [
            ("kubernetes", pb.CheckResult.OK),
            ("scraper", pb.CheckResult.OK),
        ]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.StatSummaryRequest(), "kind is required"),
        (pb.StatSummaryRequest(selector=pb.Resource(kind="gateway")), "gateway"),
        (pb.StatSummaryRequest(selector=pb.Resource(kind="pod"), window_s=0.1), "scrape interval"),
    ],
)
async def test_impossible_question_is_an_invalid_argument(request_: pb.StatSummaryRequest, text: str) -> None:
    cluster = Cluster()
    async with service(cluster) as (_, metrics):
        await cluster.until_scraped("price", 1)
        with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
            await metrics.StatSummary(request_)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_admin_port_tells_readiness_and_counts_scrapes() -> None:
    cluster = Cluster()
    async with service(cluster) as (settings, _), ClientSession(f"http://127.0.0.1:{settings.admin_port}") as session:
        await cluster.until_scraped("price", 2)
        async with session.get("/ready") as response:
            assert response.status == 200
        async with session.get("/metrics") as response:
            assert 'weft_scrapes_total{result="ok"}' in await response.text()
