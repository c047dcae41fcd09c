"""The doors below an object: status, scale, logs, tokens, eviction, binding, finalizers, and streams into pods."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.websockets import WebSocket
from weft_common.kube.resource import ObjectKey

from weft_local.apiserver import answers
from weft_local.apiserver.decoding import Object
from weft_local.apiserver.errors import ApiError, bad_request, conflict
from weft_local.apiserver.forwarding import TUNNEL_PROTOCOL, TunnelledForward
from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.operations import Operations
from weft_local.apiserver.requests import (
    Target,
    body_of,
    int_of,
    object_body_of,
    target_from_path,
    unknown_path,
    write_from_request,
    wrong_method,
)
from weft_local.apiserver.reviews import issue_token
from weft_local.apiserver.runtime import PodRuntime, RuntimeRefused
from weft_local.apiserver.streams import ExecOptions, serve_attach, serve_exec, serve_port_forward
from weft_local.apiserver.tokens import TokenAuthority, User

_MERGE = "application/merge-patch+json"


class HasRuntime(Protocol):
    """Who runs the pods; None while there is no node yet."""

    runtime: PodRuntime | None


class Subresources:
    """Answers for everything with a third part after its kind."""

    def __init__(self, operations: Operations, tokens: TokenAuthority, node: HasRuntime) -> None:
        self._operations = operations
        self._tokens = tokens
        self._node = node

    async def respond(self, request: Request, user: User, kind: Kind, version: str, target: Target) -> Response:
        """Raises ApiError."""
        key = ObjectKey(target.namespace or "", target.name)
        if target.subresource not in kind.subresources:
            raise unknown_path()
        match kind.id, target.subresource:
            case "/pods", "log":
                return await self._log(request, key)
            case "/pods", "eviction":
                options = (await object_body_of(request)).get("deleteOptions") or {}
                await self._operations.delete(kind, version, key, options, write_from_request(request, user))
                return answers.success(status_code=201)
            case "/pods", "binding":
                return await self._bind(request, user, kind, version, key)
            case "/serviceaccounts", "token":
                return issue_token(self._operations, self._tokens, key, await object_body_of(request))
            case "/pods", "exec" | "attach" | "portforward":
                # kubectl comes here when its WebSocket was refused, and shows this answer rather than that one.
                self._container(key, request.query_params.get("container", ""))
                raise bad_request(f"{target.subresource} needs a WebSocket; kubectl has used them since 1.31")
            case "/namespaces", "finalize":
                spec = (await object_body_of(request)).get("spec") or {}
                finalizers = [str(finalizer) for finalizer in spec.get("finalizers") or []]
                return answers.one(request, kind, version, self._operations.finalize_namespace(key.name, finalizers))
            case _, "scale":
                return await self._scale(request, user, kind, version, key)
            case _:
                return await self._status(request, user, kind, version, key, target.subresource)

    async def _status(
        self, request: Request, user: User, kind: Kind, version: str, key: ObjectKey, subresource: str
    ) -> Response:
        write = write_from_request(request, user, subresource)
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
            case _:
                raise wrong_method()
        return answers.after_write(request, kind, version, written)

    async def _scale(self, request: Request, user: User, kind: Kind, version: str, key: ObjectKey) -> Response:
        if request.method == "GET":
            return JSONResponse(_scale_of(self._operations.get(kind, key)))
        body = await body_of(request)
        replicas = _wanted_replicas(body)
        patch: Object = {"spec": {"replicas": replicas}}
        if isinstance(body, dict) and (wanted := (body.get("metadata") or {}).get("resourceVersion")):
            patch["metadata"] = {"resourceVersion": wanted}
        write = write_from_request(request, user)
        written = await self._operations.patch(kind, version, key, _MERGE, patch, write)
        return JSONResponse(_scale_of(written.obj))

    async def _bind(self, request: Request, user: User, kind: Kind, version: str, key: ObjectKey) -> Response:
        node = str(((await object_body_of(request)).get("target") or {}).get("name", ""))
        pod = self._operations.get(kind, key)
        if not node:
            raise bad_request("target.name: Required value")
        if pod["spec"].get("nodeName"):
            raise conflict("pods/binding", "", key.name, f"pod {key.name} is already assigned to a node")
        write = write_from_request(request, user)
        await self._operations.patch(kind, version, key, _MERGE, {"spec": {"nodeName": node}}, write)
        return answers.success(status_code=201)

    async def _log(self, request: Request, key: ObjectKey) -> Response:
        query = request.query_params
        container = self._container(key, query.get("container", ""))
        tail, since = query.get("tailLines"), query.get("sinceSeconds")
        runtime = self._runtime()
        # The first chunk is asked for now, so that a container that never ran is an HTTP error and not an empty log.
        try:
            chunks = runtime.logs(
                key.namespace,
                key.name,
                container,
                follow=query.get("follow") == "true",
                tail_lines=int_of(tail, "tailLines") if tail else None,
                since_s=float(int_of(since, "sinceSeconds")) if since else None,
                timestamps=query.get("timestamps") == "true",
                previous=query.get("previous") == "true",
            )
            first = await anext(aiter(chunks), b"")
        except RuntimeRefused as error:
            raise bad_request(str(error)) from error
        return StreamingResponse(_resumed(first, chunks), media_type="text/plain")

    async def stream(self, websocket: WebSocket, parts: list[str]) -> None:
        """Serve exec, attach or port-forward. parts: of the whole path. Raises ApiError before the upgrade."""
        if len(parts) < 3 or parts[0] != "api":
            raise unknown_path()
        target = target_from_path(parts[2:])
        if target.plural != "pods":
            raise unknown_path()
        key = ObjectKey(target.namespace or "", target.name)
        query = parse_qs(websocket.url.query, keep_blank_values=True)
        runtime = self._runtime()
        container = self._container(key, query.get("container", [""])[0])
        match target.subresource:
            case "exec":
                options = ExecOptions(
                    container, tuple(query.get("command", [])), _is_set(query, "stdin"), _is_set(query, "tty")
                )
                if not options.command:
                    raise bad_request("you must specify at least 1 command for the container")
                await serve_exec(websocket, runtime, key.namespace, key.name, options)
            case "attach":
                await serve_attach(websocket, lambda: _new_lines(runtime, key, container))
            case "portforward" if TUNNEL_PROTOCOL in (websocket.scope.get("subprotocols") or []):
                await TunnelledForward(websocket, runtime, key.namespace, key.name).serve()
            case "portforward":
                ports = tuple(int_of(port, "ports") for value in query.get("ports", []) for port in value.split(","))
                await serve_port_forward(websocket, runtime, key.namespace, key.name, ports)
            case _:
                raise unknown_path()

    def _runtime(self) -> PodRuntime:
        if self._node.runtime is None:
            raise ApiError(503, "ServiceUnavailable", "the node has not started yet; try again in a moment")
        return self._node.runtime

    def _container(self, key: ObjectKey, wanted: str) -> str:
        """The container meant: the named one, the annotated default, or the first. Raises ApiError 400, 404."""
        pod = self._operations.get(self._operations.kinds["/pods"], key)
        names = [one["name"] for field in ("containers", "initContainers") for one in pod["spec"].get(field) or []]
        if wanted and wanted not in names:
            raise bad_request(f"container {wanted} is not valid for pod {key.name}: it has {', '.join(names)}")
        default = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
        return wanted or (str(default) if default in names else names[0])


def _scale_of(obj: Object) -> Object:
    labels = (obj["spec"].get("selector") or {}).get("matchLabels") or {}
    copied = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: obj["metadata"][name] for name in copied if name in obj["metadata"]},
        "spec": {"replicas": obj["spec"].get("replicas", 0)},
        "status": {
            "replicas": (obj.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{name}={value}" for name, value in sorted(labels.items())),
        },
    }


def _wanted_replicas(body: Any) -> int:
    """Of a Scale, a merge patch of one, or a JSON patch that sets /spec/replicas. Raises ApiError 400."""
    replicas: Any = None
    if isinstance(body, dict):
        replicas = (body.get("spec") or {}).get("replicas", 0 if body.get("kind") == "Scale" else None)
    elif isinstance(body, list):
        operations = (one for one in body if isinstance(one, dict) and one.get("path") == "/spec/replicas")
        replicas = next((one.get("value") for one in operations if one.get("op") in ("add", "replace")), None)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        raise bad_request("spec.replicas: expected an integer of at least 0")
    return replicas


def _is_set(query: dict[str, list[str]], name: str) -> bool:
    return query.get(name, [""])[0] in ("true", "1")


def _new_lines(runtime: PodRuntime, key: ObjectKey, container: str) -> AsyncIterator[bytes]:
    return runtime.logs(
        key.namespace,
        key.name,
        container,
        follow=True,
        tail_lines=0,
        since_s=None,
        timestamps=False,
        previous=False,
    )


async def _resumed(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for chunk in chunks:
        yield chunk
