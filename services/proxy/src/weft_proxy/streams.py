"""Follow one server stream for as long as it is wanted.

Owns reconnecting, receive limits and the error-code rules; hands every message to a callback. Keeps no copy of what
was received: whoever listens keeps the last known state while the control plane is away.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Generic, TypeVar, cast

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
        self._service = service
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
        on_missing: Callable[[], None] = lambda: None,
    ) -> tuple[End, str]:
        """Runs until a terminal status (returned with its reason) or cancellation.

        on_connect: before each attempt. on_missing: at each `End.MISSING`, before the next attempt is waited for.
        """
        backoff = Backoff(self._backoff, self._rng)
        failing = False
        while True:
            on_connect()
            reader = _Reader(connect(), self._limits)
            call = self._metrics.started(self._service)
            code, detail = grpc.StatusCode.CANCELLED, ""
            try:
                while (message := await reader.next()) is not None:
                    call.answered()
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
                number: int = code.value[0]
                call.ended((code.name, number))
            end = end_of_stream(method, number)
            if end is End.MISSING:
                on_missing()
            elif end is not End.RETRY:
                why = f"{method.value} {subject}: {code.name}: {detail}"
                self._log.info("The control plane has a final answer", why=why)
                return end, why
            wait_s = backoff.next_s()
            # The first failure of an outage is news; the rest of it is not.
            # Names that clients make up are none.
            is_news = not failing and code is not grpc.StatusCode.OK and end is not End.MISSING
            say = self._log.warning if is_news else self._log.debug
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
        self._opened_at = asyncio.get_running_loop().time()
        self._first = True

    def close(self) -> None:
        self._call.cancel()

    async def next(self) -> M | None:
        """None at the end of the stream, of its lifetime, or of the patience with its silence.

        Raises TimeoutError when no first message comes, AioRpcError for an error status.
        """
        try:
            async with asyncio.timeout_at(self._deadline()):
                message = await self._call.read()
        except TimeoutError:
            if self._first:
                raise
            return None
        self._first = False
        return None if message is grpc.aio.EOF else cast("M", message)

    def _deadline(self) -> float | None:
        limits, now = self._limits, asyncio.get_running_loop().time()
        wait_ms = limits.initial_ms if self._first else limits.idle_ms
        deadlines = []
        if wait_ms is not None:
            deadlines.append(now + wait_ms / 1000)
        if limits.lifetime_ms is not None:
            deadlines.append(self._opened_at + limits.lifetime_ms / 1000)
        return min(deadlines, default=None)
