"""Says early, in metrics and in the log, that an anchor or the issuer is about to expire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from weft_identity.core.expiry import EXPIRED, expiry_level, expiry_warning
from weft_identity.ports import Material

_LOOK_EVERY_S: Final = 10.0
NEW_ISSUER: Final = "Replace it: weft identity rotate issuer"
NEW_ANCHOR: Final = "Replace it: weft identity rotate anchor"
DEAD_ANCHOR: Final = (
    "Proxies keep the certificates they have until those expire. Now: weft identity rotate anchor; "
    "then restart the pods that `weft identity rotate status` names"
)


@dataclass(slots=True)
class ExpiryWatch:
    """told: called with (reason, message, is_warning) once for each certificate and level."""

    material: Callable[[], Material | None]
    now: Callable[[], datetime]
    told: Callable[[str, str, bool], None]
    registry: CollectorRegistry
    _levels: Gauge = field(init=False)
    _ttl: Gauge = field(init=False)
    _said: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        labels, registry = ["kind", "name"], self.registry
        self._ttl = Gauge("weft_identity_ca_ttl_seconds", "Seconds until it expires", labels, registry=registry)
        text = "0 fine; 1, 2, 3: within 60, 30, 7 days; 4 expired"
        self._levels = Gauge("weft_identity_ca_expiry_level", text, labels, registry=registry)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    def look(self) -> None:
        """Set the gauges, and say what has not been said."""
        material = self.material()
        if material is None:
            return
        self._ttl.clear()
        self._levels.clear()
        for kind, certificates in (("anchor", material.roots), ("issuer", material.issuer.chain)):
            for certificate in certificates:
                self._look_at(kind, certificate.subject.rfc4514_string(), certificate.not_valid_after_utc)

    def _look_at(self, kind: str, name: str, not_after: datetime) -> None:
        now = self.now()
        level = expiry_level(not_after, now)
        self._ttl.labels(kind, name).set((not_after - now).total_seconds())
        self._levels.labels(kind, name).set(level)
        key = f"{kind} {name} {not_after.isoformat()}"
        if level > self._said.get(key, 0):
            recovery = NEW_ISSUER if kind == "issuer" else DEAD_ANCHOR if level == EXPIRED else NEW_ANCHOR
            self.told("CertificateExpiry", expiry_warning(f"{kind} {name}", not_after, now, recovery), True)
        self._said[key] = level
