"""Events on the owners of pods. Written behind the answer, because an admission must not wait for them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import EVENTS
from weft_common.log import get_logger

from weft_injector.core.owner import Owner

SOURCE: Final = "linkerd-proxy-injector"
QUEUE_LIMIT: Final = 256

_log = get_logger(__name__)


class Event(Enum):
    """value: type and reason. The first two are Linkerd's; the others tell of annotations that it only logs."""

    INJECTED = ("Normal", "Injected")
    SKIPPED = ("Normal", "InjectionSkipped")
    LEFT_ASIDE = ("Warning", "InjectionAnnotationIgnored")
    REFUSED = ("Warning", "InjectionRefused")


class EventWriter:
    """A bounded queue and the loop that empties it. When full, new events are dropped: they are news, not state."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(QUEUE_LIMIT)

    def record(self, owner: Owner, namespace: str, event: Event, message: str) -> None:
        """Queue an event. Does nothing for a pod without owner: it does not exist yet."""
        if owner.reference is None:
            return
        try:
            self._queue.put_nowait(_body(owner, namespace, event, message, datetime.now(UTC)))
        except asyncio.QueueFull:
            _log.warning("event dropped: the queue is full", owner=owner.name, namespace=namespace, reason=event.name)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._kube.create(EVENTS.path(event["metadata"]["namespace"]), event)
            except KubeError as error:
                _log.debug("event not written", reason=event["reason"], error=error.message)


def _body(owner: Owner, namespace: str, event: Event, message: str, now: datetime) -> dict[str, Any]:
    type_, reason = event.value
    reference = owner.reference
    assert reference is not None
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{owner.name}.", "namespace": namespace},
        "involvedObject": {
            "apiVersion": reference.api_version,
            "kind": reference.kind,
            "name": reference.name,
            "namespace": namespace,
            "uid": reference.uid,
        },
        "type": type_,
        "reason": reason,
        "message": message,
        "source": {"component": SOURCE},
        "reportingComponent": SOURCE,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
