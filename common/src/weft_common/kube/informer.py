"""Keeps an index in step with one kind in the cluster: list, watch, relist; the logic written once.

Owns reconnection and resource versions. The index is somebody else's plain value: it only sees apply, delete and
reset, and never a half-finished list. Objects a parser refuses are skipped with a warning and do not stop the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Generic, Protocol, TypeVar

from weft_common.backoff import Backoff
from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import ObjectKey, Resource, key_of
from weft_common.log import get_logger

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

RETRY_MIN_S: Final = 0.1
RETRY_MAX_S: Final = 10.0
# A few milliseconds' worth.
_PARSED_IN_ONE_GO: Final = 25
_NOT_FOUND: Final = 404
_GONE: Final = 410

_log = get_logger(__name__)


class IndexSink(Protocol[T_contra]):
    """Cluster state of one kind as a value. Called from one task only."""

    def apply(self, key: ObjectKey, obj: T_contra) -> None:
        """An object is new or changed."""

    def delete(self, key: ObjectKey) -> None:
        """An object is gone."""

    def reset(self, objs: Mapping[ObjectKey, T_contra]) -> None:
        """This is the whole state now; anything else is gone."""


class Informer(Generic[T]):
    """One kind, one index.

    parse: raw object to value; raises KeyError, TypeError or ValueError to have the object skipped.
    namespace None watches all. synced is set when the first list has landed. stale is True while the API server cannot
    be reached; the index then keeps its last state. may_be_absent: the kind's definition may not be installed; until it
    is, the cluster holds no such objects, and that is no trouble. other_versions: of the same group, that parse reads
    just as well, tried in this order where the first is not served.
    """

    def __init__(
        self,
        kube: KubeClient,
        resource: Resource,
        parse: Callable[[dict[str, Any]], T],
        sink: IndexSink[T],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        may_be_absent: bool = False,
        other_versions: Iterable[str] = (),
    ) -> None:
        self._kube = kube
        self.resource = resource
        self._namespace = namespace
        self._versions = (resource, *(replace(resource, version=version) for version in other_versions))
        self._parse = parse
        self._sink = sink
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._params = {name: value for name, value in selectors.items() if value}
        self._may_be_absent = may_be_absent
        self._known: set[ObjectKey] = set()
        self.synced = asyncio.Event()
        self.stale = False
        self.resource_version = ""

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        backoff = Backoff(RETRY_MIN_S, RETRY_MAX_S)
        relist = True
        while True:
            try:
                if relist:
                    await self._list()
                    relist = False
                    backoff.reset()
                # A watch that the server closes after its time is the normal end; go on from the last version.
                # One that said nothing at all must not be reopened in a tight loop.
                if await self._watch(backoff):
                    continue
            except KubeError as error:
                if error.status == _GONE:
                    relist = True
                    continue
                # Objects go before their kind does. A server that forgets a kind it has just listed is in trouble, and
                # an empty answer would be read as "no policy".
                is_absent = error.status == _NOT_FOUND and self._may_be_absent and not self._known
                if is_absent and self._next_version():
                    relist = True
                    continue
                if is_absent:
                    self._kind_is_absent()
                elif not self.stale:
                    _log.warning(
                        "cannot follow the API server; keeping the last state",
                        resource=self.resource.plural,
                        status=error.status,
                        error=error.message,
                    )
                self.stale = not is_absent
                # After any trouble a list is the one way to know that nothing was missed.
                relist = True
            await asyncio.sleep(backoff.next_s())

    def _next_version(self) -> bool:
        """Turn to the next version; False when that is the first again, and all of them have been tried."""
        at = self._versions.index(self.resource)
        self.resource = self._versions[(at + 1) % len(self._versions)]
        return self.resource is not self._versions[0]

    def _kind_is_absent(self) -> None:
        if not self.synced.is_set():
            _log.info("this kind is not installed; waiting for it", resource=self.resource.plural)
        self._sink.reset({})
        self.synced.set()

    async def _list(self) -> None:
        parsed: dict[ObjectKey, T] = {}
        version = ""
        # Raw objects are many times as large as values: read a page at a time, they are never all in memory.
        async for page in self._kube.pages(self.resource.path(self._namespace), self._params):
            version = page["metadata"].get("resourceVersion", "")
            for place, raw in enumerate(page.get("items") or ()):
                if place % _PARSED_IN_ONE_GO == 0:
                    # Whoever can be answered already should not wait for a large cluster.
                    await asyncio.sleep(0)
                # Items of a list carry no kind of their own; parsers and messages may want it.
                raw.setdefault("kind", self.resource.kind)
                raw.setdefault("apiVersion", self.resource.api_version)
                value = self._parsed(raw)
                if value is not None:
                    parsed[key_of(raw)] = value[0]
        self.resource_version = version
        self._known = set(parsed)
        self._sink.reset(parsed)
        if self.stale:
            _log.info("following the API server again", resource=self.resource.plural)
        self.stale = False
        self.synced.set()

    async def _watch(self, backoff: Backoff) -> bool:
        """Whether the watch brought anything, bookmarks included."""
        heard = False
        async for event in self._kube.watch(self.resource.path(self._namespace), self.resource_version, self._params):
            heard = True
            backoff.reset()
            self.resource_version = event.object["metadata"].get("resourceVersion", self.resource_version)
            if event.type == "BOOKMARK":
                continue
            key = key_of(event.object)
            if event.type == "DELETED":
                self._drop(key)
                continue
            value = self._parsed(event.object)
            if value is None:
                # What we cannot read any more must not go on living as its old self.
                self._drop(key)
            else:
                self._known.add(key)
                self._sink.apply(key, value[0])
        return heard

    def _drop(self, key: ObjectKey) -> None:
        if key in self._known:
            self._known.discard(key)
            self._sink.delete(key)

    def _parsed(self, raw: dict[str, Any]) -> tuple[T] | None:
        """The value in a tuple, since None may be a value; None when the object is unreadable."""
        try:
            return (self._parse(raw),)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            metadata = raw.get("metadata", {})
            _log.warning(
                "skipping an object that cannot be read",
                resource=self.resource.plural,
                namespace=metadata.get("namespace"),
                name=metadata.get("name"),
                error=repr(error),
            )
            return None
