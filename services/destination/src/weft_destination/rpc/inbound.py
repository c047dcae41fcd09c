"""io.linkerd.proxy.inbound.InboundServerPolicies: GetPort and WatchPort."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from weft_policy.core.inbound import InboundAnswer, inbound_server_of
from weft_policy.core.names import Refusal, RefusalCode, workload_from_token
from weft_policy.wire.encode_inbound import inbound_message
from weft_proto.linkerd import inbound_pb2 as pb

from weft_destination.answers import Answers, ServerQuestion
from weft_destination.rpc.streams import Context, Messages, StreamMetrics, refuse, send, stream_messages


@dataclass(frozen=True, slots=True)
class InboundService:
    """Answers what proxies ask before they accept."""

    answers: Answers
    metrics: StreamMetrics

    async def get_port(self, request: pb.PortSpec, context: Context) -> bytes:
        """The server on a port, once."""
        question = question_from_spec(request)
        if isinstance(question, Refusal):
            await refuse(context, question)
        await self.answers.refresher.synced.wait()
        answer = inbound_server_of(self.answers.index, self.answers.mesh, question.workload, question.port)
        if isinstance(answer, Refusal):
            await refuse(context, answer)
        return self._encoded(answer)

    async def watch_port(self, request: pb.PortSpec, context: Context) -> None:
        """The server on a port, and each change of it."""
        await send(context, self._watch_port(request, context), self.metrics, "WatchPort")

    def handler(self) -> grpc.GenericRpcHandler:
        """For `Server.add_generic_rpc_handlers`."""
        return grpc.method_handlers_generic_handler(
            "io.linkerd.proxy.inbound.InboundServerPolicies",
            {
                "GetPort": grpc.unary_unary_rpc_method_handler(self.get_port, pb.PortSpec.FromString),
                "WatchPort": grpc.unary_stream_rpc_method_handler(self.watch_port, pb.PortSpec.FromString),
            },
        )

    async def _watch_port(self, request: pb.PortSpec, context: Context) -> Messages:
        question = question_from_spec(request)
        if isinstance(question, Refusal):
            await refuse(context, question)
        async for message in stream_messages(
            context, self.answers.refresher, self.answers.inbound, question, self._encoded
        ):
            yield message

    def _encoded(self, answer: InboundAnswer) -> bytes:
        assert not isinstance(answer, Refusal)
        return inbound_message(answer, self.answers.mesh.probe_networks).SerializeToString()


def question_from_spec(spec: pb.PortSpec) -> ServerQuestion | Refusal:
    """Which port of which workload."""
    if not 1 <= spec.port <= 65535:
        return Refusal(RefusalCode.INVALID_ARGUMENT, f"{spec.port} is no port: expected 1 to 65535")
    workload = workload_from_token(spec.workload)
    return workload if isinstance(workload, Refusal) else ServerQuestion(workload, spec.port)
