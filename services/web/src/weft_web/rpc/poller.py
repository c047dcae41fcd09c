"""One poller for all open pages: fetches the overview at an interval and keeps the latest.

Pages read `latest`; they never call metrics-api themselves, so ten browsers cost as much as one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import grpc
from weft_common.log import get_logger
from weft_proto.weft import metrics_pb2, metrics_pb2_grpc

from weft_web.core.model import EMPTY, Overview, overview_from_answers

# The kinds that own pods on a page; a pod without an owner counts under "pod" and is not drawn.
KINDS: Final = ("deployment", "statefulset", "daemonset", "job")
CALL_TIMEOUT_S: Final = 5.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The latest overview. trouble: why it is not fresh, in words for the page; empty when it is."""

    overview: Overview = EMPTY
    trouble: str = "waiting for the first numbers"


class OverviewPoller:
    """Keeps `latest` fresh until cancelled."""

    def __init__(self, address: str, refresh_every_s: float, window_s: float) -> None:
        self._address = address
        self._refresh_every_s = refresh_every_s
        self._window_s = window_s
        self.latest = Snapshot()

    async def run(self) -> None:
        """Poll for ever. An unreachable metrics-api keeps the last numbers, marked."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub = metrics_pb2_grpc.MetricsStub(channel)
            while True:
                try:
                    self.latest = Snapshot(await self._fetch(stub), "")
                except grpc.aio.AioRpcError as error:
                    self._note_trouble(error)
                await asyncio.sleep(self._refresh_every_s)

    async def _fetch(self, stub: metrics_pb2_grpc.MetricsAsyncStub) -> Overview:
        stats = [
            stub.StatSummary(
                metrics_pb2.StatSummaryRequest(selector=metrics_pb2.Resource(kind=kind), window_s=self._window_s),
                timeout=CALL_TIMEOUT_S,
            )
            for kind in KINDS
        ]
        edges = [
            stub.Edges(
                metrics_pb2.EdgesRequest(selector=metrics_pb2.Resource(kind=kind), window_s=self._window_s),
                timeout=CALL_TIMEOUT_S,
            )
            for kind in KINDS
        ]
        return overview_from_answers([await call for call in stats], [await call for call in edges])

    def _note_trouble(self, error: grpc.aio.AioRpcError) -> None:
        trouble = f"metrics-api at {self._address} does not answer: {error.details() or error.code().name}"
        if self.latest.trouble != trouble:
            _log.warning("metrics-api does not answer", address=self._address, code=error.code().name)
        self.latest = Snapshot(self.latest.overview, trouble)
