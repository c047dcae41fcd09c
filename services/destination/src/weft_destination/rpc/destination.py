"""io.linkerd.proxy.destination.Destination: Get and GetProfile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from weft_policy.core.endpoints import EndpointSet, locality_for
from weft_policy.core.names import (
    AddressTarget,
    Refusal,
    RefusalCode,
    ServiceTarget,
    client_from_token,
    target_from_path,
)
from weft_policy.core.profile import ProfileAnswer
from weft_policy.wire.encode_destination import profile_message, updates_between
from weft_proto.linkerd import destination_pb2 as pb

from weft_destination.answers import Answers, EndpointQuestion, ProfileQuestion
from weft_destination.rpc.streams import Context, Messages, StreamMetrics, latest, refuse, send, stream_messages
from weft_destination.store.snapshots import Snapshot

LoadSnapshot = Callable[[ServiceTarget], Coroutine[Any, Any, Snapshot | None]]


@dataclass(frozen=True, slots=True)
class DestinationService:
    """load_snapshot: what was last sent for a target, by any replica; None when nobody knows."""

    answers: Answers
    metrics: StreamMetrics
    load_snapshot: LoadSnapshot

    async def get(self, request: pb.GetDestination, context: Context) -> None:
        """Endpoints of a name."""
        await send(context, self._get(request, context), self.metrics, "Get")

    async def get_profile(self, request: pb.GetDestination, context: Context) -> None:
        """What a name or an address is."""
        await send(context, self._get_profile(request, context), self.metrics, "GetProfile")

    def handler(self) -> grpc.GenericRpcHandler:
        """For `Server.add_generic_rpc_handlers`."""
        return grpc.method_handlers_generic_handler(
            "io.linkerd.proxy.destination.Destination",
            {
                "Get": grpc.unary_stream_rpc_method_handler(self.get, pb.GetDestination.FromString),
                "GetProfile": grpc.unary_stream_rpc_method_handler(self.get_profile, pb.GetDestination.FromString),
            },
        )

    async def _get(self, request: pb.GetDestination, context: Context) -> Messages:
        answers = self.answers
        target = target_from_path(request.path, answers.mesh.cluster_domain)
        if isinstance(target, AddressTarget):
            target = Refusal(RefusalCode.INVALID_ARGUMENT, f"{request.path!r} is an address: only names have endpoints")
        if isinstance(target, Refusal):
            await refuse(context, target)
        client = client_from_token(request.context_token)
        sent: EndpointSet | None = None
        if not answers.refresher.synced.is_set():
            snapshot = await self._head_start(target)
            if snapshot is not None:
                yield snapshot.update
                sent = snapshot.known
            await answers.refresher.synced.wait()

        def ask() -> EndpointQuestion:
            return EndpointQuestion(target, locality_for(answers.index, target.service, client.node))

        async with aclosing(latest(answers.refresher, answers.endpoints, ask)) as found:
            async for view, answer in found:
                refusal = _refusal_of(answer, target, is_first=sent is None)
                if refusal is not None:
                    if sent is None:
                        await refuse(context, refusal)
                    return
                assert isinstance(answer, EndpointSet)
                had, sent = sent, answer
                for message in view.encoded(had, lambda had=had, answer=answer: _encoded(had, answer)):  # type: ignore[misc]
                    yield message

    async def _head_start(self, target: ServiceTarget) -> Snapshot | None:
        """The snapshot of a target, or None when the cluster is known first: a slow Redis delays nobody."""
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(self.load_snapshot(target), name="load snapshot")
            syncing = group.create_task(self.answers.refresher.synced.wait(), name="await cluster")
            await asyncio.wait({loading, syncing}, return_when=asyncio.FIRST_COMPLETED)
            syncing.cancel()
            if not loading.done():
                loading.cancel()
                return None
        return loading.result()

    async def _get_profile(self, request: pb.GetDestination, context: Context) -> Messages:
        answers = self.answers
        target = target_from_path(request.path, answers.mesh.cluster_domain)
        if isinstance(target, Refusal):
            await refuse(context, target)
        await answers.refresher.synced.wait()
        client = client_from_token(request.context_token)
        question = ProfileQuestion(target, answers.index.zone_of(client.node), client.namespace)
        messages = stream_messages(
            context,
            answers.refresher,
            answers.profiles,
            question,
            _encoded_profile,
        )
        async with aclosing(messages) as stream:
            async for message in stream:
                yield message


def _refusal_of(answer: EndpointSet | Refusal, target: ServiceTarget, *, is_first: bool) -> Refusal | None:
    if isinstance(answer, Refusal):
        return answer
    if is_first and not answer.exists:
        return Refusal(RefusalCode.NOT_FOUND, f"no service {target.service.namespace}/{target.service.name}")
    return None


def _encoded_profile(answer: ProfileAnswer) -> bytes:
    assert not isinstance(answer, Refusal)
    return profile_message(answer).SerializeToString()


def _encoded(had: EndpointSet | None, answer: EndpointSet) -> list[bytes]:
    return [update.SerializeToString() for update in updates_between(had, answer)]
