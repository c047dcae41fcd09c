"""Tap and Decisions over real sockets: a pod's proxy that shows requests, the service between, a client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from weft_proto.linkerd import net_pb2, tap_pb2
from weft_proto.linkerd.tap_pb2_grpc import TapServicer, add_TapServicer_to_server
from weft_proto.weft import decision_pb2, metrics_pb2_grpc
from weft_proto.weft import metrics_pb2 as pb
from weft_proto.weft.decision_pb2_grpc import DecisionsServicer, add_DecisionsServicer_to_server

from weft_metrics_api.core.tests.proxies import ID
from weft_metrics_api.tests.test_app import Cluster, service

LOOPBACK = net_pb2.TcpAddress(ip=net_pb2.IPAddress(ipv4=0x7F000001), port=5000)
CART = pb.Resource(namespace="shop", kind="deployment", name="cart")


class Proxy(TapServicer, DecisionsServicer):
    """Shows as many requests as are asked for, then ends, as a proxy does."""

    def __init__(self) -> None:
        self.asked: list[tap_pb2.ObserveRequest] = []
        self.metadata: dict[str, Any] = {}

    async def Observe(self, request: tap_pb2.ObserveRequest, context: Any) -> AsyncIterator[tap_pb2.TapEvent]:
        self.asked.append(request)
        self.metadata = dict(context.invocation_metadata())
        for number in range(request.limit):
            init = tap_pb2.TapEvent.Http.RequestInit(id=tap_pb2.TapEvent.Http.StreamId(stream=number), path="/a")
            yield tap_pb2.TapEvent(source=LOOPBACK, http=tap_pb2.TapEvent.Http(request_init=init))

    async def List(self, request: decision_pb2.ListDecisions, context: Any) -> decision_pb2.DecisionList:
        found = [decision_pb2.Decision(id=f"0:{n}", started_at=Timestamp(seconds=n)) for n in (9, 7)]
        return decision_pb2.DecisionList(decisions=found)


@contextlib.asynccontextmanager
async def tapped(proxy: Proxy) -> AsyncIterator[metrics_pb2_grpc.MetricsAsyncStub]:
    server = grpc.aio.server()
    add_TapServicer_to_server(proxy, server)
    add_DecisionsServicer_to_server(proxy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    cluster = Cluster()
    cluster.env["cart"] = [
        {"name": "LINKERD2_PROXY_TAP_SVC_NAME", "value": "metrics-api.linkerd-viz"},
        {"name": "LINKERD2_PROXY_CONTROL_LISTEN_ADDR", "value": f"0.0.0.0:{port}"},
    ]
    try:
        async with service(cluster) as (_, metrics):
            yield metrics
    finally:
        await server.stop(None)


async def test_requests_of_a_workload_come_as_they_happen_with_who_is_at_each_end() -> None:
    proxy = Proxy()
    async with tapped(proxy) as metrics, asyncio.timeout(20):
        call = metrics.Tap(pb.TapRequest(target=CART, max_rps=3, path="/a", extract_headers=True))
        events = [event async for _, event in _numbered(call, 4)]
        assert [event.event.http.request_init.id.stream for event in events] == [0, 1, 2, 0]
        assert events[0].pod.name == "cart-0"
        assert proxy.metadata["l5d-require-id"] == ID.format("cart")
        first = proxy.asked[0]
        assert (first.limit, first.extract.http.WhichOneof("extract")) == (3, "headers")
        assert first.match.all.matches[0].http.path.prefix == "/a"


async def _numbered(call: Any, count: int) -> AsyncIterator[tuple[int, pb.TapEvent]]:
    number = 0
    async for event in call:
        yield number, event
        number += 1
        if number == count:
            call.cancel()
            return


async def test_a_workload_without_a_proxy_that_may_be_asked_is_a_failed_precondition() -> None:
    async with tapped(Proxy()) as metrics:
        price = pb.Resource(namespace="shop", kind="deployment", name="price")
        for call in (metrics.Decisions(pb.DecisionsRequest(target=price)), metrics.Tap(pb.TapRequest(target=price))):
            with pytest.raises(grpc.aio.AioRpcError, match="tap is off") as caught:
                await (call if not hasattr(call, "read") else call.read())
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_decisions_of_all_pods_come_newest_first_up_to_the_limit() -> None:
    async with tapped(Proxy()) as metrics:
        answer = await metrics.Decisions(pb.DecisionsRequest(target=CART, limit=1))
        assert [(found.pod.name, found.decision.id) for found in answer.decisions] == [("cart-0", "0:9")]
        answer = await metrics.Decisions(pb.DecisionsRequest(target=CART))
        assert [found.decision.id for found in answer.decisions] == ["0:9", "0:7"]
        assert not answer.unanswered
