"""Answers the engine's questions: what is this target, where are its endpoints, what does this port admit, and what
does the profile of this name say.

One task per open question, owned by the group it is given; a release cancels the task. Messages pass through to the
engine; what they mean is the engine's business.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc.aio
from weft_proto.linkerd import destination_pb2, inbound_pb2, outbound_pb2
from weft_proto.linkerd.destination_pb2_grpc import DestinationStub
from weft_proto.linkerd.inbound_pb2_grpc import InboundServerPoliciesStub
from weft_proto.linkerd.outbound_pb2_grpc import OutboundPoliciesStub
from weft_proto.weft import engine_pb2

from weft_proxy.core.endpoints import EndpointStream
from weft_proxy.core.settings import DiscoverySettings
from weft_proxy.core.stream import End, Method
from weft_proxy.core.target import Answer, Target, TargetState, target_of
from weft_proxy.logs import Logger
from weft_proxy.ports import Engine, EngineFault
from weft_proxy.streams import Follower

Key = tuple[str, str | int]


class Discovery:
    """Holds the open questions, keyed by kind and target, path, name or port."""

    def __init__(
        self,
        settings: DiscoverySettings,
        engine: Engine,
        group: asyncio.TaskGroup,
        destination: grpc.aio.Channel,
        policy: grpc.aio.Channel,
        follow_destination: Follower,
        follow_policy: Follower,
        log: Logger,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._group = group
        self._destination = DestinationStub(destination)
        self._outbound = OutboundPoliciesStub(policy)
        self._inbound = InboundServerPoliciesStub(policy)
        self._follow_destination = follow_destination
        self._follow_policy = follow_policy
        self._log = log
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._pinned: frozenset[int] = frozenset()

    def pin_ports(self, ports: set[int]) -> None:
        """Watch these ports until the process ends; a release of one is not heeded."""
        self._pinned |= ports
        for port in sorted(ports):
            self.watch_port(port)

    def discover_target(self, asked: engine_pb2.DiscoverTarget) -> None:
        target = target_of(asked)
        if target is None:
            self._log.error("The engine asked for a target without an address or a name")
            return
        self._start(("target", target.path), self._answer_target(target, asked))

    def release_target(self, released: engine_pb2.ReleaseTarget) -> None:
        if target := target_of(released):
            self._stop(("target", target.path))

    def discover_profile(self, authority: str) -> None:
        self._start(("profile", authority), self._answer_inbound_profile(authority))

    def release_profile(self, authority: str) -> None:
        self._stop(("profile", authority))

    def discover_endpoints(self, path: str) -> None:
        self._start(("endpoints", path), self._answer_endpoints(path))

    def release_endpoints(self, path: str) -> None:
        self._stop(("endpoints", path))

    def watch_port(self, port: int) -> None:
        self._start(("port", port), self._answer_port(port))

    def release_port(self, port: int) -> None:
        if port not in self._pinned:
            self._stop(("port", port))

    def stop(self) -> None:
        for key in list(self._tasks):
            self._stop(key)

    def _start(self, key: Key, answering: Coroutine[Any, Any, None]) -> None:
        if key in self._tasks:
            answering.close()
            return
        self._tasks[key] = self._group.create_task(answering, name=f"{key[0]} {key[1]}")

    def _stop(self, key: Key) -> None:
        if task := self._tasks.pop(key, None):
            task.cancel()

    def _apply(self, command: engine_pb2.Command | None, subject: str) -> None:
        if command is None:
            return
        try:
            self._engine.apply(command)
        except EngineFault as error:
            self._log.warning("The engine refused an answer", subject=subject, why=str(error))

    async def _answer_target(self, target: Target, asked: engine_pb2.DiscoverTarget) -> None:
        state = TargetState(asked)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answer_policy(target.path, state), name=f"policy {target.path}")
            if target.wants_profile(self._settings):
                group.create_task(self._answer_profile(target.path, state), name=f"profile {target.path}")
            else:
                state.profile = Answer.ABSENT

    async def _answer_policy(self, subject: str, state: TargetState) -> None:
        spec = outbound_pb2.TrafficSpec(source_workload=self._settings.workload)
        if state.asked.HasField("original_dst"):
            method = Method.WATCH_OUTBOUND
            spec.addr.CopyFrom(state.asked.original_dst)
        else:
            method = Method.WATCH_OUTBOUND_NAME
            spec.authority = subject

        def learn(policy: outbound_pb2.OutboundPolicy) -> None:
            state.policy = policy
            self._apply(state.command(), subject)

        def unknown() -> None:
            if state.policy is not Answer.ABSENT:
                state.policy = Answer.ABSENT
                self._apply(state.command(), subject)

        end, why = await self._follow_policy.follow(
            method, subject, lambda: self._outbound.Watch(spec), learn, on_missing=unknown
        )
        if end is End.REFUSED:
            state.refusal = why
            self._apply(state.command(), subject)
        else:
            unknown()

    async def _answer_profile(self, subject: str, state: TargetState) -> None:
        def learn(profile: destination_pb2.DestinationProfile | None) -> None:
            state.profile = Answer.ABSENT if profile is None else profile
            self._apply(state.command(), subject)

        await self._follow_profile(subject, learn)

    async def _answer_inbound_profile(self, authority: str) -> None:
        def learn(profile: destination_pb2.DestinationProfile | None) -> None:
            set_profile = engine_pb2.SetProfile(authority=authority, profile=profile)
            self._apply(engine_pb2.Command(set_profile=set_profile), authority)

        await self._follow_profile(authority, learn)

    async def _follow_profile(
        self, path: str, learn: Callable[[destination_pb2.DestinationProfile | None], None]
    ) -> None:
        """learn: told of each profile, and of None when there is none: for good, or until there is one."""
        request = destination_pb2.GetDestination(path=path, context_token=self._settings.context)
        is_told = False

        def found(profile: destination_pb2.DestinationProfile | None) -> None:
            nonlocal is_told
            is_told = True
            learn(profile)

        def missing() -> None:
            # What was known is kept: it may be the control plane that lost sight of it.
            if not is_told:
                found(None)

        await self._follow_destination.follow(
            Method.GET_PROFILE, path, lambda: self._destination.GetProfile(request), found, on_missing=missing
        )
        learn(None)

    async def _answer_endpoints(self, path: str) -> None:
        # A name's trailing dot is not sent, though backends may carry one (wire.md 2.1).
        name, colon, port = path.rpartition(":")
        wire_path = f"{name.removesuffix('.')}{colon}{port}"
        request = destination_pb2.GetDestination(path=wire_path, context_token=self._settings.context)
        stream = EndpointStream(path)
        _, why = await self._follow_destination.follow(
            Method.GET,
            wire_path,
            lambda: self._destination.Get(request),
            lambda update: self._apply(stream.command(update), wire_path),
            on_connect=stream.reconnected,
        )
        self._apply(stream.refused(why), wire_path)

    async def _answer_port(self, port: int) -> None:
        spec = inbound_pb2.PortSpec(workload=self._settings.workload, port=port)
        subject = str(port)

        def learn(policy: inbound_pb2.Server) -> None:
            set_port = engine_pb2.SetInboundPort(port=port, policy=policy)
            self._apply(engine_pb2.Command(set_inbound_port=set_port), subject)

        await self._follow_policy.follow(Method.WATCH_PORT, subject, lambda: self._inbound.WatchPort(spec), learn)
