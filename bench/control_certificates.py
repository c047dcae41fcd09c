"""How long it takes to list every certificate of a large mesh: two records each in Redis, one answer over gRPC."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc
from redis.asyncio import Redis
from weft_identity.core.inventory import LeafRecord, ProxyRecord, record_bytes
from weft_identity.store import LEAF_PREFIX, PROXY_PREFIX
from weft_proto.weft import identity_pb2, identity_pb2_grpc

from bench.control_certify import identity
from tests.kubernetes.api_servers import ApiServer
from tests.kubernetes.processes import free_ports, running

RECORDS: Final = 10_000
ROUNDS: Final = 3
_PIPELINE: Final = 1_000
# What the command line allows an answer to have.
_LARGEST_ANSWER: Final = 64 * 1024 * 1024


async def measure_listing(api: ApiServer, folder: Path, core: int) -> dict[str, float]:
    """Seconds for the whole list, and for one namespace of a hundred; the median of three."""
    (port,) = free_ports(1)
    redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    url = f"redis://127.0.0.1:{port}/0"
    with running("redis-certificates", redis, folder) as program:
        program.wait_until(lambda: _answers(port), 10)
        await _fill(url)
        with identity(api, folder, core, WEFT_REDIS_URL=url) as (_, grpc_port):
            options = [("grpc.max_receive_message_length", _LARGEST_ANSWER)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}", options) as channel:
                await channel.channel_ready()
                stub: identity_pb2_grpc.CertificatesAsyncStub = identity_pb2_grpc.CertificatesStub(channel)
                whole = [await _seconds(stub, "", RECORDS) for _ in range(ROUNDS)]
                one = [await _seconds(stub, "ns-7", RECORDS // 100) for _ in range(ROUNDS)]
    return {"records": RECORDS, "list_s": sorted(whole)[1], "list_namespace_s": sorted(one)[1]}


async def _seconds(stub: identity_pb2_grpc.CertificatesAsyncStub, namespace: str, expected: int) -> float:
    began = time.monotonic()
    answer = await stub.List(identity_pb2.ListRequest(namespace=namespace))
    took_s = time.monotonic() - began
    assert (len(answer.certificates), answer.complete) == (expected, True), len(answer.certificates)
    return round(took_s, 2)


async def _fill(url: str) -> None:
    async with Redis.from_url(url) as redis:
        values = dict(_records(datetime.now(UTC)))
        keys = list(values)
        for start in range(0, len(keys), _PIPELINE):
            await redis.mset({key: values[key] for key in keys[start : start + _PIPELINE]})


def _records(now: datetime) -> Iterator[tuple[str, bytes]]:
    """Of as many pods in a hundred namespaces, each with its leaf and its proxy's report."""
    anchor, issuer = (hashlib.sha256(name).hexdigest() for name in (b"anchor", b"issuer"))
    for number in range(RECORDS):
        namespace, pod = f"ns-{number % 100}", f"web-{number}"
        name = f"web.{namespace}.serviceaccount.identity.linkerd.cluster.local"
        uid, serial = f"{number:08x}-0000-4000-8000-000000000000", f"{number + 2**158:x}"
        ends_at = now + timedelta(hours=1, seconds=number)
        issued = LeafRecord(name, namespace, pod, uid, serial, issuer, issuer[:40], anchor, now, ends_at, now)
        report = ProxyRecord(name, namespace, pod, uid, (anchor,), serial, issuer, ends_at, "weft-proxy/0.1.0", now)
        yield LEAF_PREFIX + issued.key, record_bytes(issued)
        yield PROXY_PREFIX + report.key, record_bytes(report)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
