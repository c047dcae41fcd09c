"""Follow one server stream for as long as it is wanted.

Owns reconnecting, receive limits and the error-code rules; hands every message to a callback. Keeps no copy of what
was received: whoever listens keeps the last known state while the control plane is away.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Generic, TypeVar

import grpc.aio

from weft_proxy.core.metrics import ControlMetrics
from weft_proxy.core.settings import BackoffSettings, ControlService, StreamLimits
from weft_proxy.core.stream import End, Method, end_of_stream
from weft_proxy.core.timing import Backoff
from weft_proxy.logs import Logger

M = TypeVar("M")
NO_LIMITS = StreamLimits(None, None, None)


class Follower:
    """Opens streams to one control-plane service with its limits, waits and counters."""

    def __init__(
        self,
        service: ControlService,
        limits: StreamLimits,
        backoff: BackoffSettings,
        metrics: ControlMetrics,
        rng: Random,
        log: Logger,
    ) -> None:
        self._address = service.address.text
        self._limits = NO_LIMITS if service.address.is_loopback else limits
        self._backoff = backoff
        self._metrics = metrics
        self._rng = rng
        self._log = log

    async def follow(
        self,
        method: Method,
        subject: str,
        connect: Callable[[], "grpc.aio.UnaryStreamCall[Any, M]"],
        on_message: Callable[[M], None],
        on_connect: Callable[[], None] = lambda: None,
    ) -> tuple[End, str]:
        """Runs until a terminal status (returned with its reason) or cancellation. on_connect: before each attempt."""
        backoff = Backoff(self._backoff, self._rng)
        failing = False
        while True:
            on_connect()
            reader = _Reader(connect(), self._limits)
            self._metrics.started(self._address)
            code, detail = grpc.StatusCode.CANCELLED, ""
            try:
                async for message in reader.messages():
                    backoff.reset()
                    failing = False
                    on_message(message)
                code, detail = grpc.StatusCode.OK, "the stream ended"
            except grpc.aio.AioRpcError as error:
                code, detail = error.code(), error.details() or ""
            except TimeoutError:
                code, detail = grpc.StatusCode.DEADLINE_EXCEEDED, "no first message in time"
            finally:
                reader.close()
                self._metrics.ended(self._address, code.name)
            number: int = code.value[0]
            end = end_of_stream(method, number)
            if end is not End.RETRY:
                self._log.info(
                    "Control plane refused", method=method.value, subject=subject, code=code.name, why=detail
                )
                return end, f"{method.value} {subject}: {code.name}: {detail}"
            wait_s = backoff.next_s()
            # The first failure of an outage is news; the rest of it is not.
            say = self._log.debug if failing or code is grpc.StatusCode.OK else self._log.warning
            failing = failing or code is not grpc.StatusCode.OK
            say(
                "Control stream ended, trying again",
                method=method.value,
                subject=subject,
                code=code.name,
                why=detail,
                wait_s=round(wait_s, 3),
            )
            await asyncio.sleep(wait_s)


class _Reader(Generic[M]):
    """Messages of one call within its limits."""

    def __init__(self, call: "grpc.aio.UnaryStreamCall[Any, M]", limits: StreamLimits) -> None:
        self._call = call
        self._limits = limits

    def close(self) -> None:
        self._call.cancel()

    async def messages(self) -> Any:
        """Ends at the idle or lifetime limit as at a clean end. Raises TimeoutError when no first message comes."""
        now = asyncio.get_running_loop().time
        ends_at = None if self._limits.lifetime_ms is None else now() + self._limits.lifetime_ms / 1000
        wait_ms = self._limits.initial_ms
        first = True
        while True:
            deadlines = [t for t in (ends_at, None if wait_ms is None else now() + wait_ms / 1000) if t is not None]
            try:
                async with asyncio.timeout_at(min(deadlines, default=None)):
                    message = await self._call.read()
            except TimeoutError:
                if first:
                    raise
                return
            if message is grpc.aio.EOF:
                return
            first, wait_ms = False, self._limits.idle_ms
            yield message
