"""One proxy's tap port: live requests and kept decisions.

Dialled in plaintext; the proxy beside this process makes mesh TLS of it and checks that the far end is the pod it
should be (`l5d-require-id`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from weft_proto.linkerd import http_types_pb2, tap_pb2
from weft_proto.linkerd.tap_pb2_grpc import TapStub
from weft_proto.weft import decision_pb2
from weft_proto.weft.decision_pb2_grpc import DecisionsStub

from weft_metrics_api.core.pods import Pod

LIST_TIMEOUT_S: Final = 5.0
# A pod that is asked for seconds needs no connection that outlives the question.
_OPTIONS: Final = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]


@asynccontextmanager
async def _channel(pod: Pod) -> AsyncIterator[grpc.aio.Channel]:
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    async with grpc.aio.insecure_channel(f"{host}:{pod.tap_port}", options=_OPTIONS) as channel:
        yield channel


def _metadata(pod: Pod) -> list[tuple[str, str]]:
    return [("l5d-require-id", pod.identity)] if pod.identity else []


async def observe(pod: Pod, request: tap_pb2.ObserveRequest) -> AsyncIterator[tap_pb2.TapEvent]:
    """Events until the proxy has shown as many requests as were asked for. Raises grpc.aio.AioRpcError."""
    async with _channel(pod) as channel:
        stub: Any = TapStub(channel)
        async for event in stub.Observe(request, metadata=_metadata(pod)):
            yield event


async def decisions(pod: Pod, request: decision_pb2.ListDecisions) -> decision_pb2.DecisionList:
    """Kept decisions, newest first. Raises grpc.aio.AioRpcError."""
    async with _channel(pod) as channel:
        stub: Any = DecisionsStub(channel)
        answer: decision_pb2.DecisionList = await stub.List(request, timeout=LIST_TIMEOUT_S, metadata=_metadata(pod))
        return answer


def observe_request(
    limit: int,
    *,
    labels: list[tuple[str, str]],
    scheme: str,
    method: str,
    authority: str,
    path: str,
    extract: bool,
) -> tap_pb2.ObserveRequest:
    """A flat list of what must all hold; empty texts ask for nothing. path: a prefix."""
    match = tap_pb2.ObserveRequest.Match
    text = match.Http.StringMatch
    wanted = [match(destination_label=match.Label(key=key, value=value)) for key, value in labels]
    if scheme:
        wanted.append(match(http=match.Http(scheme=_scheme(scheme))))
    if method:
        wanted.append(match(http=match.Http(method=_method(method))))
    if authority:
        wanted.append(match(http=match.Http(authority=text(exact=authority))))
    if path:
        wanted.append(match(http=match.Http(path=text(prefix=path))))
    request = tap_pb2.ObserveRequest(limit=limit, match=match(all=match.Seq(matches=wanted)))
    if extract:
        request.extract.http.headers.SetInParent()
    return request


def _scheme(scheme: str) -> http_types_pb2.Scheme:
    known = http_types_pb2.Scheme.Registered
    name = scheme.upper()
    if name in known.keys():  # noqa: SIM118 - an enum wrapper is no mapping
        return http_types_pb2.Scheme(registered=known.Value(name))
    return http_types_pb2.Scheme(unregistered=scheme)


def _method(method: str) -> http_types_pb2.HttpMethod:
    known = http_types_pb2.HttpMethod.Registered
    name = method.upper()
    if name in known.keys():  # noqa: SIM118
        return http_types_pb2.HttpMethod(registered=known.Value(name))
    return http_types_pb2.HttpMethod(unregistered=method)
