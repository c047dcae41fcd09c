"""Who owns a task: service life cycle and loops that must not end.

`run_service` is the outermost frame of every service: it turns signals into one stop event, configuration mistakes into
exit code 64, and anything unforeseen into a logged failure with exit code 1.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from weft_common.log import get_logger
from weft_common.settings import ConfigurationError

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
# The code linkerd2-proxy uses for bad configuration (sysexits EX_USAGE).
EXIT_BAD_CONFIGURATION: Final = 64

_log = get_logger(__name__)


class LoopEnded(RuntimeError):
    """A loop that should live as long as the process returned."""


async def forever(name: str, loop: Awaitable[object]) -> NoReturn:
    """Await a loop that must not end. Raises LoopEnded when it returns; its own exceptions pass through."""
    await loop
    raise LoopEnded(f"{name} ended, though nothing asked it to")


async def until(stop: asyncio.Event, *loops: Awaitable[object]) -> None:
    """Run loops side by side until stop is set, then cancel them.

    The first failure cancels the others and is raised, in an ExceptionGroup.
    """

    async def end_when_stopped() -> None:
        await stop.wait()
        raise _Stopped

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(end_when_stopped(), name="stop")
            for loop in loops:
                group.create_task(_as_coroutine(loop))
    except* _Stopped:
        pass


async def _as_coroutine(awaitable: Awaitable[object]) -> None:
    await awaitable


class _Stopped(Exception):
    """Leaves the task group of `until`; never escapes it."""


def run_service(
    main: Callable[[asyncio.Event], Awaitable[None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Run main until it returns; SIGTERM and SIGINT set the event it is given. The result is the exit code.

    loop_factory: None for asyncio's own event loop.
    """

    async def with_signals() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await main(stop)

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(with_signals())
    except ConfigurationError as error:
        for line in error.lines():
            sys.stderr.write(f"configuration: {line}\n")
        return EXIT_BAD_CONFIGURATION
    except OSError as error:
        # A port in use, a file that cannot be read: the text says it all, a traceback adds nothing.
        _log.error("service cannot run", error=str(error))
        return EXIT_FAILED
    except Exception:
        _log.exception("service failed")
        return EXIT_FAILED
    return EXIT_OK
