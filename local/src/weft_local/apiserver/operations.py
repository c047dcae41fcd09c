"""What the API does with objects: the way of a write from body to store.

The order of a write is Kubernetes': decode, defaults, mutating webhooks, defaults again, validation, validating
webhooks, store. Knows no HTTP.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any, Final

from weft_common.kube.resource import ObjectKey, key_of

from weft_local.apiserver import patch as patches
from weft_local.apiserver.allocation import account_name, random_suffix, with_cluster_ip, with_service_account
from weft_local.apiserver.apply import note_update, server_side_apply
from weft_local.apiserver.decoding import Object, decoded, identified, with_metadata
from weft_local.apiserver.defaults import apply_defaults
from weft_local.apiserver.deletion import CRDS, Deletions
from weft_local.apiserver.errors import ApiError, already_exists, bad_request, conflict, invalid, not_found
from weft_local.apiserver.kinds import Kind, kind_from_crd
from weft_local.apiserver.registry import Kinds
from weft_local.apiserver.schema import check_shape
from weft_local.apiserver.storage import Storage
from weft_local.apiserver.tokens import User
from weft_local.apiserver.validation import validate, validate_update
from weft_local.apiserver.webhooks import AdmissionRequest, WebhookCaller, wanted_webhooks

APPLY: Final = "application/apply-patch+yaml"
EVENTS_KEPT: Final = 2000
"""Events of the whole cluster; the oldest go first. Kubernetes keeps them for an hour instead."""
_PATCH_ATTEMPTS: Final = 5
_MUTATING: Final = "admissionregistration.k8s.io/mutatingwebhookconfigurations"
_VALIDATING: Final = "admissionregistration.k8s.io/validatingwebhookconfigurations"
_MODIFIED: Final = "the object has been modified; please apply your changes to the latest version and try again"


@dataclass(frozen=True, slots=True)
class Write:
    """How a write was asked for. field_validation: Strict, Warn or Ignore; manager: the field manager's name."""

    user: User
    dry_run: bool = False
    field_validation: str = "Warn"
    manager: str = "unknown"
    force: bool = False
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """The stored object and what the client should be warned of."""

    obj: Object
    warnings: tuple[str, ...] = ()
    created: bool = False


class Operations:
    """The verbs over one store. now: the time; rng: for generated names and addresses."""

    def __init__(
        self,
        storage: Storage,
        webhooks: WebhookCaller,
        service_cidr: IPv4Network,
        reserved_ips: Sequence[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: random.Random | None = None,
    ) -> None:
        self.storage = storage
        self.kinds = Kinds()
        self.deletions = Deletions(storage, self.kinds, now)
        self._webhooks = webhooks
        self._service_cidr = service_cidr
        self._reserved_ips = frozenset(reserved_ips)
        self._now = now
        self._rng = rng or random.Random()

    def get(self, kind: Kind, key: ObjectKey) -> Object:
        """Raises ApiError 404."""
        return self.storage.get(kind, key)

    def uid_of(self, kind_name: str, key: ObjectKey) -> str | None:
        """For token review: the uid of a ServiceAccount, Pod or Secret that exists now."""
        ids = {"ServiceAccount": "/serviceaccounts", "Pod": "/pods", "Secret": "/secrets"}
        found = self.storage.find(self.kinds[ids[kind_name]], key) if kind_name in ids else None
        return None if found is None else str(found["metadata"]["uid"])

    async def create(self, kind: Kind, version: str, namespace: str, body: Object, write: Write) -> Written:
        """POST. Raises ApiError."""
        obj, warnings = decoded(kind, version, namespace, body, write.field_validation)
        metadata = obj["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            obj = with_metadata(obj, name=f"{metadata['generateName'][:58]}{random_suffix(self._rng)}")
        elif not metadata.get("name"):
            raise invalid_name(kind)
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        self._require_namespace(kind, namespace)
        obj = with_metadata(obj, deletionTimestamp=None, deletionGracePeriodSeconds=None, uid=None)
        obj = self._prepared(kind, version, _without_client_status(kind, obj), None)
        obj, hook_warnings = await self._admitted(kind, version, "CREATE", obj, None, write)
        if self.storage.find(kind, key_of(obj)) is not None:
            raise already_exists(kind.plural, kind.group, obj["metadata"]["name"])
        if write.dry_run:
            return Written(obj, (*warnings, *hook_warnings), created=True)
        stored = self.storage.create(kind, obj, self._stamp())
        self._after_write(kind, stored)
        return Written(stored, (*warnings, *hook_warnings), created=True)

    async def update(self, kind: Kind, version: str, key: ObjectKey, body: Object, write: Write) -> Written:
        """PUT of the object or of a subresource."""
        old = self.storage.get(kind, key)
        obj, warnings = decoded(kind, version, key.namespace, body, write.field_validation)
        if obj["metadata"].get("name", key.name) != key.name:
            raise bad_request("the name of the object does not match the name on the URL")
        obj = with_metadata(obj, name=key.name)
        return await self._replace(kind, version, old, self._with_old_fields(old, obj, write), write, warnings)

    async def patch(
        self, kind: Kind, version: str, key: ObjectKey, content_type: str, body: Any, write: Write
    ) -> Written:
        """PATCH in any of the four types. Server-side apply creates what does not exist.

        A patch that names no resourceVersion applies to whatever is current, so one that lost a race is tried again.
        """
        for attempt in range(1, _PATCH_ATTEMPTS + 1):
            old = self.storage.find(kind, key)
            try:
                if content_type == APPLY:
                    return await self._apply(kind, version, key, body, write, old)
                if old is None:
                    raise not_found(kind.plural, kind.group, key.name)
                return await self._patched(kind, version, old, content_type, body, write)
            except ApiError as error:
                moved = old is not None and self.storage.find(kind, key) is not old
                if error.reason != "Conflict" or error.causes or not moved or attempt == _PATCH_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def delete(
        self, kind: Kind, version: str, key: ObjectKey, options: Mapping[str, Any], write: Write
    ) -> Object:
        """DELETE with DeleteOptions. The object as it is then: gone, or marked and waiting."""
        old = self.storage.get(kind, key)
        await self._call_validating(kind, version, "DELETE", None, old, write)
        current = self.storage.get(kind, key)
        return current if write.dry_run else self.deletions.delete(kind, current, options)

    def finalize_namespace(self, name: str, finalizers: list[str]) -> Object:
        """Set a namespace's own finalizers; a namespace being deleted goes with the last of them."""
        kind = self.kinds["/namespaces"]
        old = self.storage.get(kind, ObjectKey("", name))
        stored = self.storage.update(kind, {**old, "spec": {**(old.get("spec") or {}), "finalizers": finalizers}})
        return self.deletions.remove(kind, key_of(stored)) if self.deletions.is_due(kind, stored) else stored

    # -- the parts of a write ------------------------------------------------------------------------------------

    async def _patched(
        self, kind: Kind, version: str, old: Object, content_type: str, body: Any, write: Write
    ) -> Written:
        match content_type:
            case "application/json-patch+json":
                new = patches.json_patch(old, body)
            case "application/merge-patch+json":
                new = patches.merge_patch(old, body)
            case "application/strategic-merge-patch+json" if not kind.is_custom:
                new = patches.strategic_merge(old, body)
            case _:
                shown = "the body of the request was in an unknown format - accepted media types include: "
                accepted = ("application/json-patch+json", "application/merge-patch+json", APPLY)
                raise ApiError(415, "UnsupportedMediaType", f"{shown}{', '.join(accepted)}")
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise bad_request("the patch leaves no object")
        key = key_of(old)
        if new["metadata"].get("name") != key.name:
            raise bad_request("metadata.name: a patch cannot rename an object")
        new = {**new, "apiVersion": kind.api_version(version)} if new.get("apiVersion") == old["apiVersion"] else new
        obj, warnings = decoded(kind, version, key.namespace, new, write.field_validation)
        return await self._replace(kind, version, old, self._with_old_fields(old, obj, write), write, warnings)

    async def _apply(
        self, kind: Kind, version: str, key: ObjectKey, body: Any, write: Write, old: Object | None
    ) -> Written:
        if not isinstance(body, dict):
            raise bad_request("server-side apply takes an object")
        if (body.get("metadata") or {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        config, warnings = _partly_decoded(kind, version, key.namespace, body, write)
        config = with_metadata(config, name=key.name)
        if old is not None and old.get("apiVersion") != config["apiVersion"]:
            old = {**old, "apiVersion": config["apiVersion"]}
        merged = server_side_apply(old, config, write.manager, write.force, self._stamp())
        if old is not None:
            return await self._replace(kind, version, old, merged, write, warnings)
        if write.subresource:
            raise not_found(kind.plural, kind.group, key.name)
        created = await self.create(kind, version, key.namespace, merged, replace(write, field_validation="Ignore"))
        return replace(created, warnings=(*warnings, *created.warnings))

    def _with_old_fields(self, old: Object, obj: Object, write: Write) -> Object:
        """A plain write, with who set what."""
        return obj if write.subresource else note_update(old, obj, write.manager, self._stamp())

    async def _replace(
        self, kind: Kind, version: str, old: Object, obj: Object, write: Write, warnings: tuple[str, ...]
    ) -> Written:
        if write.subresource == "status":
            # The status door changes the status, and of the metadata only what belongs to everybody.
            shared = {**old["metadata"], **_shared_metadata(obj)}
            obj = {**old, "apiVersion": obj["apiVersion"], "status": obj.get("status") or {}, "metadata": shared}
        elif "status" in kind.subresources:
            obj = {name: value for name, value in obj.items() if name != "status"}
            obj = {**obj, "status": old["status"]} if "status" in old else obj
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            obj = with_metadata(obj, **{name: old["metadata"].get(name)})
        if write.subresource != "status":
            obj = self._prepared(kind, version, obj, old)
        obj, hook_warnings = await self._admitted(kind, version, "UPDATE", obj, old, write)
        if causes := validate_update(kind, old, obj):
            raise invalid(kind.kind, kind.group, obj["metadata"]["name"], tuple(causes))
        # Webhooks were awaited; whoever wrote meanwhile wins, and this writer is told.
        key = key_of(old)
        if self.storage.get(kind, key)["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise conflict(kind.plural, kind.group, key.name, _MODIFIED)
        if write.dry_run:
            return Written(obj, (*warnings, *hook_warnings))
        stored = self.storage.update(kind, obj)
        if self.deletions.is_due(kind, stored):
            stored = self.deletions.remove(kind, key)
        else:
            self._after_write(kind, stored)
        return Written(stored, (*warnings, *hook_warnings))

    def _require_namespace(self, kind: Kind, namespace: str) -> None:
        if not kind.namespaced:
            return
        found = self.storage.find(self.kinds["/namespaces"], ObjectKey("", namespace))
        if found is None:
            raise not_found("namespaces", "", namespace)
        if found["metadata"].get("deletionTimestamp"):
            text = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise ApiError(403, "Forbidden", text)

    def _prepared(self, kind: Kind, version: str, obj: Object, old: Object | None) -> Object:
        """With defaults, and on creation with what depends on the rest of the cluster."""
        obj = apply_defaults(kind, obj)
        if schema := kind.schema(version):
            obj = schema.with_defaults(obj)
        if kind.id == "/pods" and old is None:
            obj = {**self._with_account(obj), "status": {"phase": "Pending", "qosClass": "BestEffort"}}
        if kind.id == "/services":
            services = self.storage.all(self.kinds["/services"])
            taken = self._reserved_ips | {stored.obj["spec"].get("clusterIP", "") for stored in services}
            wanted = obj["spec"].get("clusterIP")
            # A reserved address is for the service that asks for it by number.
            taken = taken - self._reserved_ips if wanted else taken
            obj = with_cluster_ip(obj, old, taken, self._service_cidr, self._rng)
        return obj

    def _with_account(self, pod: Object) -> Object:
        key = ObjectKey(pod["metadata"]["namespace"], account_name(pod))
        return with_service_account(pod, self.storage.find(self.kinds["/serviceaccounts"], key), self._rng)

    async def _admitted(
        self, kind: Kind, version: str, operation: str, obj: Object, old: Object | None, write: Write
    ) -> tuple[Object, tuple[str, ...]]:
        """After webhooks, defaults and validation. Raises ApiError."""
        request = self._request(kind, version, operation, obj, old, write)
        hooks = wanted_webhooks(self._configurations(_MUTATING), request, self._namespace_labels(request))
        warnings: list[str] = []
        if hooks:
            mutated, warnings = await self._webhooks.mutate(hooks, request)
            obj = apply_defaults(kind, mutated)
            if kind.id == "/pods" and old is None:
                obj = self._with_account(obj)
        if findings := check_shape(kind.id, obj).causes:
            raise invalid(kind.kind, kind.group, str(obj["metadata"].get("name", "")), findings)
        if causes := validate(kind, obj, version):
            raise invalid(kind.kind, kind.group, str(obj["metadata"].get("name", "")), tuple(causes))
        warnings += await self._call_validating(kind, version, operation, obj, old, write)
        return obj, tuple(warnings)

    async def _call_validating(
        self, kind: Kind, version: str, operation: str, obj: Object | None, old: Object | None, write: Write
    ) -> list[str]:
        request = self._request(kind, version, operation, obj, old, write)
        hooks = wanted_webhooks(self._configurations(_VALIDATING), request, self._namespace_labels(request))
        return await self._webhooks.validate(hooks, request) if hooks else []

    def _request(
        self, kind: Kind, version: str, operation: str, obj: Object | None, old: Object | None, write: Write
    ) -> AdmissionRequest:
        metadata = (obj or old or {})["metadata"]
        return AdmissionRequest(
            operation=operation,
            kind=kind,
            version=version,
            namespace=metadata.get("namespace", ""),
            name=metadata.get("name", ""),
            subresource=write.subresource,
            obj=obj,
            old=old,
            user=write.user.as_json(),
            dry_run=write.dry_run,
        )

    def _configurations(self, kind_id: str) -> list[Object]:
        return [stored.obj for stored in self.storage.all(self.kinds[kind_id])]

    def _namespace_labels(self, request: AdmissionRequest) -> Mapping[str, str] | None:
        if not request.kind.namespaced:
            return None
        found = self.storage.find(self.kinds["/namespaces"], ObjectKey("", request.namespace))
        return {} if found is None else found["metadata"].get("labels") or {}

    def _after_write(self, kind: Kind, stored: Object) -> None:
        if kind.id == CRDS:
            self._define(kind, stored)
        elif kind.id == "/events":
            self._drop_oldest_event(kind)
        self.deletions.written(stored)

    def _drop_oldest_event(self, kind: Kind) -> None:
        if self.storage.count(kind) > EVENTS_KEPT:
            oldest = min(self.storage.all(kind), key=lambda event: event.version)
            self.storage.delete(kind, key_of(oldest.obj))

    def _define(self, kind: Kind, crd: Object) -> None:
        """Serve what a definition defines, and say so in its status."""
        custom = kind_from_crd(crd)
        self.kinds.define(custom)
        if (crd.get("status") or {}).get("conditions"):
            return
        names = crd["spec"]["names"]
        now = self._stamp()
        conditions = [
            {"type": type_, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now}
            for type_, reason in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))
        ]
        accepted = {"plural": custom.plural, "kind": custom.kind, "singular": names.get("singular", custom.singular)}
        status = {"conditions": conditions, "acceptedNames": accepted, "storedVersions": [custom.versions[0]]}
        self.storage.update(kind, {**crd, "status": status})

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def invalid_name(kind: Kind) -> ApiError:
    """For an object with neither name nor generateName."""
    text = "name or generateName is required"
    return ApiError(422, "Invalid", f'{kind.kind} "" is invalid: metadata.name: Required value: {text}')


def _partly_decoded(
    kind: Kind, version: str, namespace: str, body: Object, write: Write
) -> tuple[Object, tuple[str, ...]]:
    """An applied configuration: unknown fields are mistakes; missing ones are not, others may have set them."""
    try:
        return decoded(kind, version, namespace, body, write.field_validation)
    except ApiError as error:
        if error.status != 422 or any(cause.reason != "FieldValueRequired" for cause in error.causes):
            raise
    return identified(kind, version, namespace, body), ()


def _without_client_status(kind: Kind, obj: Object) -> Object:
    """Status has its own door: what a creation says about it does not count."""
    if "status" not in kind.subresources or kind.id == "/namespaces":
        return obj
    plain = {name: value for name, value in obj.items() if name != "status"}
    return plain if kind.is_custom or kind.id == CRDS else {**plain, "status": {}}


def _shared_metadata(obj: Object) -> Object:
    names = ("labels", "annotations", "finalizers", "resourceVersion")
    return {name: obj["metadata"][name] for name in names if name in obj["metadata"]}
