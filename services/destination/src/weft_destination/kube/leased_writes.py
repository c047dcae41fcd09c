"""Rounds of writing to the API server, while this replica holds the lease for it.

What to write is its caller's business. A write that fails is tried again with the next round, for then it is wanted
still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import Counter
from weft_common.kube.client import KubeError
from weft_common.kube.lease import LeaseHolder
from weft_common.log import get_logger

_NOT_FOUND = 404
_WRITE_TIMEOUT_S = 5.0

_log = get_logger(__name__)


class LeasedWrites:
    """every_s: the longest between two rounds. settle_s: after a change, since one edit is often several objects.

    what: one of the things written, for logs. results: counts them by label `result`.
    """

    def __init__(self, lease: LeaseHolder, every_s: float, settle_s: float, what: str, results: Counter) -> None:
        self._lease = lease
        self._every_s = every_s
        self._settle_s = settle_s
        self._what = what
        self._results = results
        self._wake = asyncio.Event()

    @property
    def are_allowed(self) -> bool:
        """Whether this replica still holds the lease."""
        return self._lease.is_held

    def look_again(self) -> None:
        """Something has changed."""
        self._wake.set()

    async def run(self, one_round: Callable[[], Awaitable[None]]) -> None:
        """Rounds until cancelled."""
        while True:
            await self._lease.gained.wait()
            self._wake.clear()
            await one_round()
            try:
                async with asyncio.timeout(self._every_s):
                    await self._wake.wait()
                await asyncio.sleep(self._settle_s)
            except TimeoutError:
                pass

    async def write(self, path: str, request: Awaitable[object]) -> bool:
        """Make one request, counted; whether it was written."""
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await request
        except (KubeError, TimeoutError) as error:
            # Gone while we were at it.
            if not (isinstance(error, KubeError) and error.status == _NOT_FOUND):
                self._results.labels("failed").inc()
                _log.warning(f"cannot write {self._what}", path=path, error=str(error) or type(error).__name__)
            return False
        self._results.labels("written").inc()
        return True
