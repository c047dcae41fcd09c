"""The proxy's Python side between a real gRPC control plane and an engine double.

The double keeps the engine's contract (events in, commands out, tunnels on abstract sockets) and moves no traffic.
"""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import signal
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from weft_proto.linkerd import destination_pb2, identity_pb2, inbound_pb2, outbound_pb2
from weft_proto.linkerd.destination_pb2_grpc import DestinationServicer, add_DestinationServicer_to_server
from weft_proto.linkerd.identity_pb2_grpc import IdentityServicer, add_IdentityServicer_to_server
from weft_proto.linkerd.inbound_pb2_grpc import (
    InboundServerPoliciesServicer,
    add_InboundServerPoliciesServicer_to_server,
)
from weft_proto.linkerd.outbound_pb2_grpc import OutboundPoliciesServicer, add_OutboundPoliciesServicer_to_server
from weft_proto.weft import decision_pb2, engine_pb2
from weft_proto.weft import identity_pb2 as identity_weft_pb2
from weft_proto.weft.identity_pb2_grpc import TrustServicer, add_TrustServicer_to_server
from weft_proxy.app import EXIT_FAILED, EXIT_OK, App
from weft_proxy.config import read_settings
from weft_proxy.core.addresses import socket_addr_to_message
from weft_proxy.core.log_filter import LogFilter
from weft_proxy.core.trust import anchor_ids
from weft_proxy.core.values import parse_socket_addr
from weft_proxy.key_files import KeyAndCsr
from weft_proxy.logs import LogSink
from weft_proxy.ports import EngineFault, LeafRejected

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
BOTH = PEM + PEM.replace("AAAA", "BBBB")
DST = socket_addr_to_message(parse_socket_addr("10.1.2.3:80"))
EXTERNAL = socket_addr_to_message(parse_socket_addr("192.0.2.1:443"))
WAIT_S = 10.0

Replies = asyncio.Queue[Any]
"""What a stream sends: a message, a status code to abort with, or None to end OK."""


def sha256(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


class EngineDouble:
    def __init__(self, start_error: str = "") -> None:
        self.commands: asyncio.Queue[engine_pb2.Command] = asyncio.Queue()
        self.stopped = False
        self._start_error = start_error
        self._events: list[engine_pb2.Event] = []
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def close(self) -> None:
        os.close(self._fd)

    def start(self) -> None:
        if self._start_error:
            raise EngineFault(self._start_error)

    def event_fd(self) -> int:
        return self._fd

    def emit(self, **kind: Any) -> None:
        self._events.append(engine_pb2.Event(**kind))
        os.eventfd_write(self._fd, 1)

    def events(self) -> list[engine_pb2.Event]:
        os.eventfd_read(self._fd)
        taken, self._events = self._events, []
        return taken

    def apply(self, command: engine_pb2.Command) -> None:
        self.commands.put_nowait(command)
        match command.WhichOneof("kind"):
            case "open_data_listeners":
                self.emit(listening=engine_pb2.Listening())
            case "drain":
                self.emit(drained=engine_pb2.Drained())

    def metrics(self) -> bytes:
        return b"engine_up 1\n"

    def decisions(self, asked: decision_pb2.ListDecisions) -> decision_pb2.DecisionList:
        return decision_pb2.DecisionList(decisions=[decision_pb2.Decision(id=asked.id or "0:0", http_status=503)])

    def stop(self) -> None:
        self.stopped = True

    async def command(self, kind: str) -> Any:
        """The next command of this kind; others are passed over."""
        async with asyncio.timeout(WAIT_S):
            while True:
                command = await self.commands.get()
                if command.WhichOneof("kind") == kind:
                    return getattr(command, kind)

    async def ask(self, method: str, path: str) -> engine_pb2.AdminResponse:
        self.emit(admin_request=engine_pb2.AdminRequest(id=7, method=method, path=path, client_is_loopback=True))
        response: engine_pb2.AdminResponse = await self.command("admin_response")
        return response


class CryptographyDouble:
    def generate_key_and_csr(self, name: str) -> tuple[bytes, bytes]:
        return f"key of {name}".encode(), b"csr"

    def verify_leaf(self, leaf: bytes, intermediates: list[bytes], anchors_pem: str, name: str) -> None:
        if leaf == b"forged":
            raise LeafRejected("unknown issuer")


class ControlPlane(IdentityServicer, DestinationServicer, InboundServerPoliciesServicer):
    """Real servers' stand-in on a real port: every stream sends what a test puts into its queue."""

    def __init__(self) -> None:
        self.certify: asyncio.Queue[grpc.StatusCode | bytes] = asyncio.Queue()
        self.tokens: list[bytes] = []
        self.issuer = b"issuer"
        self.opened: defaultdict[str, asyncio.Queue[tuple[Any, Replies]]] = defaultdict(asyncio.Queue)
        self.closed: asyncio.Queue[str] = asyncio.Queue()

    async def Certify(self, request: identity_pb2.CertifyRequest, context: Any) -> identity_pb2.CertifyResponse:
        self.tokens.append(request.token)
        reply = await self.certify.get()
        if not isinstance(reply, bytes):
            await context.abort(reply, "as the test wants")
            raise AssertionError("abort raises")
        response = identity_pb2.CertifyResponse(leaf_certificate=reply, intermediate_certificates=[self.issuer])
        response.valid_until.FromDatetime(datetime.now(UTC) + timedelta(days=1))
        return response

    async def serve(self, method: str, request: Any, context: Any) -> AsyncIterator[Any]:
        replies: Replies = asyncio.Queue()
        self.opened[method].put_nowait((request, replies))
        try:
            while (reply := await replies.get()) is not None:
                if isinstance(reply, grpc.StatusCode):
                    await context.abort(reply, "as the test wants")
                yield reply
        finally:
            self.closed.put_nowait(method)

    async def Get(self, request: destination_pb2.GetDestination, context: Any) -> AsyncIterator[Any]:
        async for reply in self.serve("Get", request, context):
            yield reply

    async def GetProfile(self, request: destination_pb2.GetDestination, context: Any) -> AsyncIterator[Any]:
        async for reply in self.serve("GetProfile", request, context):
            yield reply

    async def WatchPort(self, request: inbound_pb2.PortSpec, context: Any) -> AsyncIterator[Any]:
        async for reply in self.serve("WatchPort", request, context):
            yield reply

    def GetPort(self, request: inbound_pb2.PortSpec, context: Any) -> Any:
        raise NotImplementedError

    async def stream(self, method: str) -> tuple[Any, Replies]:
        """The next stream of this method."""
        async with asyncio.timeout(WAIT_S):
            return await self.opened[method].get()

    async def closing(self, method: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while await self.closed.get() != method:
                pass


class TrustPlane(TrustServicer):
    """Tells what a test puts into its queue, keeps what proxies report."""

    def __init__(self) -> None:
        self.updates: asyncio.Queue[identity_weft_pb2.TrustUpdate] = asyncio.Queue()
        self.reports: asyncio.Queue[identity_weft_pb2.ProxyReport] = asyncio.Queue()

    async def Follow(
        self, request_iterator: AsyncIterator[identity_weft_pb2.ProxyReport], context: Any
    ) -> AsyncIterator[identity_weft_pb2.TrustUpdate]:
        listening = asyncio.ensure_future(self._listen(request_iterator))
        try:
            while True:
                yield await self.updates.get()
        finally:
            listening.cancel()

    async def _listen(self, reports: AsyncIterator[identity_weft_pb2.ProxyReport]) -> None:
        async for report in reports:
            self.reports.put_nowait(report)

    async def report(self) -> identity_weft_pb2.ProxyReport:
        async with asyncio.timeout(WAIT_S):
            return await self.reports.get()


class OutboundPlane(OutboundPoliciesServicer):
    """Apart from the rest because its Get is another Get."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def Watch(self, request: outbound_pb2.TrafficSpec, context: Any) -> AsyncIterator[Any]:
        async for reply in self._plane.serve("Watch", request, context):
            yield reply

    def Get(self, request: outbound_pb2.TrafficSpec, context: Any) -> Any:
        raise NotImplementedError


class Mesh:
    """One app under test with what surrounds it."""

    def __init__(
        self, engine: EngineDouble, plane: ControlPlane, trust: TrustPlane, app: asyncio.Task[int], log: io.StringIO
    ) -> None:
        self.engine = engine
        self.plane = plane
        self.trust = trust
        self.app = app
        self.log = log

    async def certified(self) -> None:
        self.plane.certify.put_nowait(b"leaf")
        await self.engine.command("open_data_listeners")

    async def exit_code(self) -> int:
        async with asyncio.timeout(WAIT_S):
            return await self.app


@contextlib.asynccontextmanager
async def tunnels(port: int) -> AsyncIterator[None]:
    """What the engine does for loopback services: copy bytes from the abstract socket to the address."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def tunnel(down_reader: asyncio.StreamReader, down_writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as group:
            group.create_task(copy(down_reader, up_writer))
            group.create_task(copy(up_reader, down_writer))

    async with contextlib.AsyncExitStack() as stack:
        for name in ("identity", "destination", "policy"):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"\0weft/{os.getpid()}/{name}")
            await stack.enter_async_context(await asyncio.start_unix_server(tunnel, sock=listener))
        yield


Start = Callable[..., contextlib.AbstractAsyncContextManager[Mesh]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    token = tmp_path / "token"
    token.write_text("first\n")

    @contextlib.asynccontextmanager
    async def run(**more: str) -> AsyncIterator[Mesh]:
        plane = ControlPlane()
        server = grpc.aio.server()
        add_IdentityServicer_to_server(plane, server)
        add_DestinationServicer_to_server(plane, server)
        add_InboundServerPoliciesServicer_to_server(plane, server)
        add_OutboundPoliciesServicer_to_server(OutboundPlane(plane), server)
        trust = TrustPlane()
        add_TrustServicer_to_server(trust, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        environ = {
            "IDENTITY_SVC_ADDR": f"localhost.:{port}",
            "DESTINATION_SVC_ADDR": f"localhost.:{port}",
            "POLICY_SVC_ADDR": f"localhost.:{port}",
            "POLICY_WORKLOAD": "shop:web",
            "DESTINATION_CONTEXT": "ctx",
            "DESTINATION_PROFILE_NETWORKS": "10.0.0.0/8",
            "IDENTITY_DIR": str(tmp_path),
            "IDENTITY_TOKEN_FILE": str(token),
            "IDENTITY_TRUST_ANCHORS": PEM,
            "IDENTITY_LOCAL_NAME": "web.shop",
            "IDENTITY_MIN_REFRESH": "50ms",
            "INBOUND_CONNECT_EXP_BACKOFF_MIN": "10ms",
            "INBOUND_CONNECT_EXP_BACKOFF_MAX": "20ms",
            "SHUTDOWN_ENDPOINT_ENABLED": "true",
            **more,
        }
        settings = read_settings({f"LINKERD2_PROXY_{k}": v for k, v in environ.items()})
        log = io.StringIO()
        sink = LogSink(LogFilter.parse("debug"), as_json=False, out=log)
        engine = EngineDouble()
        async with tunnels(port), asyncio.TaskGroup() as group:
            app = App(settings, engine, CryptographyDouble(), KeyAndCsr(b"key", b"csr"), PEM, sink)
            task = group.create_task(app.run())
            try:
                yield Mesh(engine, plane, trust, task, log)
            finally:
                task.cancel()
                await asyncio.wait([task])
                await server.stop(0)
        engine.close()

    return run


async def test_first_certificate_opens_the_listeners_and_makes_the_proxy_ready(start: Start) -> None:
    async with start(INBOUND_PORTS="8080", ADMIN_LISTEN_ADDR="127.0.0.1:4191") as mesh:
        assert (await mesh.engine.ask("GET", "/ready")).status == 503
        mesh.plane.certify.put_nowait(b"leaf")
        leaf = await mesh.engine.command("set_identity")
        assert (leaf.leaf_der, leaf.private_key_pkcs8) == (b"leaf", b"key")
        await mesh.engine.command("open_data_listeners")
        ports = {(await mesh.plane.stream("WatchPort"))[0].port for _ in range(2)}
        assert ports == {4191, 8080}
        assert (await mesh.engine.ask("GET", "/ready")).status == 200


async def test_refused_and_forged_certificates_are_asked_for_again_with_a_fresh_token(
    start: Start, tmp_path: Path
) -> None:
    async with start() as mesh:
        mesh.plane.certify.put_nowait(grpc.StatusCode.FAILED_PRECONDITION)
        mesh.plane.certify.put_nowait(grpc.StatusCode.UNAVAILABLE)
        (tmp_path / "token").write_text("second")
        mesh.plane.certify.put_nowait(b"forged")
        mesh.plane.certify.put_nowait(b"leaf")
        assert (await mesh.engine.command("set_identity")).leaf_der == b"leaf"
        assert mesh.plane.tokens[-1] == b"second"
        assert "unknown issuer" in mesh.log.getvalue()
        text = (await mesh.engine.ask("GET", "/metrics")).body.decode()
        assert 'control_identity_cert_refreshes_total{result="error"} 3\n' in text
        assert text.startswith("engine_up 1\n")
        assert text.endswith("# EOF\n")


async def test_bundle_is_taken_up_while_running_reported_and_kept_for_a_restart(start: Start, tmp_path: Path) -> None:
    async with start() as mesh:
        first = await mesh.trust.report()
        assert (first.identity, first.token, list(first.trusted_anchors)) == ("web.shop", b"first", anchor_ids(PEM))
        mesh.trust.updates.put_nowait(identity_weft_pb2.TrustUpdate(bundle_pem=BOTH, issuer_id="i"))
        assert (await mesh.engine.command("set_trust_anchors")).pem == BOTH
        second = await mesh.trust.report()
        assert (second.token, list(second.trusted_anchors)) == (b"", anchor_ids(BOTH))
        kept = tmp_path / "trust-anchors.pem"
        assert kept.read_text() == BOTH
        assert kept.stat().st_mode & 0o777 == 0o600


async def test_mounted_bundle_is_followed_and_a_broken_one_changes_nothing(start: Start, tmp_path: Path) -> None:
    mounted = tmp_path / "ca-bundle.crt"
    mounted.write_text(PEM)
    async with start(IDENTITY_TRUST_ANCHORS_FILE=str(mounted)) as mesh:
        await mesh.trust.report()
        mounted.write_text(BOTH)
        assert (await mesh.engine.command("set_trust_anchors")).pem == BOTH
        mesh.trust.updates.put_nowait(identity_weft_pb2.TrustUpdate(bundle_pem=PEM.replace("AAAA", "A?AA")))
        mesh.trust.updates.put_nowait(identity_weft_pb2.TrustUpdate(bundle_pem=PEM))
        assert (await mesh.engine.command("set_trust_anchors")).pem == PEM
        assert "New trust bundle not used" in mesh.log.getvalue()


async def test_leaf_of_another_issuer_is_replaced_at_once(start: Start) -> None:
    async with start(IDENTITY_MIN_REFRESH="10s") as mesh:
        mesh.plane.issuer = b"old issuer"
        await mesh.certified()
        mesh.trust.updates.put_nowait(identity_weft_pb2.TrustUpdate(bundle_pem=PEM, issuer_id=sha256(b"old issuer")))
        mesh.plane.issuer = b"new issuer"
        mesh.trust.updates.put_nowait(identity_weft_pb2.TrustUpdate(bundle_pem=PEM, issuer_id=sha256(b"new issuer")))
        mesh.plane.certify.put_nowait(b"second leaf")
        assert (await mesh.engine.command("set_identity")).leaf_der == b"second leaf"
        async with asyncio.timeout(WAIT_S):
            while (await mesh.trust.report()).leaf_issuer_id != sha256(b"new issuer"):
                pass


async def test_target_is_answered_by_policy_and_profile_and_kept_current(start: Start) -> None:
    async with start() as mesh:
        await mesh.certified()
        mesh.engine.emit(discover_target=engine_pb2.DiscoverTarget(original_dst=DST))
        profile_request, profiles = await mesh.plane.stream("GetProfile")
        assert (profile_request.path, profile_request.context_token) == ("10.1.2.3:80", "ctx")
        profiles.put_nowait(destination_pb2.DestinationProfile(fully_qualified_name="a"))
        spec, policies = await mesh.plane.stream("Watch")
        assert (spec.source_workload, spec.addr) == ("shop:web", DST)
        policies.put_nowait(outbound_pb2.OutboundPolicy())
        first = await mesh.engine.command("set_outbound_target")
        assert first.HasField("policy")
        assert first.profile.fully_qualified_name == "a"
        profiles.put_nowait(destination_pb2.DestinationProfile(fully_qualified_name="b"))
        assert (await mesh.engine.command("set_outbound_target")).profile.fully_qualified_name == "b"
        mesh.engine.emit(release_target=engine_pb2.ReleaseTarget(original_dst=DST))
        await mesh.plane.closing("Watch")


async def test_unknown_external_target_is_told_without_policy_and_profile(start: Start) -> None:
    async with start() as mesh:
        await mesh.certified()
        mesh.engine.emit(discover_target=engine_pb2.DiscoverTarget(original_dst=EXTERNAL))
        _, policies = await mesh.plane.stream("Watch")
        policies.put_nowait(grpc.StatusCode.NOT_FOUND)
        target = await mesh.engine.command("set_outbound_target")
        assert target.original_dst == EXTERNAL
        assert not target.HasField("policy")
        assert not target.HasField("profile")
        assert not target.refusal


async def test_a_name_without_a_service_is_told_at_once_and_works_when_there_is_one(start: Start) -> None:
    """Of an ingress or a gateway."""
    name = "web.shop.svc.cluster.local:80"
    async with start() as mesh:
        await mesh.certified()
        mesh.engine.emit(discover_target=engine_pb2.DiscoverTarget(authority=name))
        spec, policies = await mesh.plane.stream("Watch")
        _, profiles = await mesh.plane.stream("GetProfile")
        assert spec.authority == name
        policies.put_nowait(grpc.StatusCode.NOT_FOUND)
        profiles.put_nowait(grpc.StatusCode.UNKNOWN)
        told = await mesh.engine.command("set_outbound_target")
        assert told.authority == name
        assert not told.HasField("policy")
        assert not told.HasField("profile")
        assert not told.refusal
        _, policies = await mesh.plane.stream("Watch")
        _, profiles = await mesh.plane.stream("GetProfile")
        profiles.put_nowait(destination_pb2.DestinationProfile(fully_qualified_name="a"))
        assert (await mesh.engine.command("set_outbound_target")).profile.fully_qualified_name == "a"
        policies.put_nowait(outbound_pb2.OutboundPolicy())
        told = await mesh.engine.command("set_outbound_target")
        assert told.HasField("policy")
        assert told.profile.fully_qualified_name == "a"


async def test_a_service_that_is_deleted_is_told_and_its_last_profile_kept(start: Start) -> None:
    async with start() as mesh:
        await mesh.certified()
        mesh.engine.emit(discover_target=engine_pb2.DiscoverTarget(authority="web.shop.svc.cluster.local:80"))
        _, policies = await mesh.plane.stream("Watch")
        _, profiles = await mesh.plane.stream("GetProfile")
        policies.put_nowait(outbound_pb2.OutboundPolicy())
        profiles.put_nowait(destination_pb2.DestinationProfile(fully_qualified_name="a"))
        assert (await mesh.engine.command("set_outbound_target")).HasField("policy")
        # Servers end the streams of what is gone in good order, and say so to those who ask again.
        profiles.put_nowait(None)
        _, profiles = await mesh.plane.stream("GetProfile")
        profiles.put_nowait(grpc.StatusCode.UNKNOWN)
        await mesh.plane.stream("GetProfile")
        policies.put_nowait(None)
        _, policies = await mesh.plane.stream("Watch")
        policies.put_nowait(grpc.StatusCode.NOT_FOUND)
        told = await mesh.engine.command("set_outbound_target")
        assert not told.HasField("policy")
        assert told.profile.fully_qualified_name == "a"


async def test_a_policy_does_not_wait_for_the_profile_of_a_service_that_is_missing(start: Start) -> None:
    """Linkerd's policy service has a policy for every name."""
    async with start() as mesh:
        await mesh.certified()
        mesh.engine.emit(discover_target=engine_pb2.DiscoverTarget(authority="web.shop.svc.cluster.local:80"))
        _, policies = await mesh.plane.stream("Watch")
        policies.put_nowait(outbound_pb2.OutboundPolicy())
        _, profiles = await mesh.plane.stream("GetProfile")
        profiles.put_nowait(grpc.StatusCode.UNAVAILABLE)
        _, profiles = await mesh.plane.stream("GetProfile")
        profiles.put_nowait(grpc.StatusCode.UNKNOWN)
        told = await mesh.engine.command("set_outbound_target")
        assert told.HasField("policy")
        assert not told.HasField("profile")


async def test_refused_target_fails_with_the_reason(start: Start) -> None:
    async with start() as mesh:
        await mesh.certified()
        mesh.engine.emit(discover_target=engine_pb2.DiscoverTarget(original_dst=EXTERNAL))
        _, policies = await mesh.plane.stream("Watch")
        policies.put_nowait(grpc.StatusCode.INVALID_ARGUMENT)
        assert "INVALID_ARGUMENT" in (await mesh.engine.command("set_outbound_target")).refusal


async def test_a_name_is_answered_by_its_profile_until_it_is_released(start: Start) -> None:
    name = "web.shop.svc.cluster.local:80"
    async with start() as mesh:
        await mesh.certified()
        mesh.engine.emit(discover_profile=engine_pb2.DiscoverProfile(authority=name))
        request, profiles = await mesh.plane.stream("GetProfile")
        assert (request.path, request.context_token) == (name, "ctx")
        for fqn in ("a", "b"):
            profiles.put_nowait(destination_pb2.DestinationProfile(fully_qualified_name=fqn))
            told = await mesh.engine.command("set_profile")
            assert (told.authority, told.profile.fully_qualified_name) == (name, fqn)
        mesh.engine.emit(release_profile=engine_pb2.ReleaseProfile(authority=name))
        await mesh.plane.closing("GetProfile")


async def test_a_name_that_can_have_no_profile_is_told_so_and_one_that_may_yet_is_asked_again(start: Start) -> None:
    async with start() as mesh:
        await mesh.certified()
        mesh.engine.emit(discover_profile=engine_pb2.DiscoverProfile(authority="web.shop:80"))
        _, profiles = await mesh.plane.stream("GetProfile")
        for code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INVALID_ARGUMENT):
            profiles.put_nowait(code)
            told = await mesh.engine.command("set_profile")
            assert (told.authority, told.HasField("profile")) == ("web.shop:80", False)
            if code is grpc.StatusCode.UNKNOWN:
                _, profiles = await mesh.plane.stream("GetProfile")


async def test_endpoints_are_replaced_after_a_reconnect(start: Start) -> None:
    add = destination_pb2.Update(add=destination_pb2.WeightedAddrSet(addrs=[destination_pb2.WeightedAddr(addr=DST)]))
    # A control plane on loopback is waited for as the inbound side waits.
    hour = {f"OUTBOUND_CONNECT_EXP_BACKOFF_{end}": "1h" for end in ("MIN", "MAX")}
    async with start(**hour) as mesh:
        await mesh.certified()
        mesh.engine.emit(discover_endpoints=engine_pb2.DiscoverEndpoints(path="web.shop.svc.cluster.local.:80"))
        request, replies = await mesh.plane.stream("Get")
        assert request.path == "web.shop.svc.cluster.local:80"
        replies.put_nowait(add)
        replies.put_nowait(add)
        commands = [await mesh.engine.command("set_endpoints") for _ in range(2)]
        assert [c.first_of_stream for c in commands] == [True, False]
        assert {c.path for c in commands} == {"web.shop.svc.cluster.local.:80"}
        replies.put_nowait(None)
        _, replies = await mesh.plane.stream("Get")
        replies.put_nowait(add)
        assert (await mesh.engine.command("set_endpoints")).first_of_stream
        replies.put_nowait(grpc.StatusCode.FAILED_PRECONDITION)
        assert "FAILED_PRECONDITION" in (await mesh.engine.command("set_endpoints")).refusal


async def test_port_policy_is_retried_when_not_found_and_passed_on(start: Start) -> None:
    async with start(ADMIN_LISTEN_ADDR="127.0.0.1:4191") as mesh:
        await mesh.certified()
        await mesh.plane.stream("WatchPort")
        mesh.engine.emit(watch_port=engine_pb2.WatchPort(port=9090))
        spec, replies = await mesh.plane.stream("WatchPort")
        assert (spec.workload, spec.port) == ("shop:web", 9090)
        replies.put_nowait(grpc.StatusCode.NOT_FOUND)
        _, replies = await mesh.plane.stream("WatchPort")
        replies.put_nowait(inbound_pb2.Server(labels={"name": "web-http"}))
        set_port = await mesh.engine.command("set_inbound_port")
        assert (set_port.port, set_port.policy.labels["name"]) == (9090, "web-http")


async def test_sigterm_drains_and_exits_cleanly(start: Start) -> None:
    async with start(SHUTDOWN_GRACE_PERIOD="7s") as mesh:
        await mesh.certified()
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await mesh.engine.command("drain")).grace_ms == 7000
        assert await mesh.exit_code() == EXIT_OK
        assert mesh.engine.stopped


async def test_shutdown_request_is_answered_and_drains(start: Start) -> None:
    async with start() as mesh:
        assert (await mesh.engine.ask("POST", "/shutdown")).status == 200
        assert await mesh.exit_code() == EXIT_OK


async def test_engine_log_reaches_the_sink_through_the_filter(start: Start) -> None:
    async with start() as mesh:
        entry = engine_pb2.Log(level=engine_pb2.Log.WARN, target="weft_net", message="odd", fields={"port": "1"})
        mesh.engine.emit(log=entry)
        await mesh.engine.ask("GET", "/live")
        assert " WARN ThreadId(01) weft_net: odd port=1\n" in mesh.log.getvalue()


async def test_engine_that_cannot_start_ends_the_process(tmp_path: Path) -> None:
    environ = {
        "IDENTITY_SVC_ADDR": "localhost.:1",
        "DESTINATION_SVC_ADDR": "localhost.:1",
        "POLICY_SVC_ADDR": "localhost.:1",
        "POLICY_WORKLOAD": "x",
        "IDENTITY_DIR": str(tmp_path),
        "IDENTITY_TOKEN_FILE": __file__,
        "IDENTITY_TRUST_ANCHORS": PEM,
        "IDENTITY_LOCAL_NAME": "x",
    }
    settings = read_settings({f"LINKERD2_PROXY_{k}": v for k, v in environ.items()})
    log = io.StringIO()
    engine = EngineDouble(start_error="4191: address in use")
    sink = LogSink(LogFilter.parse("info"), as_json=True, out=log)
    assert await App(settings, engine, CryptographyDouble(), KeyAndCsr(b"", b""), PEM, sink).run() == EXIT_FAILED
    assert "address in use" in log.getvalue()
    engine.close()


async def test_decisions_are_json_with_the_field_names_of_the_proto(start: Start) -> None:
    async with start() as mesh:
        answer = await mesh.engine.ask("GET", "/decisions")
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert json.loads(answer.body) == {"decisions": [{"id": "0:0", "http_status": 503}]}


async def test_access_lines_go_to_stderr_in_the_order_they_came(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    async with start() as mesh:
        for text in ("one", "two"):
            mesh.engine.emit(access_line=engine_pb2.AccessLine(text=text))
        await mesh.engine.ask("GET", "/live")
    assert capsys.readouterr().err == "one\ntwo\n"
