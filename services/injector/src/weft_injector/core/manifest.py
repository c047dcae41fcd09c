"""Manifests as files hold them: which kinds carry a pod template, and injecting or uninjecting one document in place.

Works on mutable mappings and lists, so that the types of a YAML library (with comments and order) pass through. Each
document gets one report; nothing is printed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from weft_injector.core.decision import SkipReason
from weft_injector.core.inject import Mesh, inject_pod
from weft_injector.core.json_value import Malformed
from weft_injector.core.names import (
    DEBUG_CONTAINER,
    IDENTITY_VOLUME,
    INIT_CONTAINER,
    INJECT,
    INJECT_DISABLED,
    INJECT_ENABLED,
    PODINFO_VOLUME,
    PROXY_CONTAINER,
    TOKEN_VOLUME,
    VALIDATOR_CONTAINER,
)
from weft_injector.core.owner import Owner
from weft_injector.core.patch import Add
from weft_injector.core.pod import Pod, pod_from_json

# The document's own maps, changed in place; `Any` because a YAML library decides their types.
Document: TypeAlias = MutableMapping[str, Any]

TEMPLATE_PATHS: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_OUR_CONTAINERS: Final = frozenset({PROXY_CONTAINER, INIT_CONTAINER, VALIDATOR_CONTAINER, DEBUG_CONTAINER})
_OUR_VOLUMES: Final = frozenset({IDENTITY_VOLUME, TOKEN_VOLUME, PODINFO_VOLUME, "linkerd-proxy-init-xtables-lock"})
_FOREIGN_SIDECARS: Final = frozenset({"istio-proxy", "istio-init"})
_MARK_PREFIX: Final = "linkerd.io/"


class Verb(Enum):
    """What happened to a document."""

    INJECTED = "injected"
    ANNOTATED = "annotated"
    UNINJECTED = "uninjected"
    SKIPPED = "skipped"


class Warned(Enum):
    """Why a document deserves a warning. value: the sentence, before the list of documents."""

    HOST_NETWORK = "hostNetwork: pods use the host's network, where the proxy cannot stand in between"
    FOREIGN_SIDECAR = "sidecar: known third-party sidecar already present"
    DISABLED = f'inject: the annotation "{INJECT}: {INJECT_DISABLED}" stands in the way'
    UDP = "udp: ports that the proxy leaves alone, because they are UDP"


@dataclass(frozen=True, slots=True)
class Report:
    """One document. kind: lower case. notes: annotations left aside."""

    kind: str
    name: str
    verb: Verb
    warned: tuple[Warned, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}" {self.verb.value}'


def documents_in(document: Document) -> Iterator[Document]:
    """The document itself, or the items of a List, nested ones too. Raises Malformed."""
    if not str(document.get("kind", "")).endswith("List") or "items" not in document:
        yield document
        return
    items = document["items"]
    if not isinstance(items, MutableSequence):
        raise Malformed("items", "a list", items)
    for position, item in enumerate(items):
        if not isinstance(item, MutableMapping):
            raise Malformed(f"items[{position}]", "an object", item)
        yield from documents_in(item)


def inject_document(document: Document, annotations: Mapping[str, str], mesh: Mesh | None) -> Report:
    """Ask for the proxy by annotation, or with a mesh add the proxy itself. annotations: of the command's flags.

    Raises Malformed, BadSetting, BadValues.
    """
    kind, name = _identity(document)
    asked = {INJECT: INJECT_ENABLED, **annotations}
    if kind == "Namespace":
        _annotate(document, asked)
        return Report("namespace", name, Verb.ANNOTATED)
    template = _template(document, kind)
    if template is None:
        return Report(kind.lower(), name, Verb.SKIPPED)
    _remove(template)
    pod = pod_from_json(template)
    warned = tuple(_warnings(pod))
    blocking = {Warned.HOST_NETWORK, Warned.FOREIGN_SIDECAR, Warned.DISABLED}
    if blocking & set(warned):
        return Report(kind.lower(), name, Verb.SKIPPED, warned)
    if mesh is None:
        _annotate(template, asked)
        return Report(kind.lower(), name, Verb.INJECTED, warned)
    # The flags are the pod's own annotations; the mark that the webhook looks for stays out, the proxy is here already.
    _annotate(template, annotations)
    pod = pod_from_json(template)
    owner = Owner(kind.lower(), name)
    outcome = inject_pod(
        mesh, pod, str(document.get("metadata", {}).get("namespace") or ""), {INJECT: INJECT_ENABLED}, owner
    )
    if SkipReason.NO_TOKEN in outcome.decision.reasons:
        return Report(kind.lower(), name, Verb.SKIPPED, warned)
    _apply(template, outcome.ops)
    return Report(kind.lower(), name, Verb.INJECTED, warned, outcome.warnings)


def uninject_document(document: Document) -> Report:
    """Take out what injection put in, webhook annotation included. Raises Malformed."""
    kind, name = _identity(document)
    template = document if kind == "Namespace" else _template(document, kind)
    if template is None:
        return Report(kind.lower(), name, Verb.SKIPPED)
    changed = _remove(template)
    changed |= _drop_keys(template, lambda key, value: key == INJECT and value != INJECT_DISABLED)
    return Report(kind.lower(), name, Verb.UNINJECTED if changed else Verb.SKIPPED)


def _identity(document: Document) -> tuple[str, str]:
    metadata = document.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise Malformed("metadata", "an object", metadata)
    return str(document.get("kind", "")), str(metadata.get("name") or metadata.get("generateName") or "")


def _template(document: Document, kind: str) -> Document | None:
    if kind not in TEMPLATE_PATHS:
        return None
    found: Any = document
    walked = []
    for key in TEMPLATE_PATHS[kind]:
        walked.append(key)
        found = found.get(key)
        if not isinstance(found, MutableMapping):
            raise Malformed(".".join(walked), "an object", found)
    if not isinstance(found.get("spec"), MutableMapping):
        raise Malformed(".".join([*walked, "spec"]), "an object", found.get("spec"))
    return found  # type: ignore[no-any-return]  # a mapping, as the loop checked


def _warnings(pod: Pod) -> Iterator[Warned]:
    if pod.host_network:
        yield Warned.HOST_NETWORK
    if any(container.name in _FOREIGN_SIDECARS for container in pod.all_containers()):
        yield Warned.FOREIGN_SIDECAR
    if pod.annotations.get(INJECT) == INJECT_DISABLED:
        yield Warned.DISABLED
    if any(port.protocol == "UDP" for container in pod.all_containers() for port in container.ports):
        yield Warned.UDP


def _annotate(template: Document, annotations: Mapping[str, str]) -> None:
    if not annotations:
        return
    metadata = template.get("metadata")
    if metadata is None:
        metadata = {}
        template["metadata"] = metadata
    if not metadata.get("annotations"):
        metadata["annotations"] = {}
    metadata["annotations"].update(annotations)


def _remove(template: Document) -> bool:
    """Containers, volumes and marks of an earlier injection. Whether there was anything."""
    changed = False
    spec = template.get("spec")
    if isinstance(spec, MutableMapping):
        for key, ours in (
            ("containers", _OUR_CONTAINERS),
            ("initContainers", _OUR_CONTAINERS),
            ("volumes", _OUR_VOLUMES),
        ):
            changed |= _drop_items(spec, key, ours)
    return _drop_keys(template, lambda key, _: key.startswith(_MARK_PREFIX) and key != INJECT) or changed


def _drop_items(spec: Document, key: str, ours: frozenset[str]) -> bool:
    items = spec.get(key)
    if not isinstance(items, MutableSequence):
        return False
    doomed = [i for i, item in enumerate(items) if isinstance(item, Mapping) and item.get("name") in ours]
    for position in reversed(doomed):
        del items[position]
    if doomed and not items:
        del spec[key]
    return bool(doomed)


def _drop_keys(template: Document, doomed: Callable[[str, object], bool]) -> bool:
    changed = False
    metadata = template.get("metadata")
    if not isinstance(metadata, MutableMapping):
        return False
    for section in ("annotations", "labels"):
        entries = metadata.get(section)
        if not isinstance(entries, MutableMapping):
            continue
        for key in [key for key, value in entries.items() if doomed(str(key), value)]:
            del entries[key]
            changed = True
            if not entries:
                del metadata[section]
    return changed


def _apply(template: Document, ops: tuple[Add, ...]) -> None:
    """RFC 6902 `add`, in place."""
    for op in ops:
        *parents, last = [token.replace("~1", "/").replace("~0", "~") for token in op.path.split("/")[1:]]
        target: Any = template
        for token in parents:
            target = target[token]
        value = _plain(op.value)
        if isinstance(target, MutableSequence):
            target.insert(len(target) if last == "-" else int(last), value)
        else:
            target[last] = value


def _plain(value: Any) -> Any:
    """Our values as fresh dicts and lists: a YAML writer would turn shared parts into anchors."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return deepcopy(value)
