"""Requests and watches against the Kubernetes API, raw JSON in and out.

One aiohttp session per client. Errors of the server become KubeError with its status and reason; anything that kept
the request from being answered becomes KubeUnreachable.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from weft_common.kube.config import KubeConfig

DEFAULT_REQUEST_TIMEOUT_S: Final = 30.0
DEFAULT_WATCH_S: Final = 290

MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"

# A watch line holds one object; etcd admits 1.5 MiB of it, JSON with managed fields somewhat more.
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024


class KubeError(Exception):
    """The API server refused. status: HTTP; reason: its machine-readable word, such as NotFound or Conflict."""

    def __init__(self, status: int, reason: str, message: str, body: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.body = body or {}


class KubeUnreachable(KubeError):
    """No answer: refused, timed out, reset or not TLS. Retry later."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """type: ADDED, MODIFIED, DELETED or BOOKMARK; ERROR is raised as KubeError instead."""

    type: str
    object: dict[str, Any]


class KubeClient:
    """An API server. Use as an async context manager."""

    def __init__(self, config: KubeConfig) -> None:
        self.config = config
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        tls = ssl_context(self.config) if self.config.server.startswith("https") else False
        self._session = aiohttp.ClientSession(
            self.config.server,
            connector=aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=256 * 1024,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """One object, or whatever JSON the path serves."""
        return await self.request("GET", path, params=params)

    async def list(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A whole collection as one List object, pages joined; metadata is that of the last page."""
        items: list[Any] = []
        page: dict[str, Any] = {}
        async for page in self.pages(path, params):
            items += page.get("items") or []
        return {**page, "items": items}

    async def pages(self, path: str, params: Mapping[str, str] | None = None) -> AsyncIterator[dict[str, Any]]:
        """A collection as List objects, each of a part of it, for readers that need not hold it all at once.

        Raises KubeError; status 410 when the reader took so long that the rest is no longer to be had.
        """
        query = {"limit": "500", **(params or {})}
        page = await self.request("GET", path, params=query)
        yield page
        while token := page.get("metadata", {}).get("continue"):
            page = await self.request("GET", path, params={**query, "continue": token})
            yield page

    async def create(self, path: str, body: object, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """POST. Raises KubeError 409 AlreadyExists."""
        return await self.request("POST", path, body=body, params=params)

    async def update(self, path: str, body: object, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """PUT. Raises KubeError 409 Conflict when the resourceVersion is no longer current."""
        return await self.request("PUT", path, body=body, params=params)

    async def patch(
        self, path: str, body: object, content_type: str = MERGE_PATCH, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """PATCH with one of the four patch types of this module."""
        return await self.request("PATCH", path, body=body, content_type=content_type, params=params)

    async def delete(self, path: str, params: Mapping[str, str] | None = None, body: object = None) -> dict[str, Any]:
        """DELETE. body: DeleteOptions. Raises KubeError 404 NotFound."""
        return await self.request("DELETE", path, body=body, params=params)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
        timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S,
    ) -> dict[str, Any]:
        """One request with one JSON answer. Raises KubeError, KubeUnreachable."""
        async with (
            _unreachable_as_kube_error(method, path),
            asyncio.timeout(timeout_s),
            self._open(method, path, params, body, content_type) as response,
        ):
            text = await response.read()
            if response.status >= 400:
                raise _error_from(response.status, text)
            return _json_object(text)

    async def watch(
        self, path: str, resource_version: str, params: Mapping[str, str] | None = None, watch_s: int = DEFAULT_WATCH_S
    ) -> AsyncIterator[WatchEvent]:
        """Changes after resource_version until the server ends the watch, after watch_s seconds at most.

        Raises KubeError; status 410 when the version is too old.
        """
        query = {
            **(params or {}),
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(watch_s),
        }
        async with (
            _unreachable_as_kube_error("WATCH", path),
            self._open("GET", path, query, None, "application/json") as response,
        ):
            if response.status >= 400:
                raise _error_from(response.status, await response.read())
            async for line in _lines(response.content):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise KubeError(
                        int(status.get("code", 500)), status.get("reason", ""), status.get("message", ""), status
                    )
                yield WatchEvent(event["type"], event["object"])

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, params: Mapping[str, str] | None, body: object, content_type: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("KubeClient used outside its async with block")
        headers = {"accept": "application/json"}
        if token := self._token():
            headers["authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers["content-type"] = content_type
        async with self._session.request(
            method,
            path,
            params=params,
            data=data,
            headers=headers,
            server_hostname=self.config.tls_server_name,
        ) as response:
            yield response

    def _token(self) -> str | None:
        if self.config.token_file is not None:
            return self.config.token_file.read_text().strip()
        return self.config.token


def ssl_context(config: KubeConfig) -> ssl.SSLContext:
    """The TLS settings of a configuration, client certificate included."""
    context = ssl.create_default_context(cadata=config.ca_pem)
    if config.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.client_cert_pem and config.client_key_pem:
        # The ssl module reads client certificates from files only; the file lives for this call, readable by us alone.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(config.client_cert_pem + "\n" + config.client_key_pem)
            file.flush()
            context.load_cert_chain(Path(file.name))
    return context


@asynccontextmanager
async def _unreachable_as_kube_error(method: str, path: str) -> AsyncIterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
        raise KubeUnreachable(f"{method} {path}: {str(error) or type(error).__name__}") from error


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # StreamReader.readline refuses lines above its buffer limit, and one object may be larger than any sane buffer.
    pending = bytearray()
    async for chunk in stream.iter_any():
        pending += chunk
        if len(pending) > _MAX_LINE_BYTES:
            raise KubeUnreachable(f"a watch event exceeds {_MAX_LINE_BYTES} bytes")
        *complete, rest = pending.split(b"\n")
        for line in complete:
            if line.strip():
                yield bytes(line)
        pending = bytearray(rest)


def _error_from(status: int, text: bytes) -> KubeError:
    try:
        body = _json_object(text)
    except KubeError:
        return KubeError(status, "", text.decode(errors="replace")[:500] or f"HTTP {status}")
    return KubeError(status, str(body.get("reason", "")), str(body.get("message", f"HTTP {status}")), body)


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise KubeError(0, "NotJson", f"the API server answered something that is not JSON: {text[:200]!r}") from error
    if not isinstance(value, dict):
        raise KubeError(0, "NotJson", f"the API server answered {type(value).__name__}, expected an object")
    return value
