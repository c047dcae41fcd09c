"""Writes manifests into an API server that exists only in memory, to learn what the real one would say.

The same operations, validation and defaults as in the cluster, over an empty store; no sockets, no pods, no webhooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Final

from weft_common.kube.resource import ObjectKey

from weft_local.apiserver.errors import ApiError, Cause
from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.operations import Operations, Write
from weft_local.apiserver.schema import check_shape
from weft_local.apiserver.storage import Storage
from weft_local.apiserver.tokens import User
from weft_local.apiserver.webhooks import WebhookCaller

_WRITE: Final = Write(User("weft-local", ()), field_validation="Strict", manager="weft-local", force=True)
_APPLY: Final = "application/apply-patch+yaml"
UNKNOWN_FIELD: Final = "FieldUnknown"
START: Final = ("default", "kube-system")


@dataclass(frozen=True, slots=True)
class Refusal:
    """causes: fields and what is wrong with them; message alone when no field is known."""

    message: str
    causes: tuple[Cause, ...]


class Rehearsal:
    """seed: objects that the cluster has already, such as namespaces and definitions of custom kinds."""

    def __init__(self, service_cidr: IPv4Network) -> None:
        self._operations = Operations(Storage(), WebhookCaller(_no_webhooks), service_cidr)

    async def seed(self, objects: Iterable[dict[str, Any]]) -> None:
        """Take in what is there before the manifests."""
        for name in START:
            await self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "")
        for obj in objects:
            kind = self.kind_of(str(obj.get("apiVersion")), str(obj.get("kind")))
            if kind is not None:
                await self.apply(_without_server_fields(obj), str(obj["metadata"].get("namespace", "")))

    def kind_of(self, api_version: str, kind: str) -> Kind | None:
        """The kind as served, None when it is unknown or not in this version."""
        found = self._operations.kinds.by_kind(api_version, kind)
        version = api_version.rpartition("/")[2]
        return found if found is not None and version in found.versions else None

    def has_namespace(self, name: str) -> bool:
        """Whether a namespace is there by now."""
        kinds = self._operations.kinds
        return self._operations.storage.find(kinds["/namespaces"], ObjectKey("", name)) is not None

    def known_kinds(self) -> Sequence[Kind]:
        return list(self._operations.kinds)

    async def apply(self, obj: dict[str, Any], namespace: str) -> Refusal | None:
        """Write one object of a known kind. None when it was taken."""
        kind = self.kind_of(obj["apiVersion"], obj["kind"])
        if kind is None:
            raise ValueError(f"unknown kind {obj['kind']}")
        version = obj["apiVersion"].rpartition("/")[2]
        key = ObjectKey(namespace if kind.namespaced else "", str(obj["metadata"]["name"]))
        findings = check_shape(kind.id, obj)
        if findings.causes or findings.unknown:
            # The API stops at the first sort of mistake; a person wants them all.
            unknown = (Cause(path, UNKNOWN_FIELD, "unknown field") for path in findings.unknown)
            return Refusal("wrong fields", (*findings.causes, *unknown))
        try:
            await self._operations.patch(kind, version, key, _APPLY, obj, _WRITE)
        except ApiError as error:
            return Refusal(error.message, error.causes)
        if kind.id == "/namespaces":
            # The namespace controller's part: pods are refused in a namespace without it.
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            await self.apply(account, key.name)
        return None


def _without_server_fields(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = obj["metadata"]
    kept = {name: metadata[name] for name in ("name", "namespace", "labels", "annotations") if name in metadata}
    return {**{name: value for name, value in obj.items() if name != "status"}, "metadata": kept}


async def _no_webhooks(namespace: str, name: str, port: int) -> tuple[str, int]:
    raise LookupError(f"no webhook is called in a rehearsal: {namespace}/{name}:{port}")
