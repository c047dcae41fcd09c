"""Asks destination's pods for their metrics, where their addresses can be reached from here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import aiohttp

from weft_cli.core.check_destination import ReplicaState, replica_state

DESTINATION: Final = "destination"
ADMIN_PORT_NAME: Final = "dest-admin"
_TIMEOUT_S: Final = 2.0


async def destination_states(pods: Iterable[dict[str, Any]]) -> tuple[ReplicaState, ...]:
    """pods: raw, of the control plane. Replicas that do not answer are left out: other checks are about them."""
    addresses = [(pod["metadata"]["name"], address) for pod in pods for address in _admin_addresses(pod)]
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        found = await asyncio.gather(*(_state(session, name, address) for name, address in addresses))
    return tuple(state for state in found if state is not None)


def _admin_addresses(pod: dict[str, Any]) -> list[str]:
    ip = (pod.get("status") or {}).get("podIP")
    ports = [
        port["containerPort"]
        for container in pod["spec"].get("containers") or []
        if container["name"] == DESTINATION
        for port in container.get("ports") or []
        if port.get("name") == ADMIN_PORT_NAME
    ]
    host = f"[{ip}]" if ip and ":" in ip else ip
    return [f"http://{host}:{port}/metrics" for port in ports] if ip else []


async def _state(session: aiohttp.ClientSession, pod: str, address: str) -> ReplicaState | None:
    try:
        async with session.get(address) as response:
            return replica_state(pod, await response.text()) if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError):
        return None
