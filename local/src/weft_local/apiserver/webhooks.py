"""Admission webhooks: which of them want a request, what they are sent, and what their answer means.

Selection and the reading of answers are pure; `call` is the one place that opens a connection. Webhooks of one
configuration run in its order, configurations in order of their names, as Kubernetes does. Reinvocation is not done.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from weft_common.log import get_logger

from weft_local.apiserver import patch as patches
from weft_local.apiserver.errors import ApiError
from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.selectors import matches_labels, selector_from_object

DEFAULT_TIMEOUT_S: Final = 10
_log = get_logger(__name__)

# (namespace, name, port) of a Service -> where to connect.
ResolveService = Callable[[str, str, int], Awaitable[tuple[str, int]]]


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """One write on its way in. operation: CREATE, UPDATE, DELETE or CONNECT. obj is None for DELETE."""

    operation: str
    kind: Kind
    version: str
    namespace: str
    name: str
    subresource: str
    obj: dict[str, Any] | None
    old: dict[str, Any] | None
    user: Mapping[str, Any]
    dry_run: bool

    def review(self, uid: str) -> dict[str, Any]:
        """The AdmissionReview that is sent."""
        kind = {"group": self.kind.group, "version": self.version, "kind": self.kind.kind}
        resource = {"group": self.kind.group, "version": self.version, "resource": self.kind.plural}
        request: dict[str, Any] = {
            "uid": uid,
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": self.name,
            "operation": self.operation,
            "userInfo": dict(self.user),
            "object": self.obj,
            "oldObject": self.old,
            "dryRun": self.dry_run,
            "options": None,
        }
        if self.namespace:
            request["namespace"] = self.namespace
        if self.subresource:
            request["subResource"] = request["requestSubResource"] = self.subresource
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def wanted_webhooks(
    configurations: Iterable[Mapping[str, Any]],
    request: AdmissionRequest,
    namespace_labels: Mapping[str, str] | None,
) -> list[dict[str, Any]]:
    """The webhooks this request must pass, in order. namespace_labels: None for cluster-scoped objects."""
    if request.kind.group == "admissionregistration.k8s.io":
        # A webhook that guards webhook configurations could lock everybody out; Kubernetes exempts them too.
        return []
    ordered = sorted(configurations, key=lambda configuration: str(configuration["metadata"]["name"]))
    return [
        webhook
        for configuration in ordered
        for webhook in configuration.get("webhooks") or []
        if _matches(webhook, request, namespace_labels)
    ]


def _matches(webhook: Mapping[str, Any], request: AdmissionRequest, labels: Mapping[str, str] | None) -> bool:
    if not any(_rule_matches(rule, request) for rule in webhook.get("rules") or []):
        return False
    if request.kind.plural == "namespaces" and not request.kind.group:
        labels = ((request.obj or request.old or {}).get("metadata") or {}).get("labels") or {}
    if labels is not None and not matches_labels(selector_from_object(webhook.get("namespaceSelector")), labels):
        return False
    selector = selector_from_object(webhook.get("objectSelector"))
    return not selector or any(
        matches_labels(selector, (obj.get("metadata") or {}).get("labels"))
        for obj in (request.obj, request.old)
        if obj is not None
    )


def _rule_matches(rule: Mapping[str, Any], request: AdmissionRequest) -> bool:
    def among(values: Any, wanted: str) -> bool:
        return "*" in (values or []) or wanted in (values or [])

    scope = "Namespaced" if request.namespace and request.kind.plural != "namespaces" else "Cluster"
    plural, sub = request.kind.plural, request.subresource
    resources = {f"{plural}/{sub}", f"*/{sub}", f"{plural}/*", "*/*"} if sub else {plural, "*", "*/*"}
    return (
        among(rule.get("operations"), request.operation)
        and among(rule.get("apiGroups"), request.kind.group)
        and among(rule.get("apiVersions"), request.version)
        and bool(resources & set(rule.get("resources") or []))
        and rule.get("scope", "*") in ("*", scope)
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one webhook said. patch: JSON patch operations."""

    allowed: bool
    patch: list[dict[str, Any]]
    warnings: tuple[str, ...]
    status: Mapping[str, Any]


class WebhookFailed(Exception):
    """A webhook gave no usable answer; its failurePolicy decides."""


def read_verdict(answer: Any, uid: str) -> Verdict:
    """Raises WebhookFailed for anything but an AdmissionReview that answers this request."""
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        raise WebhookFailed("the answer has no response")
    if response.get("uid") != uid:
        raise WebhookFailed(f"expected response.uid={uid!r}, got {response.get('uid')!r}")
    operations: list[dict[str, Any]] = []
    if encoded := response.get("patch"):
        if response.get("patchType") != "JSONPatch":
            raise WebhookFailed(f"unsupported patchType {response.get('patchType')!r}")
        try:
            operations = json.loads(base64.b64decode(encoded))
        except ValueError as error:
            raise WebhookFailed(f"the patch is not base64 of JSON: {error}") from error
    warnings = tuple(str(warning) for warning in response.get("warnings") or ())
    return Verdict(bool(response.get("allowed")), operations, warnings, response.get("status") or {})


def denial(webhook_name: str, status: Mapping[str, Any]) -> ApiError:
    """The refusal a client sees, worded as Kubernetes words it."""
    said = status.get("message") or status.get("reason")
    shown = f"admission webhook {webhook_name!r} denied the request".replace("'", '"')
    code = int(status.get("code") or 403)
    reason = str(status.get("reason") or {403: "Forbidden", 400: "BadRequest", 422: "Invalid"}.get(code, "Forbidden"))
    return ApiError(
        code if code >= 400 else 403, reason, f"{shown}: {said}" if said else f"{shown} without explanation"
    )


def _patched(obj: dict[str, Any], operations: list[dict[str, Any]], webhook: str) -> dict[str, Any]:
    try:
        result = patches.json_patch(obj, operations)
    except ApiError as error:
        text = f'Internal error occurred: the patch of webhook "{webhook}" does not apply: {error.message}'
        raise ApiError(500, "InternalError", text) from error
    if not isinstance(result, dict) or not isinstance(result.get("metadata"), dict):
        raise ApiError(500, "InternalError", f'Internal error occurred: webhook "{webhook}" leaves no object')
    return result


class WebhookCaller:
    """Calls webhooks over HTTPS. One session; use as `async with`."""

    def __init__(self, resolve: ResolveService) -> None:
        self._resolve = resolve
        self._session: aiohttp.ClientSession | None = None
        # Building a TLS context parses the bundle; there are a handful of bundles and many admissions.
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def __aenter__(self) -> WebhookCaller:
        # No kept-alive connections: a Service's pods come and go, and an old connection would pin one of them.
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def mutate(
        self, webhooks: list[dict[str, Any]], request: AdmissionRequest
    ) -> tuple[dict[str, Any], list[str]]:
        """The object after every webhook, and their warnings. Raises ApiError."""
        if request.obj is None:
            raise ValueError("a deletion has no object to change")
        obj = request.obj
        warnings: list[str] = []
        for webhook in webhooks:
            verdict = await self._ask(webhook, request)
            if verdict is None:
                continue
            warnings += verdict.warnings
            if verdict.patch:
                obj = _patched(obj, verdict.patch, str(webhook.get("name", "")))
                request = replace(request, obj=obj)
        return obj, warnings

    async def validate(self, webhooks: list[dict[str, Any]], request: AdmissionRequest) -> list[str]:
        """Ask all at once; their warnings. Raises the first refusal in their order."""
        answers = await asyncio.gather(*(self._ask(webhook, request) for webhook in webhooks), return_exceptions=True)
        warnings: list[str] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            if answer is not None:
                warnings += answer.warnings
        return warnings

    async def _ask(self, webhook: dict[str, Any], request: AdmissionRequest) -> Verdict | None:
        """None when the webhook failed and may be ignored. Raises ApiError."""
        name = str(webhook.get("name", ""))
        uid = str(uuid.uuid4())
        try:
            verdict = read_verdict(await self._post(webhook, request.review(uid)), uid)
        except (WebhookFailed, aiohttp.ClientError, OSError, LookupError, ValueError) as error:
            why = str(error) or ("timed out" if isinstance(error, TimeoutError) else type(error).__name__)
            if webhook.get("failurePolicy", "Fail") == "Ignore":
                _log.warning("admission webhook failed and is ignored", webhook=name, error=why)
                return None
            raise ApiError(
                500, "InternalError", f'Internal error occurred: failed calling webhook "{name}": {why}'
            ) from error
        if not verdict.allowed:
            raise denial(name, verdict.status)
        return verdict

    async def _post(self, webhook: Mapping[str, Any], review: dict[str, Any]) -> Any:
        if self._session is None:
            raise RuntimeError("WebhookCaller used outside its async with block")
        timeout_s = int(webhook.get("timeoutSeconds") or DEFAULT_TIMEOUT_S)
        config = webhook.get("clientConfig") or {}
        async with asyncio.timeout(timeout_s):
            url, server_name = await self._target(config)
            async with self._session.post(
                url,
                data=json.dumps(review).encode(),
                headers={"content-type": "application/json", "host": server_name},
                ssl=self._context(str(config.get("caBundle") or "")),
                server_hostname=server_name,
            ) as response:
                text = await response.read()
                if response.status != 200:
                    raise WebhookFailed(f"HTTP {response.status}: {text[:200].decode(errors='replace')}")
                return json.loads(text)

    async def _target(self, config: Mapping[str, Any]) -> tuple[str, str]:
        """URL and the name its certificate must carry."""
        if url := config.get("url"):
            return str(url), urlsplit(str(url)).hostname or ""
        service = config.get("service")
        if not service:
            raise WebhookFailed("clientConfig has neither url nor service")
        namespace, name = str(service["namespace"]), str(service["name"])
        address, port = await self._resolve(namespace, name, int(service.get("port") or 443))
        return f"https://{address}:{port}{service.get('path') or '/'}", f"{name}.{namespace}.svc"

    def _context(self, ca_bundle: str) -> ssl.SSLContext:
        if ca_bundle not in self._contexts:
            pem = base64.b64decode(ca_bundle).decode() if ca_bundle else None
            self._contexts[ca_bundle] = ssl.create_default_context(cadata=pem)
        return self._contexts[ca_bundle]
