"""Control streams against a real server that is slow, silent or old."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import grpc.aio
import pytest
from weft_proto.linkerd import inbound_pb2
from weft_proto.linkerd.inbound_pb2_grpc import (
    InboundServerPoliciesServicer,
    InboundServerPoliciesStub,
    add_InboundServerPoliciesServicer_to_server,
)
from weft_proxy.core.log_filter import LogFilter
from weft_proxy.core.metrics import ControlMetrics
from weft_proxy.core.settings import BackoffSettings, ControlService, StreamLimits
from weft_proxy.core.stream import Method
from weft_proxy.core.values import parse_host_port
from weft_proxy.logs import LogSink
from weft_proxy.streams import Follower

QUICK = BackoffSettings(1, 2, 0.0)
WAIT_S = 10.0


class Policies(InboundServerPoliciesServicer):
    """Sends `messages` on each stream and then stays silent."""

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self.opened = 0
        self.opens: asyncio.Queue[int] = asyncio.Queue()

    async def WatchPort(self, request: inbound_pb2.PortSpec, context: Any) -> AsyncIterator[inbound_pb2.Server]:
        self.opened += 1
        self.opens.put_nowait(self.opened)
        for number in range(self.messages):
            yield inbound_pb2.Server(labels={"name": f"{self.opened}.{number}"})
        await asyncio.Event().wait()

    async def GetPort(self, request: inbound_pb2.PortSpec, context: Any) -> inbound_pb2.Server:
        raise NotImplementedError


@contextlib.asynccontextmanager
async def following(
    policies: Policies, limits: StreamLimits, address: str
) -> AsyncIterator[tuple[asyncio.Queue[str], ControlMetrics, io.StringIO]]:
    server = grpc.aio.server()
    add_InboundServerPoliciesServicer_to_server(policies, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    names: asyncio.Queue[str] = asyncio.Queue()
    metrics, log = ControlMetrics(), io.StringIO()
    sink = LogSink(LogFilter.parse("debug"), as_json=False, out=log)
    service = ControlService("policy", parse_host_port(address), "")
    follower = Follower(service, limits, QUICK, metrics, Random(1), sink.logger("weft_proxy"))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.TaskGroup() as group:
        stub = InboundServerPoliciesStub(channel)
        task = group.create_task(
            follower.follow(
                Method.WATCH_PORT,
                "80",
                lambda: stub.WatchPort(inbound_pb2.PortSpec(port=80)),
                lambda message: names.put_nowait(message.labels["name"]),
            )
        )
        yield names, metrics, log
        task.cancel()
        await asyncio.wait([task])
    await server.stop(0)


async def next_name(names: asyncio.Queue[str]) -> str:
    async with asyncio.timeout(WAIT_S):
        return await names.get()


async def until_opened(policies: Policies, times: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while await policies.opens.get() < times:
            pass


def ends(metrics: ControlMetrics, code: str) -> int:
    """Calls that ended with a code."""
    return sum(count for (_, _, (name, _)), count in metrics.responses.items() if name == code)


@pytest.mark.parametrize(
    "limits", [StreamLimits(None, 20, None), StreamLimits(None, None, 20)], ids=["silence", "old age"]
)
async def test_stream_past_its_limit_is_opened_again(limits: StreamLimits) -> None:
    async with following(Policies(messages=2), limits, "policy.linkerd.svc.:8090") as (names, metrics, _):
        # A busy machine may let a stream pass its limit before its messages arrive: the next one with any will do.
        first = await next_name(names)
        while (later := await next_name(names)).partition(".")[0] == first.partition(".")[0]:
            pass
        assert later.endswith(".0")
        assert ends(metrics, "OK") >= 1


async def test_missing_first_message_counts_as_a_deadline() -> None:
    policies = Policies(messages=0)
    limits = StreamLimits(20, 20, None)
    async with following(policies, limits, "policy.linkerd.svc.:8090") as (names, metrics, log):
        await until_opened(policies, 3)
        assert names.empty()
        assert ends(metrics, "DEADLINE_EXCEEDED") >= 2
        assert log.getvalue().count(" WARN ") == 1


async def test_loopback_streams_have_no_limits() -> None:
    policies = Policies(messages=1)
    async with following(policies, StreamLimits(1, 1, 1), "localhost.:8090") as (names, metrics, _):
        assert await next_name(names) == "1.0"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await names.get()
        assert policies.opened == 1
        assert not metrics.responses
