"""One of many replicas holds a Lease and does what only one should do.

Whether a holder is gone is judged by its own silence, as seen from here: clocks of other machines do not matter.
Source: Kubernetes documentation, "Leases", leader election.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import LEASES
from weft_common.log import get_logger

DEFAULT_DURATION_S: Final = 30
DEFAULT_RENEW_S: Final = 10.0
DEFAULT_RETRY_S: Final = 2.0
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404

_log = get_logger(__name__)

Raw = dict[str, Any]


@dataclass(slots=True)
class Sighting:
    """The lease as last seen to change. at_s: when, by our clock."""

    record: tuple[str, str] = ("", "")
    at_s: float = 0.0


def may_claim(lease: Raw, identity: str, seen: Sighting, now_s: float) -> bool:
    """Whether the lease is ours already, or nobody's, or its holder has been silent for its whole duration.

    seen: updated when the lease has changed since.
    """
    spec = lease.get("spec") or {}
    holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime") or ""
    if (holder, renewed) != seen.record:
        seen.record, seen.at_s = (holder, renewed), now_s
    if holder in ("", identity):
        return True
    return now_s - seen.at_s >= float(spec.get("leaseDurationSeconds") or DEFAULT_DURATION_S)


def claimed(lease: Raw, identity: str, duration_s: int, now: datetime) -> Raw:
    """The lease with us as its holder."""
    spec = lease.get("spec") or {}
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    is_ours = spec.get("holderIdentity") == identity
    own = {
        "holderIdentity": identity,
        "leaseDurationSeconds": duration_s,
        "renewTime": stamp,
        "acquireTime": spec.get("acquireTime", stamp) if is_ours else stamp,
        "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if is_ours or not spec else 1),
    }
    return {**lease, "spec": {**spec, **own}}


@dataclass(slots=True)
class LeaseHolder:
    """Competes for one Lease. identity: unique among replicas. metadata: of the Lease, when it is made here."""

    kube: KubeClient
    namespace: str
    name: str
    identity: str
    duration_s: int = DEFAULT_DURATION_S
    renew_s: float = DEFAULT_RENEW_S
    retry_s: float = DEFAULT_RETRY_S
    metadata: Raw = field(default_factory=dict)
    gained: asyncio.Event = field(default_factory=asyncio.Event)
    _held_until_s: float = field(default=0.0, init=False)
    _seen: Sighting = field(default_factory=Sighting, init=False)

    @property
    def is_held(self) -> bool:
        """Whether we are the holder now. Ends by itself when renewing fails for the whole duration."""
        return time.monotonic() < self._held_until_s

    async def run(self) -> None:
        """Acquire and renew until cancelled, then let go."""
        try:
            while True:
                await self._try()
                await asyncio.sleep(self.renew_s if self.is_held else self.retry_s)
        finally:
            if self.is_held:
                await asyncio.shield(self._release())

    async def _try(self) -> None:
        asked_at_s = time.monotonic()
        try:
            held = await self._claim(asked_at_s)
        except KubeError as error:
            # A conflict means that another replica was quicker; the rest is the API server's trouble, told elsewhere.
            if error.status != _CONFLICT:
                _log.debug("cannot renew the lease", lease=self.name, error=error.message)
            return
        if held and not self.is_held:
            _log.info("holding the lease", lease=self.name, identity=self.identity)
        if held:
            # Others count from when they see the renewal, which is later than when we asked for it.
            self._held_until_s = asked_at_s + self.duration_s
            self.gained.set()
        else:
            self._held_until_s = 0.0
            self.gained.clear()

    async def _claim(self, now_s: float) -> bool:
        path = LEASES.path(self.namespace, self.name)
        try:
            found = await self.kube.get(path)
        except KubeError as error:
            if error.status != _NOT_FOUND:
                raise
            metadata = {**self.metadata, "name": self.name, "namespace": self.namespace}
            fresh = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}
            await self.kube.create(LEASES.path(self.namespace), self._claimed(fresh))
            return True
        if not may_claim(found, self.identity, self._seen, now_s):
            return False
        await self.kube.update(path, self._claimed(found))
        return True

    def _claimed(self, lease: Raw) -> Raw:
        return claimed(lease, self.identity, self.duration_s, datetime.now(UTC))

    async def _release(self) -> None:
        """So that another replica need not wait for the lease to expire."""
        self._held_until_s = 0.0
        try:
            async with asyncio.timeout(2):
                found = await self.kube.get(LEASES.path(self.namespace, self.name))
                if found["spec"].get("holderIdentity") == self.identity:
                    found["spec"]["holderIdentity"] = ""
                    await self.kube.update(LEASES.path(self.namespace, self.name), found)
        except (KubeError, TimeoutError) as error:
            _log.debug("the lease was not released", lease=self.name, error=str(error))
