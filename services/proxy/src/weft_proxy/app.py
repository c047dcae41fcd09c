"""Builds and connects the proxy, and runs it from start to drained.

Owns the life cycle only: engine up, certificate, listeners, stop, drain. The engine's events arrive through one file
descriptor and are dispatched here.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING, TextIO

import grpc.aio
from weft_proto.weft import engine_pb2

from weft_proxy.admin import Admin
from weft_proxy.channels import open_channel
from weft_proxy.core.log_filter import Level
from weft_proxy.core.metrics import ControlMetrics, IdentityMetrics, SpanMetrics
from weft_proxy.core.settings import ControlService, Settings
from weft_proxy.core.trust import Leaf
from weft_proxy.discovery import Discovery
from weft_proxy.identity import Certifier
from weft_proxy.key_files import KeyAndCsr
from weft_proxy.logs import LogSink
from weft_proxy.ports import Cryptography, Engine, EngineFault
from weft_proxy.streams import Follower
from weft_proxy.trust import TrustBundle, TrustFollower, follow_file

if TYPE_CHECKING:
    from weft_proxy.spans import SpanExporter

EXIT_OK = 0
EXIT_FAILED = 1
DRAIN_SLACK_S = 2.0
"""How long past the grace period the engine may take to report that it closed what was left."""

_LOG_LEVELS = {
    engine_pb2.Log.DEBUG: Level.DEBUG,
    engine_pb2.Log.INFO: Level.INFO,
    engine_pb2.Log.WARN: Level.WARN,
    engine_pb2.Log.ERROR: Level.ERROR,
}


class App:
    """One proxy. `run` may be called once."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        cryptography: Cryptography,
        pair: KeyAndCsr,
        trust_anchors_pem: str,
        sink: LogSink,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._cryptography = cryptography
        self._pair = pair
        self._sink = sink
        self._bundle = TrustBundle(trust_anchors_pem, settings.identity, engine, sink.logger("weft_proxy::identity"))
        self._log = sink.logger("weft_proxy")
        self._rng = Random()
        self._identity_metrics = IdentityMetrics()
        self._control_metrics = ControlMetrics()
        self._span_metrics = SpanMetrics() if settings.trace else None
        self._access_log: TextIO = sys.stderr
        self._spans: SpanExporter | None = None
        self._certified = False
        self._listening = False
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._drained = asyncio.Event()
        self._exit_code = EXIT_OK
        self._discovery: Discovery | None = None
        self._admin = Admin(
            engine,
            sink,
            sink.logger("weft_proxy::admin"),
            self._identity_metrics,
            self._control_metrics,
            self._span_metrics,
            shutdown_enabled=settings.shutdown_endpoint,
            is_ready=lambda: self._certified and self._listening,
            is_stopping=self._stop.is_set,
            shut_down=lambda: self._shut_down("/shutdown"),
        )

    async def run(self) -> int:
        """Exit code. Returns after a drain, or at once when the engine cannot start or listen."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        try:
            self._engine.start()
        except EngineFault as error:
            self._log.error("The engine cannot start", why=str(error))
            return EXIT_FAILED
        fd = self._engine.event_fd()
        loop.add_reader(fd, self._pump)
        with _signals(self._shut_down):
            try:
                await self._serve()
            finally:
                loop.remove_reader(fd)
                self._engine.stop()
        return self._exit_code

    async def _serve(self) -> None:
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            identity, destination, policy = [
                await stack.enter_async_context(open_channel(service)) for service in settings.control_services
            ]
            self._discovery = self._make_discovery(group, destination, policy)
            tasks = self._identity_tasks(group, identity)
            tasks += await self._export_spans(stack, group)
            await self._stop.wait()
            if self._exit_code == EXIT_OK:
                await self._drain()
            for task in tasks:
                task.cancel()
            self._discovery.stop()

    def _make_discovery(
        self, group: asyncio.TaskGroup, destination: grpc.aio.Channel, policy: grpc.aio.Channel
    ) -> Discovery:
        log = self._sink.logger("weft_proxy::discovery")

        def follower(service: ControlService) -> Follower:
            sides = self._settings.inbound.side, self._settings.outbound.side
            backoff = sides[0 if service.address.is_loopback else 1].backoff
            limits = self._settings.discovery.stream_limits
            return Follower(service, limits, backoff, self._control_metrics, self._rng, log)

        return Discovery(
            self._settings.discovery,
            self._engine,
            group,
            destination,
            policy,
            follower(self._settings.destination_service),
            follower(self._settings.policy_service),
            log,
        )

    async def _export_spans(
        self, stack: contextlib.AsyncExitStack, group: asyncio.TaskGroup
    ) -> list[asyncio.Task[None]]:
        trace = self._settings.trace
        if trace is None:
            return []
        # Imported here: the OpenTelemetry messages cost memory that most proxies need not spend.
        from weft_proxy.spans import SpanExporter

        channel = await stack.enter_async_context(open_channel(trace.collector))
        self._spans = SpanExporter(trace, channel, self._span_metrics, self._sink.logger("weft_proxy::spans"))
        return [group.create_task(self._spans.run(), name="export spans")]

    def _identity_tasks(self, group: asyncio.TaskGroup, channel: grpc.aio.Channel) -> list[asyncio.Task[None]]:
        certifier, follower = self._certifier(channel), self._trust_follower(channel)

        def certified(leaf: Leaf) -> None:
            follower.leaf_changed(leaf)
            self._on_certified()

        tasks = [
            group.create_task(certifier.run(certified), name="certify"),
            group.create_task(follower.run(certifier.issuer_told), name="trust"),
        ]
        if file := self._settings.identity.trust_anchors_file:
            tasks.append(group.create_task(follow_file(file, self._bundle), name="trust file"))
        return tasks

    def _trust_follower(self, channel: grpc.aio.Channel) -> TrustFollower:
        return TrustFollower(
            self._settings.identity,
            self._settings.identity_service,
            channel,
            self._bundle,
            self._settings.outbound.side.backoff,
            self._settings.discovery.stream_limits.lifetime_ms,
            self._control_metrics,
            self._rng,
            self._sink.logger("weft_proxy::identity"),
        )

    def _certifier(self, channel: grpc.aio.Channel) -> Certifier:
        return Certifier(
            self._settings.identity,
            self._settings.identity_service,
            channel,
            self._pair,
            self._bundle,
            self._engine,
            self._cryptography,
            self._settings.outbound.side.backoff,
            self._identity_metrics,
            self._control_metrics,
            self._rng,
            self._sink.logger("weft_proxy::identity"),
        )

    def _on_certified(self) -> None:
        if self._certified:
            return
        self._certified = True
        try:
            self._engine.apply(engine_pb2.Command(open_data_listeners=engine_pb2.OpenDataListeners()))
        except EngineFault as error:
            self._log.error("Cannot open the data listeners", why=str(error))
            self._exit_code = EXIT_FAILED
            self._stop.set()
            return
        # Policy is watched only now, so that its connection carries our identity from its first byte.
        if self._discovery is not None:
            inbound = self._settings.inbound
            gateway = {inbound.listen.port} if inbound.gateway_suffixes else set()
            self._discovery.pin_ports({*inbound.ports, self._settings.admin_listen.port} | gateway)

    async def _drain(self) -> None:
        grace_ms = min(self._settings.shutdown_grace_ms, 0xFFFF_FFFF)
        self._log.info("Draining", grace_ms=grace_ms)
        try:
            self._engine.apply(engine_pb2.Command(drain=engine_pb2.Drain(grace_ms=grace_ms)))
        except EngineFault as error:
            self._log.error("Cannot drain", why=str(error))
            return
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(event.wait()) for event in (self._drained, self._hurry)]
            await asyncio.wait(waits, timeout=grace_ms / 1000 + DRAIN_SLACK_S, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if not self._drained.is_set():
            self._log.warning("Stopped before the drain was over")

    def _shut_down(self, why: str) -> None:
        """The first request drains; a second one, while draining, stops waiting."""
        if self._stop.is_set():
            self._hurry.set()
            return
        self._log.info("Shutting down", why=why)
        self._stop.set()

    def _pump(self) -> None:
        for event in self._engine.events():
            self._dispatch(event)

    def _dispatch(self, event: engine_pb2.Event) -> None:
        kind = event.WhichOneof("kind")
        match kind:
            case "admin_request":
                self._admin.handle(event.admin_request)
            case "log":
                entry = event.log
                self._sink.write(entry.target, _LOG_LEVELS.get(entry.level, Level.INFO), entry.message, entry.fields)
            case "access_line":
                self._access_log.write(event.access_line.text + "\n")
            case "span":
                if self._spans is not None:
                    self._spans.add(event.span)
            case "listening":
                self._listening = True
                self._log.info("Listening", inbound=str(self._settings.inbound.listen))
            case "drained":
                self._log.info("Drained", cut=event.drained.cut)
                self._drained.set()
            case _:
                if self._discovery is not None:
                    self._dispatch_discovery(self._discovery, kind, event)

    @staticmethod
    def _dispatch_discovery(discovery: Discovery, kind: str | None, event: engine_pb2.Event) -> None:
        match kind:
            case "discover_target":
                discovery.discover_target(event.discover_target)
            case "release_target":
                discovery.release_target(event.release_target)
            case "discover_profile":
                discovery.discover_profile(event.discover_profile.authority)
            case "release_profile":
                discovery.release_profile(event.release_profile.authority)
            case "discover_endpoints":
                discovery.discover_endpoints(event.discover_endpoints.path)
            case "release_endpoints":
                discovery.release_endpoints(event.release_endpoints.path)
            case "watch_port":
                discovery.watch_port(event.watch_port.port)
            case "release_port":
                discovery.release_port(event.release_port.port)
            case _:
                # An event of a newer engine; versions are compared at start, so this is only a guard.
                return

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self._log.error(str(context.get("message", "unexpected error")), why=repr(context.get("exception")))


@contextlib.contextmanager
def _signals(shut_down: Callable[[str], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    wanted = (signal.SIGTERM, signal.SIGINT)
    for number in wanted:
        loop.add_signal_handler(number, shut_down, number.name)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)
