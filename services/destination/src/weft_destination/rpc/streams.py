"""What every stream does the same way: follow a view, encode once for all, refuse, end at shutdown.

Messages leave as bytes: the handlers are registered without a serialiser, so a thousand streams of one view send the
same object. A stream holds one answer, the last it sent; what it was too slow to see never existed for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import aclosing
from typing import Any, Final, NoReturn, TypeVar

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge
from weft_policy.core.names import Refusal, RefusalCode

from weft_destination.views import Refresher, View, Views

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

Messages = AsyncGenerator[bytes, None]

# The generated types fix a request and a response class per call; these handlers serve many.
Context = grpc.aio.ServicerContext[Any, Any]

STATUS_OF: Final = {
    RefusalCode.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalCode.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    RefusalCode.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalCode.UNKNOWN: grpc.StatusCode.UNKNOWN,
}


class StreamMetrics:
    """Streams and messages by call."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open = Gauge("weft_destination_streams", "Streams open now", ["call"], registry=registry)
        self.sent = Counter("weft_destination_messages", "Messages sent", ["call"], registry=registry)


async def refuse(context: Context, refusal: Refusal) -> NoReturn:
    """End the call with the refusal's code."""
    await context.abort(STATUS_OF[refusal.code], refusal.message)
    raise AssertionError("abort raises")


async def latest(
    refresher: Refresher, views: Views[Q, A], ask: Callable[[], Q]
) -> AsyncGenerator[tuple[View[A], A], None]:
    """Each new answer, with its view, until shutdown. ask: the question now; it may change with the cluster.

    The answer is the view's current one until the reader next awaits.
    """
    last: object = None
    while not refresher.draining:
        question = ask()
        with views.open(question) as view:
            while not refresher.draining:
                value = view.value
                if value is not last:
                    last = value
                    yield view, value
                else:
                    await view.changed_from(value)
                if ask() != question:
                    break


async def stream_messages(
    context: Context,
    refresher: Refresher,
    views: Views[Q, A],
    question: Q,
    encode: Callable[[A], bytes],
) -> Messages:
    """For answers that are one message each. A refusal that comes later ends the stream in good order: the client
    asks again and is told properly."""
    await refresher.synced.wait()
    last: bytes | None = None
    async with aclosing(latest(refresher, views, lambda: question)) as answers:
        async for view, answer in answers:
            if isinstance(answer, Refusal):
                if last is None:
                    await refuse(context, answer)
                return
            value = answer
            (message,) = view.encoded(None, lambda value=value: [encode(value)])  # type: ignore[misc]
            # Different answers may read the same on the wire.
            if message != last:
                last = message
                yield message


async def send(context: Context, messages: Messages, metrics: StreamMetrics, call: str) -> None:
    """Write every message of a call, and count. Waits where the client reads too slowly; nobody else does.

    A coroutine, and not a generator handed to gRPC, because gRPC looks at the handler itself to tell which it is.
    """
    open_streams, sent = metrics.open.labels(call), metrics.sent.labels(call)
    open_streams.inc()
    try:
        async with aclosing(messages) as source:
            async for message in source:
                await context.write(message)
                sent.inc()
    finally:
        open_streams.dec()
