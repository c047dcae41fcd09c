"""What the API does with objects: the way of a write from body to store, deletion and its consequences, reads.

The order of a write is Kubernetes': decode, defaults, mutating webhooks, defaults again, validation, validating webhooks,
store. Knows no HTTP; `server` translates.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import Any, Final

from weft_common.kube.resource import ObjectKey, key_of

from weft_local.apiserver import patch as patches
from weft_local.apiserver.apply import note_update, server_side_apply
from weft_local.apiserver.defaults import apply_defaults, with_api_access
from weft_local.apiserver.errors import ApiError, Cause, already_exists, bad_request, conflict, invalid
from weft_local.apiserver.kinds import BUILT_IN, Kind, kind_from_crd
from weft_local.apiserver.schema import check_shape
from weft_local.apiserver.storage import Object, Storage
from weft_local.apiserver.tokens import User
from weft_local.apiserver.validation import validate, validate_update
from weft_local.apiserver.webhooks import AdmissionRequest, WebhookCaller, wanted_webhooks

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_MUTATING: Final = "admissionregistration.k8s.io/mutatingwebhookconfigurations"
_VALIDATING: Final = "admissionregistration.k8s.io/validatingwebhookconfigurations"
_CRDS: Final = "apiextensions.k8s.io/customresourcedefinitions"


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


class Kinds:
    """The kinds served now, found by group and plural; custom ones come and go with their definitions."""

    def __init__(self) -> None:
        self._by_id: dict[str, Kind] = {kind.id: kind for kind in BUILT_IN}

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._by_id.values()))

    def __getitem__(self, kind_id: str) -> Kind:
        return self._by_id[kind_id]

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        kind = self._by_id.get(f"{group}/{plural}")
        return kind if kind and version in kind.versions else None

    def by_kind(self, api_version: str, name: str) -> Kind | None:
        """The kind of an ownerReference or an object."""
        group = api_version.rpartition("/")[0]
        return next((kind for kind in self._by_id.values() if kind.group == group and kind.kind == name), None)

    def define(self, kind: Kind) -> None:
        self._by_id[kind.id] = kind

    def forget(self, kind_id: str) -> None:
        if (kind := self._by_id.get(kind_id)) and kind.is_custom:
            del self._by_id[kind_id]


class Operations:
    """The verbs over one store. now: the time; rng: for generated names."""

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
        self._webhooks = webhooks
        self._service_cidr = service_cidr
        self._reserved_ips = frozenset(reserved_ips)
        self._now = now
        self._rng = rng or random.Random()
        self._gc_wanted = asyncio.Event()

    # -- reads ---------------------------------------------------------------------------------------------------

    def get(self, kind: Kind, key: ObjectKey) -> Object:
        return self.storage.get(kind, key)

    def uid_of(self, kind_name: str, key: ObjectKey) -> str | None:
        """For token review: the uid of a ServiceAccount or Pod that exists now."""
        kind = self.kinds["/serviceaccounts" if kind_name == "ServiceAccount" else "/pods"]
        found = self.storage.find(kind, key)
        return None if found is None else str(found["metadata"]["uid"])

    # -- writes --------------------------------------------------------------------------------------------------

    async def create(self, kind: Kind, version: str, namespace: str, body: Object, write: Write) -> Written:
        """POST. Raises ApiError."""
        obj, warnings = self._decoded(kind, version, namespace, body, write)
        metadata = obj["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(self._rng.choice(_ALPHABET) for _ in range(5))
            obj = _with_metadata(obj, name=f"{metadata['generateName'][:58]}{suffix}")
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        self._require_namespace(kind, namespace)
        obj = _with_metadata(obj, deletionTimestamp=None, uid=None)
        obj = self._prepared(kind, obj)
        obj, hook_warnings = await self._admitted(kind, version, "CREATE", obj, None, write)
        if self.storage.find(kind, key_of(obj)) is not None:
            raise already_exists(kind.plural, kind.group, obj["metadata"]["name"])
        if write.dry_run:
            return Written(obj, (*warnings, *hook_warnings), created=True)
        stored = self.storage.create(kind, obj, self._stamp())
        self._after_write(kind, stored)
        return Written(stored, (*warnings, *hook_warnings), created=True)

    async def update(self, kind: Kind, version: str, key: ObjectKey, body: Object, write: Write) -> Written:
        """PUT of the object or of its status."""
        old = self.storage.get(kind, key)
        obj, warnings = self._decoded(kind, version, key.namespace, body, write)
        if obj["metadata"].get("name") != key.name:
            raise bad_request("the name of the object does not match the name on the URL")
        return await self._replace(kind, version, old, obj, write, warnings)

    async def patch(
        self, kind: Kind, version: str, key: ObjectKey, content_type: str, body: Any, write: Write
    ) -> Written:
        """PATCH in any of the four types. Server-side apply creates what does not exist."""
        old = self.storage.find(kind, key)
        if content_type == "application/apply-patch+yaml":
            return await self._apply(kind, version, key, body, write, old)
        if old is None:
            self.storage.get(kind, key)
            raise AssertionError("get raises for what find does not find")
        match content_type:
            case "application/json-patch+json":
                new = patches.json_patch(old, body)
            case "application/merge-patch+json":
                new = patches.merge_patch(old, body)
            case "application/strategic-merge-patch+json":
                if kind.is_custom:
                    raise ApiError(415, "UnsupportedMediaType", "custom resources take no strategic merge patch")
                new = patches.strategic_merge(old, body)
            case _:
                raise ApiError(415, "UnsupportedMediaType", f"unknown patch type {content_type}")
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise bad_request("the patch leaves no object")
        obj, warnings = self._decoded(kind, version, key.namespace, new, write)
        return await self._replace(kind, version, old, obj, write, warnings)

    async def _apply(
        self, kind: Kind, version: str, key: ObjectKey, body: Any, write: Write, old: Object | None
    ) -> Written:
        if not isinstance(body, dict):
            raise bad_request("server-side apply takes an object")
        config, warnings = self._decoded(kind, version, key.namespace, body, write)
        config = _with_metadata(config, name=key.name)
        merged = server_side_apply(old, config, write.manager, write.force, self._stamp())
        if old is None:
            created = await self.create(kind, version, key.namespace, merged, replace(write, field_validation="Ignore"))
            if write.dry_run:
                return Written(created.obj, (*warnings, *created.warnings), created=True)
            # The creation notes its manager as an update; ownership by apply is what the next apply looks at.
            managed = merged["metadata"].get("managedFields") or []
            stored = self.storage.update(kind, _with_metadata(created.obj, managedFields=managed))
            return Written(stored, (*warnings, *created.warnings), created=True)
        return await self._replace(kind, version, old, merged, write, warnings)

    async def _replace(
        self, kind: Kind, version: str, old: Object, obj: Object, write: Write, warnings: tuple[str, ...]
    ) -> Written:
        if write.subresource == "status":
            # The status door changes the status, and of the metadata only what belongs to everybody.
            obj = {**old, "status": obj.get("status"), "metadata": {**old["metadata"], **_shared_metadata(obj)}}
        elif "status" in kind.subresources and kind.id != "/pods" and "status" in old:
            obj = {**obj, "status": old["status"]}
        elif kind.id == "/pods":
            obj = {**obj, "status": old.get("status", {})}
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            obj = _with_metadata(obj, **{name: old["metadata"].get(name)})
        if write.subresource != "status":
            obj = self._prepared(kind, obj, old)
        obj, hook_warnings = await self._admitted(kind, version, "UPDATE", obj, old, write)
        if causes := validate_update(kind, old, obj):
            raise invalid(kind.kind, kind.group, obj["metadata"]["name"], tuple(causes))
        if write.dry_run:
            return Written(obj, (*warnings, *hook_warnings))
        obj = note_update(old, obj, write.manager, self._stamp())
        # Webhooks were awaited; whoever wrote meanwhile wins, and this writer is told.
        current = self.storage.get(kind, key_of(old))
        if current["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict(kind.plural, kind.group, key_of(old).name, why)
        stored = self.storage.update(kind, obj)
        metadata = stored["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers") and kind.id != "/pods":
            stored = self._remove(kind, key_of(stored))
        else:
            self._after_write(kind, stored)
        return Written(stored, (*warnings, *hook_warnings))

    # -- deletion ------------------------------------------------------------------------------------------------

    async def delete(
        self, kind: Kind, version: str, key: ObjectKey, options: Mapping[str, Any], write: Write
    ) -> Object:
        """DELETE with DeleteOptions. The object as it is then: gone, or marked and waiting."""
        old = self.storage.get(kind, key)
        wanted = options.get("preconditions") or {}
        for name in ("uid", "resourceVersion"):
            if wanted.get(name) not in (None, old["metadata"].get(name)):
                raise conflict(kind.plural, kind.group, key.name, f"the {name} in the precondition does not match")
        await self._call_validating(kind, version, "DELETE", None, old, write)
        if write.dry_run:
            return old
        policy = options.get("propagationPolicy") or ("Orphan" if options.get("orphanDependents") else "Background")
        if policy == "Orphan":
            self._orphan_dependents(old)
        metadata = old["metadata"]
        grace = self._grace_s(kind, old, options)
        waits = bool(metadata.get("finalizers")) or grace > 0 or kind.id == "/namespaces"
        if not waits:
            return self._remove(kind, key)
        if metadata.get("deletionTimestamp") and metadata.get("deletionGracePeriodSeconds", 0) <= grace:
            return old
        stamp = (self._now() + timedelta(seconds=grace)).strftime("%Y-%m-%dT%H:%M:%SZ")
        marked = _with_metadata(old, deletionTimestamp=stamp, deletionGracePeriodSeconds=grace)
        if kind.id == "/namespaces":
            marked = {**marked, "status": {"phase": "Terminating"}}
        stored = self.storage.update(kind, marked)
        self._after_write(kind, stored)
        return stored

    def _grace_s(self, kind: Kind, obj: Object, options: Mapping[str, Any]) -> int:
        if kind.id != "/pods":
            return 0
        default = obj["spec"].get("terminationGracePeriodSeconds", 30)
        wanted = options.get("gracePeriodSeconds")
        grace = int(default if wanted is None else wanted)
        # A pod that no node has taken has nobody to stop it.
        return grace if obj["spec"].get("nodeName") and obj.get("status", {}).get("phase") not in _FINISHED else 0

    def _remove(self, kind: Kind, key: ObjectKey) -> Object:
        gone = self.storage.delete(kind, key)
        if kind.id == _CRDS:
            self.kinds.forget(f"{gone['spec']['group']}/{gone['spec']['names']['plural']}")
        self._gc_wanted.set()
        return gone

    def _orphan_dependents(self, owner: Object) -> None:
        uid = owner["metadata"]["uid"]
        for kind in self.kinds:
            for stored in list(self.storage.all(kind)):
                references = stored.obj["metadata"].get("ownerReferences") or []
                kept = [reference for reference in references if reference["uid"] != uid]
                if len(kept) != len(references):
                    self.storage.update(kind, _with_metadata(stored.obj, ownerReferences=kept or None))

    async def collect_garbage(self) -> None:
        """Delete what has lost all its owners, for as long as the server runs."""
        write = Write(User("system:serviceaccount:kube-system:generic-garbage-collector"))
        while True:
            await self._gc_wanted.wait()
            self._gc_wanted.clear()
            uids = {stored.obj["metadata"]["uid"] for kind in self.kinds for stored in self.storage.all(kind)}
            for kind in self.kinds:
                for stored in list(self.storage.all(kind)):
                    references = stored.obj["metadata"].get("ownerReferences") or []
                    if references and not any(reference["uid"] in uids for reference in references):
                        await self.delete(kind, kind.versions[0], key_of(stored.obj), {}, write)

    def finish_namespace(self, name: str) -> None:
        """Remove a namespace that is marked and empty; called by its controller through the finalize door."""
        kind = self.kinds["/namespaces"]
        self._remove(kind, ObjectKey("", name))

    # -- the parts of a write ------------------------------------------------------------------------------------

    def _decoded(
        self, kind: Kind, version: str, namespace: str, body: Object, write: Write
    ) -> tuple[Object, tuple[str, ...]]:
        """The body as an object of this kind, and warnings about fields nobody knows."""
        wanted = kind.api_version(version)
        if body.get("apiVersion", wanted) != wanted or body.get("kind", kind.kind) != kind.kind:
            raise bad_request(
                f"the API version in the data ({body.get('apiVersion')}, {body.get('kind')}) "
                f"does not match the expected one ({wanted}, {kind.kind})"
            )
        metadata = dict(body.get("metadata") or {})
        if kind.namespaced:
            if metadata.setdefault("namespace", namespace) != namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
        else:
            metadata.pop("namespace", None)
        obj = {**body, "apiVersion": wanted, "kind": kind.kind, "metadata": metadata}
        findings = check_shape(kind.id, obj)
        if findings.causes:
            if any(cause.reason == "FieldValueTypeInvalid" for cause in findings.causes):
                listed = "; ".join(f"{cause.field}: {cause.message}" for cause in findings.causes)
                raise ApiError(
                    400,
                    "BadRequest",
                    f"{kind.kind} in version {version!r} cannot be handled: {listed}",
                    findings.causes,
                )
            raise invalid(kind.kind, kind.group, str(metadata.get("name", "")), findings.causes)
        warnings: tuple[str, ...] = ()
        if findings.unknown and write.field_validation != "Ignore":
            texts = [f'unknown field "{path}"' for path in findings.unknown]
            if write.field_validation == "Strict":
                unknown = tuple(Cause(path, "FieldValueNotSupported", "unknown field") for path in findings.unknown)
                raise ApiError(400, "BadRequest", f"strict decoding error: {', '.join(texts)}", unknown)
            warnings = tuple(texts)
        for path in findings.unknown:
            _remove_path(obj, path)
        return obj, warnings

    def _require_namespace(self, kind: Kind, namespace: str) -> None:
        if not kind.namespaced:
            return
        found = self.storage.find(self.kinds["/namespaces"], ObjectKey("", namespace))
        if found is None:
            raise ApiError(
                404,
                "NotFound",
                f'namespaces "{namespace}" not found',
                details={"name": namespace, "kind": "namespaces"},
            )
        if found["metadata"].get("deletionTimestamp"):
            raise ApiError(
                403,
                "Forbidden",
                f"unable to create new content in namespace {namespace} because it is being terminated",
            )

    def _prepared(self, kind: Kind, obj: Object, old: Object | None = None) -> Object:
        obj = apply_defaults(kind, obj)
        if kind.id == "/pods" and old is None:
            obj = self._with_service_account(obj)
            obj = {**obj, "status": {"phase": "Pending", "qosClass": "BestEffort"}}
        if kind.id == "/services":
            obj = self._with_cluster_ip(obj, old)
        if kind.is_custom or kind.id == _CRDS or "status" not in kind.subresources or old is not None:
            return obj
        if kind.id not in ("/pods", "/namespaces"):
            obj = {**obj, "status": {}}
        return obj

    def _with_service_account(self, pod: Object) -> Object:
        spec = pod["spec"]
        namespace = pod["metadata"]["namespace"]
        name = spec.get("serviceAccountName") or "default"
        account = self.storage.find(self.kinds["/serviceaccounts"], ObjectKey(namespace, name))
        if account is None:
            shown = pod["metadata"].get("name") or pod["metadata"].get("generateName", "")
            raise ApiError(
                403,
                "Forbidden",
                f'pods "{shown}" is forbidden: error looking up service account {namespace}/{name}: '
                f'serviceaccount "{name}" not found',
            )
        spec = {**spec, "serviceAccountName": name, "serviceAccount": name}
        automount = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        has_volume = any(volume["name"].startswith("kube-api-access-") for volume in spec.get("volumes") or [])
        if automount and not has_volume:
            suffix = "".join(self._rng.choice(_ALPHABET) for _ in range(5))
            spec = with_api_access(spec, f"kube-api-access-{suffix}")
        return {**pod, "spec": spec}

    def _with_cluster_ip(self, service: Object, old: Object | None) -> Object:
        spec = service["spec"]
        if spec["type"] == "ExternalName":
            return service
        ip = spec.get("clusterIP") or (old or {}).get("spec", {}).get("clusterIP")
        if not ip:
            ip = self._free_cluster_ip()
        elif ip != "None" and old is None:
            taken = {stored.obj["spec"].get("clusterIP") for stored in self.storage.all(self.kinds["/services"])}
            if ip in taken:
                cause = Cause(
                    "spec.clusterIPs", "FieldValueInvalid", f"Invalid value: [{ip!r}]: provided IP is already allocated"
                )
                raise invalid("Service", "", service["metadata"]["name"], (cause,))
        return {**service, "spec": {**spec, "clusterIP": ip, "clusterIPs": [ip]}}

    def _free_cluster_ip(self) -> str:
        taken = {stored.obj["spec"].get("clusterIP") for stored in self.storage.all(self.kinds["/services"])}
        size = self._service_cidr.num_addresses
        start = self._rng.randrange(size)
        for offset in range(size):
            # The first addresses stay free for services that ask for theirs, such as the API server's own.
            index = (start + offset) % size
            ip = str(self._service_cidr[index])
            if 16 <= index < size - 1 and ip not in taken and ip not in self._reserved_ips:
                return ip
        raise ApiError(500, "InternalError", f"no free address in the service network {self._service_cidr}")

    async def _admitted(
        self, kind: Kind, version: str, operation: str, obj: Object, old: Object | None, write: Write
    ) -> tuple[Object, tuple[str, ...]]:
        """After webhooks, defaults and validation. Raises ApiError."""
        request = self._request(kind, version, operation, obj, old, write)
        hooks = wanted_webhooks(self._configurations(_MUTATING), request, self._namespace_labels(request))
        warnings: list[str] = []
        if hooks:
            mutated, warnings = await self._webhooks.mutate(
                hooks, request, lambda changed: replace(request, obj=changed)
            )
            if mutated is None:
                raise AssertionError("mutation of an object gives an object")
            obj = apply_defaults(kind, mutated)
            if kind.id == "/pods" and old is None:
                obj = self._with_service_account(obj)
            findings = check_shape(kind.id, obj)
            if findings.causes:
                raise invalid(kind.kind, kind.group, str(obj["metadata"].get("name", "")), findings.causes)
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
        if kind.id == _CRDS:
            self._define(kind, stored)
        if stored["metadata"].get("ownerReferences"):
            self._gc_wanted.set()

    def _define(self, kind: Kind, crd: Object) -> None:
        try:
            custom = kind_from_crd(crd)
        except (KeyError, IndexError, TypeError):
            return
        if not custom.versions:
            return
        self.kinds.define(custom)
        names = crd["spec"]["names"]
        now = self._stamp()
        conditions = [
            {"type": type_, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now}
            for type_, reason in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))
        ]
        if not (crd.get("status") or {}).get("conditions"):
            accepted = {
                "plural": custom.plural,
                "kind": custom.kind,
                "singular": names.get("singular", custom.singular),
            }
            status = {"conditions": conditions, "acceptedNames": accepted, "storedVersions": [custom.versions[0]]}
            self.storage.update(kind, {**crd, "status": status})

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


_FINISHED: Final = ("Succeeded", "Failed")


def _with_metadata(obj: Object, **fields: Any) -> Object:
    """A copy with these metadata fields; None removes."""
    metadata = {name: value for name, value in {**obj["metadata"], **fields}.items() if value is not None}
    return {**obj, "metadata": metadata}


def _shared_metadata(obj: Object) -> Object:
    names = ("labels", "annotations", "finalizers", "resourceVersion", "managedFields")
    return {name: obj["metadata"][name] for name in names if name in obj["metadata"]}


def _remove_path(obj: Object, path: str) -> None:
    """Drop an unknown field in place; the containers on the way are the decoded body's own."""
    current: Any = obj
    parts = path.replace("[", ".[").split(".")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part.startswith("["):
            current = current[int(part[1:-1])]
        elif last:
            current.pop(part, None)
        elif isinstance(current, dict) and part in current:
            current = current[part]
        else:
            # A key that itself holds dots: find it whole.
            rest = ".".join(parts[index:])
            if isinstance(current, dict):
                current.pop(rest, None)
            return
