"""io.linkerd.proxy.outbound.OutboundPolicies: Get and Watch."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from weft_policy.core.names import (
    AddressTarget,
    Refusal,
    RefusalCode,
    ServiceTarget,
    target_from_path,
    workload_from_token,
)
from weft_policy.core.outbound import OutboundAnswer, outbound_policy_of
from weft_policy.wire.encode_common import ip_from_message
from weft_policy.wire.encode_outbound import outbound_message
from weft_proto.linkerd import outbound_pb2 as pb

from weft_destination.answers import Answers, OutboundQuestion
from weft_destination.rpc.streams import Context, Messages, StreamMetrics, refuse, send, stream_messages


@dataclass(frozen=True, slots=True)
class OutboundService:
    """Answers what proxies ask before they send."""

    answers: Answers
    metrics: StreamMetrics

    async def get(self, request: pb.TrafficSpec, context: Context) -> bytes:
        """The policy of a target, once."""
        target = target_from_spec(request, self.answers.mesh.cluster_domain)
        if isinstance(target, Refusal):
            await refuse(context, target)
        await self.answers.refresher.synced.wait()
        question = self._question(request, target)
        answer = outbound_policy_of(self.answers.index, self.answers.mesh, target, question.client_namespace)
        if isinstance(answer, Refusal):
            await refuse(context, answer)
        return _encoded(answer, question)

    async def watch(self, request: pb.TrafficSpec, context: Context) -> None:
        """The policy of a target, and each change of it."""
        await send(context, self._watch(request, context), self.metrics, "OutboundWatch")

    def handler(self) -> grpc.GenericRpcHandler:
        """For `Server.add_generic_rpc_handlers`."""
        return grpc.method_handlers_generic_handler(
            "io.linkerd.proxy.outbound.OutboundPolicies",
            {
                "Get": grpc.unary_unary_rpc_method_handler(self.get, pb.TrafficSpec.FromString),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch, pb.TrafficSpec.FromString),
            },
        )

    async def _watch(self, request: pb.TrafficSpec, context: Context) -> Messages:
        target = target_from_spec(request, self.answers.mesh.cluster_domain)
        if isinstance(target, Refusal):
            await refuse(context, target)
        await self.answers.refresher.synced.wait()
        question = self._question(request, target)
        messages = stream_messages(
            context, self.answers.refresher, self.answers.outbound, question, lambda answer: _encoded(answer, question)
        )
        async for message in messages:
            yield message

    def _question(self, request: pb.TrafficSpec, target: ServiceTarget | AddressTarget) -> OutboundQuestion:
        workload = workload_from_token(request.source_workload)
        namespace = "" if isinstance(workload, Refusal) else workload.name.namespace
        pod = None if isinstance(workload, Refusal) else self.answers.index.pods.get(*workload.name)
        is_linkerds = pod is not None and pod.proxy is not None and pod.proxy.is_linkerds
        return OutboundQuestion(target, namespace, to_weft=not is_linkerds)


def target_from_spec(spec: pb.TrafficSpec, cluster_domain: str) -> ServiceTarget | AddressTarget | Refusal:
    """What a proxy wants to reach; refused too when it does not say who it is."""
    workload = workload_from_token(spec.source_workload)
    if isinstance(workload, Refusal) and workload.code is RefusalCode.INVALID_ARGUMENT:
        return workload
    match spec.WhichOneof("target"):
        case "addr":
            ip = ip_from_message(spec.addr.ip)
            if ip is None:
                return Refusal(RefusalCode.INVALID_ARGUMENT, "the target has no address")
            if not 1 <= spec.addr.port <= 65535:
                return Refusal(RefusalCode.INVALID_ARGUMENT, f"{spec.addr.port} is no port: expected 1 to 65535")
            return AddressTarget(ip, spec.addr.port)
        case "authority":
            return _target_from_authority(spec.authority, cluster_domain)
        case _:
            return Refusal(RefusalCode.INVALID_ARGUMENT, "the request has no target")


def _target_from_authority(authority: str, cluster_domain: str) -> ServiceTarget | AddressTarget | Refusal:
    if not authority or " " in authority or "/" in authority:
        return Refusal(RefusalCode.INVALID_ARGUMENT, f"{authority!r} is not an authority")
    host, colon, port = authority.rpartition(":")
    if colon and not host.endswith("]") and not (port.isascii() and port.isdigit()):
        return Refusal(RefusalCode.INVALID_ARGUMENT, f"{authority!r} has no usable port")
    target = target_from_path(authority, cluster_domain)
    if isinstance(target, ServiceTarget) and not target.instance:
        return target
    # Any other name is somebody else's: the proxy makes its own policy for it.
    return Refusal(RefusalCode.NOT_FOUND, f"{authority!r} is not the name of a service of this cluster")


def _encoded(answer: OutboundAnswer, question: OutboundQuestion) -> bytes:
    assert not isinstance(answer, Refusal)
    return outbound_message(answer, to_weft=question.to_weft).SerializeToString()
