"""Asks every proxy for its metrics at an interval, a bounded number at a time.

A proxy that does not answer costs at most the timeout, once per round, and one log line per outage. Rounds never
overlap.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from weft_common.log import get_logger

from weft_metrics_api.core.pace import Pace
from weft_metrics_api.core.pods import Directory, Pod, PodKey
from weft_metrics_api.core.window import Window

MAX_CONCURRENT: Final = 20
MAX_TIMEOUT_S: Final = 4.0
MAX_BODY_BYTES: Final = 16 * 1024 * 1024

_log = get_logger(__name__)


class ScrapeFailed(Exception):
    """A proxy gave no usable answer; the text says why."""


class Scraper:
    """Fills the window. failing: why each proxy that did not answer in the last round did not."""

    def __init__(self, directory: Directory, window: Window, interval_s: float, registry: CollectorRegistry) -> None:
        self._directory = directory
        self._window = window
        self._interval_s = interval_s
        self._pace = Pace(interval_s)
        self._timeout = aiohttp.ClientTimeout(total=min(interval_s, MAX_TIMEOUT_S))
        self.failing: dict[PodKey, str] = {}
        self.targets = 0
        self._scrapes = Counter("weft_scrapes", "Scrapes of proxies by result", ["result"], registry=registry)
        self._round_s = Histogram("weft_scrape_round_seconds", "Duration of a round", registry=registry)
        self._parse_s = Histogram(
            "weft_scrape_parse_seconds",
            "Time spent taking in one exposition",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1),
            registry=registry,
        )
        Gauge("weft_scrape_series", "Series held in the window", registry=registry).set_function(
            lambda: window.series_count
        )
        Gauge("weft_scrape_targets_failing", "Proxies that did not answer", registry=registry).set_function(
            lambda: len(self.failing)
        )

    async def run(self) -> None:
        """Scrape until cancelled."""
        connector = aiohttp.TCPConnector(limit=MAX_CONCURRENT, keepalive_timeout=self._interval_s * 3)
        # Compressing would cost each proxy more than the bytes cost the network.
        headers = {"accept-encoding": "identity"}
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=self._timeout) as session:
            loop = asyncio.get_running_loop()
            while True:
                started = loop.time()
                await self.round(session, time.time())
                took = loop.time() - started
                self._round_s.observe(took)
                await asyncio.sleep(self._pace.pause_s(took) - took)

    async def round(self, session: aiohttp.ClientSession, at: float) -> None:
        """Ask every proxy once. at: the time all samples of this round get, seconds."""
        targets = self._directory.scrapable()
        self.targets = len(targets)
        gate = asyncio.Semaphore(MAX_CONCURRENT)
        async with asyncio.TaskGroup() as group:
            for pod in targets:
                group.create_task(self._scrape(session, gate, pod, at), name=f"scrape {pod.key.name}")
        self._window.end_round(at)
        current = {pod.key: pod.uid for pod in targets}
        self.failing = {key: reason for key, reason in self.failing.items() if key in current}
        self._pace.round(current.values(), {uid for key, uid in current.items() if key not in self.failing})

    async def _scrape(self, session: aiohttp.ClientSession, gate: asyncio.Semaphore, pod: Pod, at: float) -> None:
        async with gate:
            try:
                text = await self._fetch(session, pod)
            except ScrapeFailed as failure:
                self._scrapes.labels("failed").inc()
                if pod.key not in self.failing:
                    _log.info(
                        "proxy does not answer", namespace=pod.key.namespace, pod=pod.key.name, error=str(failure)
                    )
                self.failing[pod.key] = str(failure)
                return
        self._scrapes.labels("ok").inc()
        self.failing.pop(pod.key, None)
        with self._parse_s.time():
            self._window.ingest(pod, at, text)

    async def _fetch(self, session: aiohttp.ClientSession, pod: Pod) -> str:
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        try:
            async with session.get(f"http://{host}:{pod.admin_port}/metrics") as response:
                if response.status != 200:
                    raise ScrapeFailed(f"HTTP status {response.status}")
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise ScrapeFailed(f"more than {MAX_BODY_BYTES} bytes of metrics")
                return body.decode(errors="replace")
        except (aiohttp.ClientError, OSError) as error:
            raise ScrapeFailed(str(error) or type(error).__name__) from error
        except TimeoutError as error:
            raise ScrapeFailed(f"no answer within {self._timeout.total:g} s") from error
