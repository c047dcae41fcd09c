"""The ASGI application: who is asking, what the path means, and one place where refusals become answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from weft_common.kube.resource import ObjectKey, key_of
from weft_common.log import get_logger

from weft_local.apiserver import answers, discovery, openapi
from weft_local.apiserver.errors import ApiError
from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.operations import Operations
from weft_local.apiserver.requests import (
    Target,
    body_of,
    delete_options_of,
    object_body_of,
    target_from_path,
    unknown_path,
    write_from_request,
    wrong_method,
)
from weft_local.apiserver.reviews import review
from weft_local.apiserver.subresources import Subresources
from weft_local.apiserver.tokens import API_AUDIENCE, ISSUER, TokenAuthority, TokenRejected, User
from weft_local.apiserver.watching import Watches

_HEALTH: Final = frozenset({"/healthz", "/livez", "/readyz"})
_REVIEW_GROUPS: Final = ("authentication.k8s.io", "authorization.k8s.io")
_log = get_logger(__name__)


class Application:
    """Routes requests. static_tokens: users by bearer token."""

    def __init__(
        self,
        operations: Operations,
        watches: Watches,
        tokens: TokenAuthority,
        subresources: Subresources,
        static_tokens: Mapping[str, User],
    ) -> None:
        self._operations = operations
        self._watches = watches
        self._tokens = tokens
        self._subresources = subresources
        self._static_tokens = static_tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._stream(WebSocket(scope, receive, send))
            return
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ApiError as error:
            response = JSONResponse(error.body(), status_code=error.status)
        except ClientDisconnect:
            return
        except Exception:
            _log.exception("request failed", method=request.method, path=request.url.path)
            response = JSONResponse(_unexpected().body(), status_code=500)
        await response(scope, receive, send)

    async def _stream(self, websocket: WebSocket) -> None:
        try:
            self._authenticated(websocket.headers.get("authorization", ""))
            await self._subresources.stream(websocket, _parts(websocket.url.path))
        except ApiError as error:
            # Refused before the upgrade, so that the client sees the Status and its code.
            await websocket.send_denial_response(JSONResponse(error.body(), status_code=error.status))

    def _authenticated(self, authorization: str) -> User:
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() == "bearer" and token:
            if user := self._static_tokens.get(token):
                return user
            try:
                return self._tokens.review(token, [API_AUDIENCE])[0]
            except TokenRejected as error:
                _log.info("token refused", reason=str(error))
        raise ApiError(401, "Unauthorized", "Unauthorized")

    async def _respond(self, request: Request) -> Response:
        path = request.url.path
        if (open_to_all := self._open(path)) is not None:
            return open_to_all
        user = self._authenticated(request.headers.get("authorization", ""))
        match _parts(path):
            case ["api"]:
                return JSONResponse(discovery.CORE_VERSIONS)
            case ["apis"]:
                return JSONResponse(discovery.api_groups(self._operations.kinds))
            case ["apis", group]:
                return _found(discovery.api_group(self._operations.kinds, group))
            case ["api", version]:
                return _found(discovery.api_resources(self._operations.kinds, "", version))
            case ["apis", group, version]:
                return _found(discovery.api_resources(self._operations.kinds, group, version))
            case ["api", version, *rest]:
                return await self._resource(request, user, "", version, rest)
            case ["apis", group, version, *rest]:
                return await self._resource(request, user, group, version, rest)
            case ["openapi", "v3"]:
                return JSONResponse(openapi.index(self._operations.kinds))
            case ["openapi", "v3", *rest]:
                return _found(openapi.document(self._operations.kinds, "/".join(rest)))
            case _:
                raise unknown_path()

    def _open(self, path: str) -> Response | None:
        """What needs no token; None for everything else."""
        if path in _HEALTH:
            return PlainTextResponse("ok")
        if path == "/version":
            return JSONResponse(discovery.SERVER_VERSION)
        if path == "/openid/v1/jwks":
            return JSONResponse(self._tokens.jwks(), media_type="application/jwk-set+json")
        if path == "/.well-known/openid-configuration":
            return JSONResponse(discovery.openid_configuration(ISSUER))
        return None

    async def _resource(self, request: Request, user: User, group: str, version: str, rest: list[str]) -> Response:
        target = target_from_path(rest)
        if group in _REVIEW_GROUPS:
            if request.method != "POST":
                raise wrong_method()
            return review(self._tokens, user, group, version, target.plural, await object_body_of(request))
        kind = self._operations.kinds.find(group, version, target.plural)
        if kind is None or (target.namespace is not None and not kind.namespaced):
            raise unknown_path()
        if target.subresource:
            return await self._subresources.respond(request, user, kind, version, target)
        if target.name:
            return await self._object(request, user, kind, version, target)
        return await self._collection(request, user, kind, version, target.namespace)

    async def _collection(
        self, request: Request, user: User, kind: Kind, version: str, namespace: str | None
    ) -> Response:
        match request.method:
            case "GET" if request.query_params.get("watch") in ("true", "1", "True"):
                return self._watches.respond(request, kind, version, namespace)
            case "GET":
                return answers.listing(request, self._operations.storage, kind, version, namespace)
            case "POST":
                body = await object_body_of(request)
                into = namespace or (body.get("metadata") or {}).get("namespace", "") if kind.namespaced else ""
                write = write_from_request(request, user)
                written = await self._operations.create(kind, version, into, body, write)
                return answers.after_write(request, kind, version, written)
            case "DELETE":
                return await self._delete_all(request, user, kind, version, namespace)
            case _:
                raise wrong_method()

    async def _object(self, request: Request, user: User, kind: Kind, version: str, target: Target) -> Response:
        key = ObjectKey(target.namespace or "", target.name)
        # One object may be watched by its own path; old clients do it with a field selector instead.
        write = write_from_request(request, user)
        match request.method:
            case "GET":
                return answers.one(request, kind, version, self._operations.get(kind, key))
            case "PUT":
                body = await object_body_of(request)
                written = await self._operations.update(kind, version, key, body, write)
            case "PATCH":
                content_type = request.headers.get("content-type", "").partition(";")[0].strip()
                body = await body_of(request)
                written = await self._operations.patch(kind, version, key, content_type, body, write)
            case "DELETE":
                return await self._delete(request, user, kind, version, key)
            case _:
                raise wrong_method()
        return answers.after_write(request, kind, version, written)

    async def _delete(self, request: Request, user: User, kind: Kind, version: str, key: ObjectKey) -> Response:
        options = await delete_options_of(request)
        write = write_from_request(request, user)
        obj = await self._operations.delete(kind, version, key, options, write)
        if self._operations.storage.find(kind, key) is not None and not write.dry_run:
            return answers.one(request, kind, version, obj)
        details = {"name": key.name, "group": kind.group, "kind": kind.plural, "uid": obj["metadata"]["uid"]}
        return answers.success(details)

    async def _delete_all(
        self, request: Request, user: User, kind: Kind, version: str, namespace: str | None
    ) -> Response:
        matches = answers.selection(request.query_params)
        options = await delete_options_of(request)
        write = write_from_request(request, user)
        storage = self._operations.storage
        found = [stored for stored in storage.all(kind, namespace) if matches(stored.obj)]
        for stored in found:
            try:
                await self._operations.delete(kind, version, key_of(stored.obj), options, write)
            except ApiError as error:
                # Gone on its own meanwhile, which is what was wanted.
                if error.status != 404:
                    raise
        return answers.list_of(kind, version, found, {"resourceVersion": str(storage.version)})


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _found(document: dict[str, object] | None) -> Response:
    if document is None:
        raise unknown_path()
    return JSONResponse(document)


def _unexpected() -> ApiError:
    return ApiError(500, "InternalError", "Internal error occurred; the log of the cluster says more")
