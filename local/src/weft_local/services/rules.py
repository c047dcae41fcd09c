"""Keeps the kernel's ClusterIP rules in step with Services and EndpointSlices, through the nft program.

Changes are coalesced: while one table is being loaded, all that happens meanwhile becomes the next one.
"""

from __future__ import annotations

import asyncio
from typing import Final

from weft_common.kube.client import KubeClient
from weft_common.kube.informer import Informer
from weft_common.kube.resource import ENDPOINT_SLICES, SERVICES
from weft_common.log import get_logger

from weft_local.dns.core.index import Table
from weft_local.node.settings import NodeSettings
from weft_local.services.core.ruleset import Backends, Service, backends_from_json, service_from_json, table_text

# Pods of one rollout become ready within moments of each other.
GATHER_S: Final = 0.02
RETRY_S: Final = 5.0

_log = get_logger(__name__)


class RulesRefused(Exception):
    """nft did not take the rules. The text is its own."""


class ServiceRules:
    """The rules of one cluster. ready: the first table is in place."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._changed = asyncio.Event()
        self._services: Table[Service | None] = Table(self._changed.set)
        self._backends: Table[Backends | None] = Table(self._changed.set)
        self._loaded = ""
        self.ready = asyncio.Event()

    async def run(self, kube: KubeClient) -> None:
        """Follow the cluster until cancelled; the table stays until `remove`."""
        services = Informer(kube, SERVICES, service_from_json, self._services)
        slices = Informer(kube, ENDPOINT_SLICES, backends_from_json, self._backends)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(services.run(), name="rules services")
            tasks.create_task(slices.run(), name="rules endpoint slices")
            await services.synced.wait()
            await slices.synced.wait()
            while True:
                self._changed.clear()
                try:
                    await self.load()
                    self.ready.set()
                except RulesRefused as error:
                    _log.error("service rules not loaded", error=str(error))
                    await asyncio.sleep(RETRY_S)
                    continue
                await self._changed.wait()
                await asyncio.sleep(GATHER_S)

    def text(self) -> str:
        """The table that the current state asks for."""
        settings = self._settings
        return table_text(
            settings.nft_table,
            settings.pod_cidr,
            settings.service_cidr,
            {key: service for key, service in self._services.objects.items() if service is not None},
            [(key.namespace, entry) for key, entry in sorted(self._backends.objects.items()) if entry is not None],
        )

    async def load(self) -> None:
        """Replace the table, if it differs. Raises RulesRefused."""
        text = self.text()
        if text == self._loaded:
            return
        await _nft(text)
        self._loaded = text

    async def remove(self) -> None:
        """Take the table away."""
        table = self._settings.nft_table
        await _nft(f"add table ip {table}\ndelete table ip {table}\n")
        self._loaded = ""


async def _nft(script: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            "nft", "-f", "-", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise RulesRefused("the program nft is not installed; install the package nftables") from error
    _, said = await process.communicate(script.encode())
    if process.returncode != 0:
        raise RulesRefused(said.decode(errors="replace").strip()[:2000])
