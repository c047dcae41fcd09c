"""Watches: one line of JSON per change, from a version on, until the client leaves or its time is over."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from weft_local.apiserver.answers import encoded, in_version, selection, table_rows_wanted
from weft_local.apiserver.decoding import Object
from weft_local.apiserver.errors import ApiError
from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.requests import int_of
from weft_local.apiserver.storage import Storage, Stored
from weft_local.apiserver.tables import table

BOOKMARK_EVERY_S: Final = 60.0
DEFAULT_WATCH_S: Final = 1800


class Watches:
    """Serves watches over one store, and ends them all when told."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._is_ended = False

    def end(self) -> None:
        """End every watch; new ones end at once."""
        self._is_ended = True
        self._storage.wake_all()

    def respond(self, request: Request, kind: Kind, version: str, namespace: str | None) -> Response:
        """Raises ApiError 400, and 410 for a version that is no longer known."""
        query = request.query_params
        matches = selection(query)
        asked = query.get("resourceVersion", "")
        sends_initial = asked in ("", "0") or query.get("sendInitialEvents") == "true"
        since = self._storage.version if sends_initial else int_of(asked, "resourceVersion")
        # Asked now, so that a version too old is an HTTP error and not a broken stream.
        self._storage.changes_since(kind, since)
        initial = [s for s in self._storage.all(kind, namespace) if matches(s.obj)] if sends_initial else []
        lines = _Lines(kind, version, table_rows_wanted(request))
        events = self._events(
            kind,
            since,
            lines,
            namespace,
            matches,
            limit_s=float(int_of(query.get("timeoutSeconds") or str(DEFAULT_WATCH_S), "timeoutSeconds")),
            has_bookmarks=query.get("allowWatchBookmarks") in ("true", "1", "True"),
        )
        marks_initial = query.get("sendInitialEvents") == "true"
        return StreamingResponse(
            _after_initial(lines, initial, since, marks_initial, events), media_type="application/json"
        )

    async def _events(
        self,
        kind: Kind,
        position: int,
        lines: _Lines,
        namespace: str | None,
        matches: Callable[[Object], bool],
        *,
        limit_s: float,
        has_bookmarks: bool,
    ) -> AsyncIterator[bytes]:
        deadline = time.monotonic() + limit_s
        next_bookmark = time.monotonic() + BOOKMARK_EVERY_S
        while not self._is_ended:
            try:
                changes = self._storage.changes_since(kind, position)
            except ApiError as error:
                yield json.dumps({"type": "ERROR", "object": error.body()}).encode() + b"\n"
                return
            # Everything up to here has been looked at, whichever kinds it was about.
            position = self._storage.version
            found = [
                lines.event(event, change.now)
                for change in changes
                if (event := _seen_as(change.type, change.now.obj, change.before, namespace, matches))
            ]
            now = time.monotonic()
            if has_bookmarks and now >= next_bookmark:
                found.append(lines.bookmark(position))
                next_bookmark = now + BOOKMARK_EVERY_S
            if found:
                yield b"".join(found)
            if now >= deadline:
                return
            if found:
                # Sending took its time; look again before waiting.
                continue
            try:
                async with asyncio.timeout(min(deadline, next_bookmark) - now):
                    await self._storage.wait_for_change(kind)
            except TimeoutError:
                if not has_bookmarks:
                    next_bookmark = time.monotonic() + BOOKMARK_EVERY_S


class _Lines:
    """Writes the lines of one watch. include: as in table_rows_wanted."""

    def __init__(self, kind: Kind, version: str, include: str) -> None:
        self._kind = kind
        self._version = version
        self._include = include

    def event(self, event: str, stored: Stored) -> bytes:
        if self._include:
            shown = in_version(self._kind, self._version, stored.obj)
            metadata = {"resourceVersion": str(stored.version)}
            body = json.dumps(table(self._kind, [shown], time.time(), metadata, self._include)).encode()
        else:
            body = encoded(self._kind, self._version, stored)
        return b'{"type":"' + event.encode() + b'","object":' + body + b"}\n"

    def bookmark(self, version: int, *, ends_initial: bool = False) -> bytes:
        metadata: Object = {"resourceVersion": str(version), "creationTimestamp": None}
        if ends_initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        api_version = self._kind.api_version(self._version)
        obj = {"kind": self._kind.kind, "apiVersion": api_version, "metadata": metadata}
        if self._include:
            obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "rows": []}
        return json.dumps({"type": "BOOKMARK", "object": obj}).encode() + b"\n"


async def _after_initial(
    lines: _Lines, initial: list[Stored], since: int, marks_initial: bool, events: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    if initial:
        yield b"".join(lines.event("ADDED", stored) for stored in initial)
    if marks_initial:
        yield lines.bookmark(since, ends_initial=True)
    async for chunk in events:
        yield chunk


def _seen_as(
    event: str, now: Object, before: Stored | None, namespace: str | None, matches: Callable[[Object], bool]
) -> str:
    """The event a watcher sees: an object that leaves its selection is deleted for it. Empty for none."""
    if namespace is not None and now["metadata"].get("namespace") != namespace:
        return ""
    was = before is not None and matches(before.obj)
    if event == "DELETED":
        return "DELETED" if was else ""
    if matches(now):
        return "MODIFIED" if was else "ADDED"
    return "DELETED" if was else ""
