"""Cluster DNS: UDP and TCP on the gateway address. What is not the cluster's goes to the host's resolvers.

The index follows Services and EndpointSlices through informers; a query is answered from memory.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from dnslib import (  # type: ignore[import-untyped]  # the library ships no types
    AAAA,
    CNAME,
    PTR,
    QTYPE,
    RCODE,
    RR,
    SOA,
    SRV,
    TXT,
    A,
    DNSError,
    DNSRecord,
)
from weft_common.kube.client import KubeClient
from weft_common.kube.informer import Informer
from weft_common.kube.resource import ENDPOINT_SLICES, SERVICES
from weft_common.log import get_logger

from weft_local.dns.core.answers import TTL_S, Answer, Record, RecordType, resolve
from weft_local.dns.core.index import NameIndex, service_from_json, slice_from_json

UPSTREAM_TIMEOUT_S: Final = 3.0
MAX_FORWARDED: Final = 256
TCP_IDLE_S: Final = 10.0
UDP_BYTES: Final = 512

_log = get_logger(__name__)


class DnsServer:
    """port: 0 picks one. upstreams: None reads the host's /etc/resolv.conf. ready: it answers from a full index."""

    def __init__(
        self, address: str, domain: str = "cluster.local", port: int = 53, upstreams: Sequence[str] | None = None
    ) -> None:
        self._address = address
        self._domain = domain
        self.port = port
        self._upstreams = list(upstreams) if upstreams is not None else host_resolvers(address)
        self.index = NameIndex()
        self.ready = asyncio.Event()
        self._forwarding = asyncio.Semaphore(MAX_FORWARDED)

    async def run(self, kube: KubeClient) -> None:
        """Serve until cancelled."""
        services = Informer(kube, SERVICES, service_from_json, self.index.services)
        slices = Informer(kube, ENDPOINT_SLICES, slice_from_json, self.index.slices)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(services.run(), name="dns services")
            tasks.create_task(slices.run(), name="dns endpoint slices")
            await services.synced.wait()
            await slices.synced.wait()
            tasks.create_task(self.serve(), name="dns server")

    async def serve(self) -> None:
        """Answer from the index as it is, until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as queries:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _UdpProtocol(self, queries), local_addr=(self._address, self.port)
            )
            self.port = transport.get_extra_info("sockname")[1]
            try:
                server = await asyncio.start_server(self._serve_tcp, self._address, self.port)
                async with server:
                    self.ready.set()
                    await server.serve_forever()
            finally:
                transport.close()

    async def answer(self, query: bytes, *, over_tcp: bool) -> bytes | None:
        """The reply to one message; None for one that is not a query."""
        try:
            request = DNSRecord.parse(query)
        except (DNSError, ValueError, struct.error, IndexError):
            return None
        if request.header.qr or not request.questions:
            return None
        question = request.q
        kind = _TYPES.get(QTYPE.get(question.qtype), RecordType.OTHER)
        result = resolve(self.index, str(question.qname), kind, self._domain)
        if result is None:
            return await self._forward(request, query, over_tcp=over_tcp)
        reply = _reply(request, result, self._domain)
        if result.records and result.records[0].kind is RecordType.CNAME and kind in (RecordType.A, RecordType.AAAA):
            await self._follow(reply, result.records[0].value, question.qtype)
        return _packed(reply, over_tcp=over_tcp)

    async def _follow(self, reply: DNSRecord, target: str, qtype: int) -> None:
        """Addresses of an ExternalName's target, so that simple clients need not ask again."""
        query = DNSRecord.question(target, QTYPE.get(qtype))
        raw = await self.answer(query.pack(), over_tcp=True)
        if raw is not None:
            for record in DNSRecord.parse(raw).rr:
                reply.add_answer(record)

    async def _forward(self, request: DNSRecord, query: bytes, *, over_tcp: bool) -> bytes:
        async with self._forwarding:
            for upstream in self._upstreams:
                with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(UPSTREAM_TIMEOUT_S):
                        ask = _ask_tcp if over_tcp else _ask_udp
                        return await ask(upstream, query)
        reply = request.reply(ra=1, aa=0)
        reply.header.rcode = RCODE.SERVFAIL
        return bytes(reply.pack())

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while True:
                async with asyncio.timeout(TCP_IDLE_S):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    query = await reader.readexactly(length)
                reply = await self.answer(query, over_tcp=True)
                if reply is None:
                    break
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        writer.close()


class _UdpProtocol(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer, queries: asyncio.TaskGroup) -> None:
        self._server = server
        self._queries = queries
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because the event loop's own class does not derive from the one that describes it.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._queries.create_task(self._reply(data, addr))

    def error_received(self, exc: Exception) -> None:
        """A client that closed its socket before our answer came; nothing to do."""

    async def _reply(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = await self._server.answer(data, over_tcp=False)
        if reply is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(reply, addr)


def host_resolvers(own_address: str, path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """Resolvers of the host, without ourselves."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines if line.startswith("nameserver")]
    return [w[1] for w in words if len(w) > 1 and w[1] != own_address and ":" not in w[1]]


def _reply(request: DNSRecord, answer: Answer, domain: str) -> DNSRecord:
    reply = request.reply(ra=1, aa=1)
    if not answer.exists:
        reply.header.rcode = RCODE.NXDOMAIN
    for record in answer.records:
        reply.add_answer(_rr(record))
    for record in answer.additional:
        reply.add_ar(_rr(record))
    if not answer.records:
        # Says how long the absence may be remembered (RFC 2308).
        soa = SOA(f"ns.dns.{domain}", f"hostmaster.{domain}", (1, 7200, 1800, 86400, TTL_S))
        reply.add_auth(RR(domain, QTYPE.SOA, ttl=TTL_S, rdata=soa))
    return reply


def _rr(record: Record) -> RR:
    data: Any
    match record.kind:
        case RecordType.A:
            data = A(record.value)
        case RecordType.AAAA:
            data = AAAA(record.value)
        case RecordType.SRV:
            data = SRV(0, 100, record.port, record.value)
        case RecordType.PTR:
            data = PTR(record.value)
        case RecordType.CNAME:
            data = CNAME(record.value)
        case RecordType.TXT | RecordType.OTHER:
            data = TXT(record.value)
    return RR(record.name, getattr(QTYPE, record.kind.value), ttl=TTL_S, rdata=data)


def _packed(reply: DNSRecord, *, over_tcp: bool) -> bytes:
    packed = bytes(reply.pack())
    if over_tcp or len(packed) <= UDP_BYTES:
        return packed
    # Too long for a datagram: an empty, truncated answer makes the client ask over TCP.
    return bytes(reply.truncate().pack())


async def _ask_udp(upstream: str, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    received: asyncio.Future[bytes] = loop.create_future()

    class Reply(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            if data[:2] == query[:2] and not received.done():
                received.set_result(data)

        def error_received(self, exc: Exception) -> None:
            if not received.done():
                received.set_exception(exc)

    transport, _ = await loop.create_datagram_endpoint(Reply, remote_addr=(upstream, 53))
    try:
        transport.sendto(query)
        return await received
    finally:
        transport.close()


async def _ask_tcp(upstream: str, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(upstream, 53)
    try:
        writer.write(struct.pack("!H", len(query)) + query)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()


_TYPES: Final = {kind.value: kind for kind in RecordType}
