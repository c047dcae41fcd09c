"""HTTP in front of the operations: routing, authentication, lists, watches, tables, subresources, streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import uvicorn
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from weft_common.kube.resource import ObjectKey
from weft_common.log import get_logger

from weft_local.apiserver import discovery
from weft_local.apiserver.errors import ApiError, bad_request, not_found
from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.operations import Operations, Write, Written
from weft_local.apiserver.runtime import PodRuntime, RuntimeRefused
from weft_local.apiserver.selectors import Selector, matches_labels, parse_field_selector, parse_label_selector
from weft_local.apiserver.storage import Object, Storage, Stored
from weft_local.apiserver.streams import ExecOptions, serve_attach, serve_exec, serve_port_forward
from weft_local.apiserver.tables import table
from weft_local.apiserver.tokens import API_AUDIENCE, MIN_SECONDS, BoundObject, TokenAuthority, TokenRejected, User
from weft_local.apiserver.webhooks import ResolveService, WebhookCaller

MAX_BODY_BYTES: Final = 3 * 1024 * 1024
BOOKMARK_EVERY_S: Final = 60.0
DEFAULT_WATCH_S: Final = 1800.0
ADMIN: Final = User("system:admin", ("system:masters", "system:authenticated"))

_OPEN_PATHS: Final = frozenset(
    {"/healthz", "/livez", "/readyz", "/version", "/openid/v1/jwks", "/.well-known/openid-configuration"}
)
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ApiServerSettings:
    """addresses: (host, port) pairs to listen on. tokens: static bearer tokens by user name.

    resolve_service: where a webhook's Service can be reached. runtime: the node, None while there is none.
    """

    addresses: tuple[tuple[str, int], ...]
    certificate: Path
    private_key: Path
    token_key: ec.EllipticCurvePrivateKey
    service_cidr: IPv4Network
    resolve_service: ResolveService
    tokens: Mapping[str, User] = field(default_factory=dict)
    reserved_ips: tuple[str, ...] = ()


class ApiServer:
    """The server. `runtime` may be set once the node runs."""

    def __init__(self, settings: ApiServerSettings) -> None:
        self._settings = settings
        self.storage = Storage()
        self._webhooks = WebhookCaller(settings.resolve_service)
        self.operations = Operations(self.storage, self._webhooks, settings.service_cidr, settings.reserved_ips)
        self.tokens = TokenAuthority(settings.token_key, self.operations.uid_of)
        self.runtime: PodRuntime | None = None
        self.started = asyncio.Event()
        self._stopping = asyncio.Event()

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until stop is set. Raises OSError when an address cannot be bound."""
        servers = [self._uvicorn(host, port) for host, port in self._settings.addresses]
        async with self._webhooks, asyncio.TaskGroup() as group:
            collector = group.create_task(self.operations.collect_garbage(), name="garbage")
            runs = [group.create_task(server._serve(), name="http") for server in servers]
            while not all(server.started for server in servers):
                for run in runs:
                    if run.done():
                        raise OSError(f"cannot listen on {self._settings.addresses}")
                await asyncio.sleep(0.01)
            self.started.set()
            await stop.wait()
            self._stopping.set()
            for server in servers:
                server.should_exit = True
            collector.cancel()

    def _uvicorn(self, host: str, port: int) -> uvicorn.Server:
        config = uvicorn.Config(
            self._app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            lifespan="off",
            interface="asgi3",
            ssl_certfile=str(self._settings.certificate),
            ssl_keyfile=str(self._settings.private_key),
            ssl_cert_reqs=ssl.CERT_NONE,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=75,
            ws="websockets-sansio",
        )
        return uvicorn.Server(config)

    # -- the ASGI application ------------------------------------------------------------------------------------

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(WebSocket(scope, receive, send))
            return
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ApiError as error:
            response = JSONResponse(error.body(), status_code=error.status)
        except RuntimeRefused as error:
            response = JSONResponse(bad_request(str(error)).body(), status_code=400)
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("request failed", method=request.method, path=request.url.path)
            failure = ApiError(500, "InternalError", "Internal error occurred; the cluster's log has the details")
            response = JSONResponse(failure.body(), status_code=500)
        await response(scope, receive, send)

    def _user(self, authorization: str) -> User:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token:
            if user := self._settings.tokens.get(token):
                return user
            try:
                return self.tokens.review(token, [API_AUDIENCE])[0]
            except TokenRejected as error:
                _log.info("token refused", reason=str(error))
        raise ApiError(401, "Unauthorized", "Unauthorized")

    async def _respond(self, request: Request) -> Response:
        path = request.url.path
        if path not in _OPEN_PATHS:
            user = self._user(request.headers.get("authorization", ""))
        else:
            return self._open(path)
        parts = [part for part in path.split("/") if part]
        if not parts or parts[0] not in ("api", "apis"):
            return self._documents(parts)
        if parts[0] == "api":
            if len(parts) == 1:
                return JSONResponse(
                    {"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"], "serverAddressByClientCIDRs": []}
                )
            group, version, rest = "", parts[1], parts[2:]
        else:
            if len(parts) == 1:
                return JSONResponse(discovery.api_groups(self.operations.kinds))
            if len(parts) == 2:
                found = discovery.api_group(self.operations.kinds, parts[1])
                if found is None:
                    raise ApiError(404, "NotFound", "the server could not find the requested resource")
                return JSONResponse(found)
            group, version, rest = parts[1], parts[2], parts[3:]
        if not rest:
            listed = discovery.api_resources(self.operations.kinds, group, version)
            if listed is None:
                raise ApiError(404, "NotFound", "the server could not find the requested resource")
            return JSONResponse(listed)
        return await self._resource(request, user, group, version, rest)

    def _open(self, path: str) -> Response:
        if path == "/version":
            return JSONResponse(discovery.SERVER_VERSION)
        if path == "/openid/v1/jwks":
            return JSONResponse(self.tokens.jwks())
        if path == "/.well-known/openid-configuration":
            return JSONResponse(
                {
                    "issuer": API_AUDIENCE,
                    "jwks_uri": f"{API_AUDIENCE}/openid/v1/jwks",
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"],
                }
            )
        return PlainTextResponse("ok")

    def _documents(self, parts: list[str]) -> Response:
        kinds = list(self.operations.kinds)
        if parts == ["openapi", "v3"]:
            return JSONResponse(discovery.openapi_v3_index(kinds))
        if parts[:2] == ["openapi", "v3"] and len(parts) in (4, 5):
            group = parts[3] if len(parts) == 5 else ""
            return JSONResponse(discovery.openapi_v3_document(kinds, group, parts[-1]))
        if parts == ["openapi", "v2"]:
            return JSONResponse(discovery.openapi_v2(kinds))
        raise ApiError(404, "NotFound", "the server could not find the requested resource")

    # -- resources -----------------------------------------------------------------------------------------------

    async def _resource(self, request: Request, user: User, group: str, version: str, rest: list[str]) -> Response:
        target = _target(rest)
        if request.method == "POST" and group in ("authentication.k8s.io", "authorization.k8s.io"):
            return await self._review(request, user, group, version, target.plural)
        kind = self.operations.kinds.find(group, version, target.plural)
        if kind is None:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        if target.subresource:
            return await self._subresource(request, user, kind, version, target)
        if target.name:
            return await self._object(request, user, kind, version, target)
        if request.method == "GET":
            return await self._list_or_watch(request, kind, version, target.namespace)
        if request.method == "POST":
            body = await _object_body(request)
            namespace = target.namespace or (body.get("metadata") or {}).get("namespace", "") if kind.namespaced else ""
            written = await self.operations.create(kind, version, namespace, body, _write(request, user))
            return self._written(request, kind, version, written)
        if request.method == "DELETE":
            return await self._delete_collection(request, user, kind, version, target.namespace)
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    async def _object(self, request: Request, user: User, kind: Kind, version: str, target: _Target) -> Response:
        key = ObjectKey(target.namespace or "", target.name)
        write = _write(request, user)
        match request.method:
            case "GET":
                return self._one(request, kind, version, self.operations.get(kind, key))
            case "PUT":
                body = await _object_body(request)
                written = await self.operations.update(kind, version, key, body, write)
            case "PATCH":
                written = await self._patch(request, kind, version, key, write)
            case "DELETE":
                options = await _delete_options(request)
                obj = await self.operations.delete(kind, version, key, options, write)
                if not obj["metadata"].get("deletionTimestamp"):
                    details = {
                        "name": key.name,
                        "group": kind.group,
                        "kind": kind.plural,
                        "uid": obj["metadata"]["uid"],
                    }
                    return JSONResponse(
                        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
                    )
                return self._one(request, kind, version, obj)
            case _:
                raise ApiError(
                    405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
                )
        return self._written(request, kind, version, written)

    async def _patch(self, request: Request, kind: Kind, version: str, key: ObjectKey, write: Write) -> Written:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        return await self.operations.patch(kind, version, key, content_type, await _body(request), write)

    async def _subresource(self, request: Request, user: User, kind: Kind, version: str, target: _Target) -> Response:
        key = ObjectKey(target.namespace or "", target.name)
        if target.subresource == "log" and kind.id == "/pods":
            return self._log(request, key)
        if target.subresource == "token" and kind.id == "/serviceaccounts":
            return await self._token_request(request, key)
        if target.subresource == "eviction" and kind.id == "/pods":
            options = (await _object_body(request)).get("deleteOptions") or {}
            await self.operations.delete(kind, version, key, options, _write(request, user))
            return JSONResponse({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)
        if target.subresource not in kind.subresources:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        if target.subresource == "scale":
            return await self._scale(request, user, kind, version, key)
        if target.subresource == "finalize" and kind.id == "/namespaces":
            if not (await _object_body(request)).get("spec", {}).get("finalizers"):
                self.operations.finish_namespace(key.name)
            return JSONResponse({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        write = _write(request, user, subresource=target.subresource)
        match request.method:
            case "GET":
                return self._one(request, kind, version, self.operations.get(kind, key))
            case "PUT":
                body = await _object_body(request)
                written = await self.operations.update(kind, version, key, body, write)
            case "PATCH":
                written = await self._patch(request, kind, version, key, write)
            case _:
                raise ApiError(
                    405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
                )
        return self._written(request, kind, version, written)

    async def _scale(self, request: Request, user: User, kind: Kind, version: str, key: ObjectKey) -> Response:
        obj = self.operations.get(kind, key)
        if request.method != "GET":
            body = await _body(request)
            replicas = (body.get("spec") or {}).get("replicas") if isinstance(body, dict) else None
            if not isinstance(replicas, int) or replicas < 0:
                raise bad_request("spec.replicas: expected an integer of at least 0")
            written = await self.operations.patch(
                kind,
                version,
                key,
                "application/merge-patch+json",
                {"spec": {"replicas": replicas}},
                _write(request, user),
            )
            obj = written.obj
        labels = obj["spec"].get("selector", {}).get("matchLabels") or {}
        return JSONResponse(
            {
                "kind": "Scale",
                "apiVersion": "autoscaling/v1",
                "metadata": {
                    name: obj["metadata"][name]
                    for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
                },
                "spec": {"replicas": obj["spec"].get("replicas", 0)},
                "status": {
                    "replicas": (obj.get("status") or {}).get("replicas", 0),
                    "selector": ",".join(f"{name}={value}" for name, value in sorted(labels.items())),
                },
            }
        )

    async def _delete_collection(
        self, request: Request, user: User, kind: Kind, version: str, namespace: str | None
    ) -> Response:
        matches = _filter(request.query_params)
        options = await _delete_options(request)
        found = [stored for stored in self.storage.all(kind, namespace) if matches(stored.obj)]
        for stored in found:
            metadata = stored.obj["metadata"]
            key = ObjectKey(metadata.get("namespace", ""), metadata["name"])
            with contextlib.suppress(_Gone):
                await _ignoring_absent(self.operations.delete(kind, version, key, options, _write(request, user)))
        return self._list(kind, version, found)

    # -- answers -------------------------------------------------------------------------------------------------

    def _one(self, request: Request, kind: Kind, version: str, obj: Object) -> Response:
        shown = _in_version(kind, version, obj)
        if include := _wants_table(request):
            metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            return JSONResponse(table(kind, [shown], time.time(), metadata, include))
        return JSONResponse(shown)

    def _written(self, request: Request, kind: Kind, version: str, written: Written) -> Response:
        response = self._one(request, kind, version, written.obj)
        response.status_code = 201 if written.created else 200
        for warning in written.warnings:
            quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.append("warning", f'299 - "{quoted}"')
        return response

    def _list(self, kind: Kind, version: str, found: list[Stored], metadata: Object | None = None) -> Response:
        head = json.dumps(
            {
                "kind": f"{kind.kind}List",
                "apiVersion": kind.api_version(version),
                "metadata": metadata or {"resourceVersion": str(self.storage.version)},
            }
        ).encode()
        items = b",".join(_encoded(kind, version, stored) for stored in found)
        return Response(head[:-1] + b', "items": [' + items + b"]}", media_type="application/json")

    async def _list_or_watch(self, request: Request, kind: Kind, version: str, namespace: str | None) -> Response:
        query = request.query_params
        matches = _filter(query)
        if query.get("watch") in ("true", "1", "True"):
            return self._watch(request, kind, version, namespace, matches)
        found = [stored for stored in self.storage.all(kind, namespace) if matches(stored.obj)]
        metadata: Object = {"resourceVersion": str(self.storage.version)}
        found, metadata = _page(found, query, metadata)
        if include := _wants_table(request):
            shown = [_in_version(kind, version, stored.obj) for stored in found]
            return JSONResponse(table(kind, shown, time.time(), metadata, include))
        return self._list(kind, version, found, metadata)

    def _watch(
        self, request: Request, kind: Kind, version: str, namespace: str | None, matches: Callable[[Object], bool]
    ) -> Response:
        query = request.query_params
        include = _wants_table(request)
        since_text = query.get("resourceVersion", "")
        send_initial = since_text in ("", "0") or query.get("sendInitialEvents") == "true"
        since = self.storage.version if send_initial else _version(since_text)
        # Ask now, so that a version too old is an HTTP error and not a broken stream.
        self.storage.changes_since(kind, since)
        initial = [s for s in self.storage.all(kind, namespace) if matches(s.obj)] if send_initial else []
        limit_s = float(query.get("timeoutSeconds") or DEFAULT_WATCH_S)
        bookmarks = query.get("allowWatchBookmarks") in ("true", "1")

        def line(event: str, stored: Stored) -> bytes:
            if include:
                shown = _in_version(kind, version, stored.obj)
                metadata = {"resourceVersion": str(stored.version)}
                body = json.dumps(table(kind, [shown], time.time(), metadata, include)).encode()
            else:
                body = _encoded(kind, version, stored)
            return b'{"type":"' + event.encode() + b'","object":' + body + b"}\n"

        def bookmark(at: int, *, initial_end: bool = False) -> bytes:
            metadata: Object = {"resourceVersion": str(at), "creationTimestamp": None}
            if initial_end:
                metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
            obj = {"kind": kind.kind, "apiVersion": kind.api_version(version), "metadata": metadata}
            return json.dumps({"type": "BOOKMARK", "object": obj}).encode() + b"\n"

        async def events() -> AsyncIterator[bytes]:
            position = since
            if initial:
                yield b"".join(line("ADDED", stored) for stored in initial)
            if query.get("sendInitialEvents") == "true":
                yield bookmark(position, initial_end=True)
            deadline = time.monotonic() + limit_s
            while not self._stopping.is_set():
                try:
                    changes = self.storage.changes_since(kind, position)
                except ApiError as error:
                    yield json.dumps({"type": "ERROR", "object": error.body()}).encode() + b"\n"
                    return
                lines = []
                for change in changes:
                    position = change.version
                    if event := _seen_as(change.type, change.now.obj, change.before, namespace, matches):
                        lines.append(line(event, change.now))
                if lines:
                    yield b"".join(lines)
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                try:
                    async with asyncio.timeout(min(left, BOOKMARK_EVERY_S)):
                        await self._changed_or_stopping(kind)
                except TimeoutError:
                    if bookmarks:
                        # Everything up to now has been looked at, whichever kinds it was about.
                        position = max(position, self.storage.version)
                        yield bookmark(position)

        return StreamingResponse(events(), media_type="application/json")

    async def _changed_or_stopping(self, kind: Kind) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        changed = asyncio.ensure_future(self.storage.wait_for_change(kind))
        try:
            await asyncio.wait({stopping, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            changed.cancel()

    # -- tokens and reviews --------------------------------------------------------------------------------------

    async def _token_request(self, request: Request, key: ObjectKey) -> Response:
        account = self.operations.get(self.operations.kinds["/serviceaccounts"], key)
        body = await _object_body(request)
        spec = body.get("spec") or {}
        audiences = [str(audience) for audience in spec.get("audiences") or [API_AUDIENCE]]
        ttl_s = int(spec.get("expirationSeconds") or 3600)
        if ttl_s < MIN_SECONDS:
            raise ApiError(
                422, "Invalid", f"spec.expirationSeconds: may not specify a duration less than {MIN_SECONDS} seconds"
            )
        bound = None
        if reference := spec.get("boundObjectRef"):
            uid = self.operations.uid_of(reference["kind"], ObjectKey(key.namespace, reference["name"]))
            if uid is None or reference.get("uid", uid) != uid:
                raise not_found("pods", "", str(reference["name"]))
            bound = BoundObject(reference["kind"], reference["name"], uid)
        now_s = int(time.time())
        token = self.tokens.issue(key, account["metadata"]["uid"], audiences, now_s, ttl_s, bound)
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s + ttl_s))
        status = {"token": token, "expirationTimestamp": expires}
        spec = {**spec, "audiences": audiences, "expirationSeconds": ttl_s}
        answer = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": spec}
        return JSONResponse({**answer, "status": status}, status_code=201)

    async def _review(self, request: Request, user: User, group: str, version: str, plural: str) -> Response:
        body = await _object_body(request)
        spec = body.get("spec") or {}
        if plural == "tokenreviews":
            audiences = [str(audience) for audience in spec.get("audiences") or [API_AUDIENCE]]
            try:
                found, matching = self.tokens.review(str(spec.get("token", "")), audiences)
                status: Object = {"authenticated": True, "user": found.as_json(), "audiences": matching}
            except TokenRejected as error:
                status = {"authenticated": False, "error": str(error)}
        elif plural == "selfsubjectreviews":
            status = {"userInfo": user.as_json()}
        elif plural == "selfsubjectrulesreviews":
            rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            status = {"resourceRules": [rule], "nonResourceRules": [], "incomplete": False}
        elif plural in ("selfsubjectaccessreviews", "subjectaccessreviews", "localsubjectaccessreviews"):
            status = {"allowed": True, "reason": "weft local does not enforce RBAC"}
        else:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        return JSONResponse({**body, "apiVersion": f"{group}/{version}", "status": status}, status_code=201)

    # -- pods ----------------------------------------------------------------------------------------------------

    def _node(self) -> PodRuntime:
        if self.runtime is None:
            raise ApiError(503, "ServiceUnavailable", "the node has not started yet; try again in a moment")
        return self.runtime

    def _container(self, key: ObjectKey, wanted: str) -> str:
        pod = self.operations.get(self.operations.kinds["/pods"], key)
        names = [
            c["name"] for field_name in ("containers", "initContainers") for c in pod["spec"].get(field_name) or []
        ]
        if wanted and wanted not in names:
            raise bad_request(f"container {wanted} is not valid for pod {key.name}: it has {', '.join(names)}")
        default = pod["metadata"].get("annotations", {}).get("kubectl.kubernetes.io/default-container")
        return wanted or (default if default in names else names[0])

    def _log(self, request: Request, key: ObjectKey) -> Response:
        query = request.query_params
        container = self._container(key, query.get("container", ""))
        tail, since = query.get("tailLines"), query.get("sinceSeconds")
        chunks = self._node().logs(
            key.namespace,
            key.name,
            container,
            follow=query.get("follow") == "true",
            tail_lines=int(tail) if tail else None,
            since_s=float(since) if since else None,
            timestamps=query.get("timestamps") == "true",
            previous=query.get("previous") == "true",
        )
        return StreamingResponse(_started(chunks), media_type="text/plain")

    async def _websocket(self, websocket: WebSocket) -> None:
        parts = [part for part in websocket.url.path.split("/") if part]
        query = parse_qs(websocket.url.query, keep_blank_values=True)
        try:
            self._user(websocket.headers.get("authorization", ""))
            target = _target(parts[2:])
            key = ObjectKey(target.namespace or "", target.name)
            if parts[0] != "api" or target.plural != "pods":
                raise ApiError(404, "NotFound", "the server could not find the requested resource")
            runtime = self._node()
            container = self._container(key, query.get("container", [""])[0])
            match target.subresource:
                case "exec":
                    wants = {name: query.get(name, [""])[0] in ("true", "1") for name in ("stdin", "tty")}
                    options = ExecOptions(container, tuple(query.get("command", [])), wants["stdin"], wants["tty"])
                    await serve_exec(websocket, runtime, key.namespace, key.name, options)
                case "attach":
                    await serve_attach(
                        websocket,
                        lambda: runtime.logs(
                            key.namespace,
                            key.name,
                            container,
                            follow=True,
                            tail_lines=0,
                            since_s=None,
                            timestamps=False,
                            previous=False,
                        ),
                    )
                case "portforward":
                    ports = tuple(int(port) for value in query.get("ports", []) for port in value.split(","))
                    await serve_port_forward(websocket, runtime, key.namespace, key.name, ports)
                case _:
                    raise ApiError(404, "NotFound", "the server could not find the requested resource")
        except ApiError as error:
            # Refused before the upgrade, so that the client sees the Status and its code.
            await websocket.send_denial_response(JSONResponse(error.body(), status_code=error.status))


@dataclass(frozen=True, slots=True)
class _Target:
    """What a path below group and version names. namespace None: all of them."""

    namespace: str | None
    plural: str
    name: str = ""
    subresource: str = ""


def _target(rest: list[str]) -> _Target:
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace: str | None = rest[1]
        rest = rest[2:]
    else:
        namespace = None
    if len(rest) > 3:
        raise ApiError(404, "NotFound", "the server could not find the requested resource")
    return _Target(namespace, *rest)


def _write(request: Request, user: User, subresource: str = "") -> Write:
    query = request.query_params
    agent = request.headers.get("user-agent", "unknown").partition("/")[0]
    return Write(
        user=user,
        dry_run=query.get("dryRun") == "All",
        field_validation=query.get("fieldValidation") or "Warn",
        manager=query.get("fieldManager") or agent or "unknown",
        force=query.get("force") == "true",
        subresource=subresource,
    )


async def _body(request: Request) -> Any:
    declared = int(request.headers.get("content-length") or 0)
    if declared > MAX_BODY_BYTES:
        raise ApiError(413, "RequestEntityTooLarge", f"the request is larger than {MAX_BODY_BYTES} bytes")
    data = await request.body()
    if not data:
        return {}
    content_type = request.headers.get("content-type", "").partition(";")[0]
    if content_type == "application/vnd.kubernetes.protobuf":
        raise ApiError(415, "UnsupportedMediaType", "this server speaks JSON and YAML, not protobuf")
    try:
        return yaml.safe_load(data) if content_type.endswith("yaml") else json.loads(data)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"the body cannot be read: {error}") from error


async def _object_body(request: Request) -> Object:
    body = await _body(request)
    if not isinstance(body, dict):
        raise bad_request(f"expected an object, found {type(body).__name__}")
    return body


async def _delete_options(request: Request) -> Object:
    query = request.query_params
    options = dict(await _object_body(request))
    for name in ("propagationPolicy", "gracePeriodSeconds"):
        if name in query:
            options[name] = query[name]
    return options


def _filter(query: QueryParams) -> Callable[[Object], bool]:
    labels: Selector = parse_label_selector(query.get("labelSelector", ""))
    fields = parse_field_selector(query.get("fieldSelector", ""))
    return lambda obj: matches_labels(labels, obj["metadata"].get("labels")) and fields(obj)


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


def _page(found: list[Stored], query: QueryParams, metadata: Object) -> tuple[list[Stored], Object]:
    """One page of a list. The continue token is the position in key order."""
    start = int(query.get("continue") or 0)
    limit = int(query.get("limit") or 0)
    if not limit or start + limit >= len(found):
        return found[start:], metadata
    left = len(found) - start - limit
    return found[start : start + limit], {**metadata, "continue": str(start + limit), "remainingItemCount": left}


def _wants_table(request: Request) -> str:
    """What the rows of the wanted table hold; empty when no table is wanted."""
    if "as=Table" not in request.headers.get("accept", ""):
        return ""
    return request.query_params.get("includeObject") or "Metadata"


def _version(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise bad_request(f"resourceVersion {text!r}: expected a number") from None


def _in_version(kind: Kind, version: str, obj: Object) -> Object:
    wanted = kind.api_version(version)
    return obj if obj.get("apiVersion") == wanted else {**obj, "apiVersion": wanted}


def _encoded(kind: Kind, version: str, stored: Stored) -> bytes:
    if stored.obj.get("apiVersion") == kind.api_version(version):
        return stored.encoded
    return json.dumps(_in_version(kind, version, stored.obj)).encode()


async def _started(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield chunk
    except RuntimeRefused as error:
        yield f"{error}\n".encode()


class _Gone(Exception):
    """The object went away on its own."""


async def _ignoring_absent(call: Awaitable[object]) -> None:
    try:
        await call
    except ApiError as error:
        if error.status != 404:
            raise
        raise _Gone from error
