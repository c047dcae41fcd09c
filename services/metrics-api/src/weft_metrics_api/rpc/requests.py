"""Tap and Decisions: questions to the proxies themselves, answers with what is known of both ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import grpc
from weft_proto.linkerd import net_pb2, tap_pb2
from weft_proto.weft import decision_pb2
from weft_proto.weft import metrics_pb2 as pb

from weft_metrics_api.core.pods import Directory, Pod
from weft_metrics_api.core.resources import ResourceId
from weft_metrics_api.core.stat import Selector
from weft_metrics_api.core.tap import End, NothingToTap, destination_labels, end_at, tappable_pods
from weft_metrics_api.proxies.client import decisions, observe_request
from weft_metrics_api.proxies.tap import tap
from weft_metrics_api.rpc.messages import resource

DEFAULT_DECISIONS: Final = 100
MAX_ASKED_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class ProxyQuestions:
    """Asks the proxies of a directory's pods."""

    directory: Directory

    async def tap(
        self,
        request: pb.TapRequest,
        target: Selector,
        to: Selector | None,
        context: grpc.aio.ServicerContext[pb.TapRequest, pb.TapEvent],
    ) -> None:
        """Events until the client leaves. Raises BadQuery, NothingToTap."""
        labels = destination_labels(to) if to is not None else []
        tappable_pods(self.directory, target)

        def observed(limit: int) -> tap_pb2.ObserveRequest:
            return observe_request(
                limit,
                labels=labels,
                scheme=request.scheme,
                method=request.method,
                authority=request.authority,
                path=request.path,
                extract=request.extract_headers,
            )

        async def send(pod: Pod, event: tap_pb2.TapEvent) -> None:
            source, destination = self._ends(event.source, event.destination)
            await context.write(
                pb.TapEvent(pod=resource(_of(pod)), event=event, source=source, destination=destination)
            )

        def current() -> list[Pod]:
            try:
                return tappable_pods(self.directory, target)
            except NothingToTap:
                # Between two pods, as in a rollout; whoever taps waits for the next.
                return []

        await tap(current, request.max_rps, observed, send)

    async def decisions(self, request: pb.DecisionsRequest, target: Selector) -> pb.DecisionsResponse:
        """Of all pods, newest first. Raises BadQuery, NothingToTap."""
        pods = tappable_pods(self.directory, target)
        limit = request.limit or DEFAULT_DECISIONS
        asked = decision_pb2.ListDecisions(failures_only=request.failures_only, limit=limit, id=request.id)
        gate = asyncio.Semaphore(MAX_ASKED_AT_ONCE)

        async def of(pod: Pod) -> tuple[Pod, decision_pb2.DecisionList | str]:
            async with gate:
                try:
                    return pod, await decisions(pod, asked)
                except grpc.aio.AioRpcError as error:
                    return pod, f"{pod.key.name}: {error.code().name}: {error.details()}"

        answer = pb.DecisionsResponse()
        found: list[tuple[Pod, decision_pb2.Decision]] = []
        for pod, listed in await asyncio.gather(*map(of, pods)):
            if isinstance(listed, str):
                answer.unanswered.append(listed)
            else:
                found += [(pod, decision) for decision in listed.decisions]
        found.sort(key=lambda item: item[1].started_at.ToNanoseconds(), reverse=True)
        for pod, decision in found[:limit]:
            client, target_end = self._ends(decision.client, decision.target)
            answer.decisions.append(
                pb.PodDecision(pod=resource(_of(pod)), decision=decision, client=client, target=target_end)
            )
        return answer

    def _ends(self, *addresses: net_pb2.TcpAddress) -> list[pb.End | None]:
        by_ip = self.directory.by_ip()
        return [_end(end_at(self.directory, by_ip, _ip(address))) for address in addresses]


def _of(pod: Pod) -> ResourceId:
    return ResourceId(pod.key.namespace, "pod", pod.key.name)


def _end(end: End | None) -> pb.End | None:
    return pb.End(pod=resource(end.pod), workload=resource(end.workload)) if end is not None else None


def _ip(address: net_pb2.TcpAddress) -> str:
    if address.ip.HasField("ipv6"):
        return str(ip_address((address.ip.ipv6.first << 64) | address.ip.ipv6.last))
    return str(ip_address(address.ip.ipv4))
