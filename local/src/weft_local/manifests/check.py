"""Finds everything wrong with a set of manifests before the first of them is applied."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Final

from weft_policy.validation import examine

from weft_local.manifests.documents import Document
from weft_local.manifests.order import stage_of
from weft_local.manifests.problems import BadManifests, Problem
from weft_local.manifests.rehearsal import Rehearsal
from weft_local.node.images import check_images

DEFAULT_NAMESPACE: Final = "default"
_NAMESPACE_FIELD: Final = "metadata.namespace"
_NO_SERVICES: Final = IPv4Network("192.0.2.0/24")
# Where each kind keeps its pod spec.
_POD_SPEC: Final = {
    "Pod": "spec",
    "CronJob": "spec.jobTemplate.spec.template.spec",
    **dict.fromkeys(("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"), "spec.template.spec"),
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the manifests will meet. existing: objects the cluster has already (namespaces, definitions of kinds).

    entrypoints: of --image. port_holder: who holds a TCP port of this machine, None when it is free.
    """

    existing: Sequence[dict[str, Any]]
    entrypoints: Mapping[str, tuple[str, ...]]
    port_holder: Callable[[int], str | None]


async def find_problems(documents: Sequence[Document], around: Surroundings, rehearsal: Rehearsal) -> list[Problem]:
    """Every problem, in order of file and line; empty when all may be applied."""
    problems = [problem for document in documents for problem in _incomplete(document)]
    whole = [document for document in documents if not any(_incomplete(document))]
    problems += _duplicates(whole)
    for document in whole:
        problems += _images(document, around.entrypoints)
    problems += _ports(whole, around.port_holder)
    await rehearsal.seed(around.existing)
    for document in sorted(whole, key=lambda one: stage_of(one.kind)):
        problems += await _examine(document, rehearsal)
    return BadManifests(problems).problems


async def find_policy_problems(documents: Sequence[Document], definitions: Sequence[dict[str, Any]]) -> list[Problem]:
    """What is wrong with objects of the mesh's own kinds, as they stand, in order of file and line.

    definitions: of those kinds. Needs nothing around the objects: every namespace they name is taken to exist.
    """
    rehearsal = Rehearsal(_NO_SERVICES)
    namespaces = sorted({document.namespace for document in documents} - {"", DEFAULT_NAMESPACE})
    await rehearsal.seed(definitions)
    await rehearsal.seed({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces)
    problems: list[Problem] = []
    for document in documents:
        problems += list(_incomplete(document)) or await _examine(document, rehearsal)
    return BadManifests(problems).problems


async def _examine(document: Document, rehearsal: Rehearsal) -> list[Problem]:
    """What the API server would say to the object, and then its validating webhooks."""
    problems = await _rehearse(document, rehearsal)
    if all(problem.field == _NAMESPACE_FIELD for problem in problems):
        # What is wrong in shape is said in terms of shape; policy looks at objects of the right one.
        verdict = examine(namespaced(document))
        problems += [document.problem(found.field, found.message) for found in verdict.problems]
    return problems


def namespaced(document: Document) -> dict[str, Any]:
    """The object with the default namespace filled in; harmless for kinds that have none."""
    if document.namespace:
        return document.obj
    return {**document.obj, "metadata": {**document.obj["metadata"], "namespace": DEFAULT_NAMESPACE}}


def _incomplete(document: Document) -> Iterator[Problem]:
    for field, text in (("apiVersion", document.api_version), ("kind", document.kind)):
        if not text:
            yield document.problem(field, f"missing; every manifest names its {field}")
    if not isinstance(document.obj.get("metadata"), dict):
        yield document.problem("metadata", "missing; give the object a metadata.name")
    elif not document.name:
        yield document.problem("metadata.name", "missing; give the object a name")


def _duplicates(documents: Iterable[Document]) -> Iterator[Problem]:
    first: dict[tuple[str, str, str, str], Document] = {}
    for document in documents:
        group = document.api_version.rpartition("/")[0]
        identity = (group, document.kind, document.namespace or DEFAULT_NAMESPACE, document.name)
        before = first.setdefault(identity, document)
        if before is not document:
            place = f"{before.file}:{before.first_line}"
            message = f"{document.kind} {document.name} is defined at {place} already; remove or rename one"
            yield document.problem("metadata.name", message)


def _images(document: Document, entrypoints: Mapping[str, tuple[str, ...]]) -> Iterator[Problem]:
    path = _POD_SPEC.get(document.kind)
    spec = _at(document.obj, path) if path else None
    if path is None or not isinstance(spec, dict):
        return
    try:
        found = check_images(spec, entrypoints)
    except (AttributeError, TypeError):
        # The shape is wrong; the rehearsal says how, by field.
        return
    for problem in found:
        yield document.problem(f"{path}.{problem.field}", problem.message)


def _ports(documents: Iterable[Document], port_holder: Callable[[int], str | None]) -> Iterator[Problem]:
    asked: dict[int, str] = {}
    for document in documents:
        path = _POD_SPEC.get(document.kind)
        spec = _at(document.obj, path) if path else None
        containers = spec.get("containers") if isinstance(spec, dict) else None
        for number, container in enumerate(containers if isinstance(containers, list) else ()):
            ports = container.get("ports") if isinstance(container, dict) else None
            for index, port in enumerate(ports if isinstance(ports, list) else ()):
                host_port = port.get("hostPort") if isinstance(port, dict) else None
                if not isinstance(host_port, int):
                    continue
                field = f"{path}.containers[{number}].ports[{index}].hostPort"
                if host_port in asked:
                    message = f"port {host_port} is asked for by {asked[host_port]} already; choose another"
                    yield document.problem(field, message)
                elif holder := port_holder(host_port):
                    message = f"port {host_port} is in use by {holder}; stop it or choose another port"
                    yield document.problem(field, message)
                asked.setdefault(host_port, f"{document.kind} {document.name}")


async def _rehearse(document: Document, rehearsal: Rehearsal) -> list[Problem]:
    kind = rehearsal.kind_of(document.api_version, document.kind)
    if kind is None:
        return [_unknown_kind(document, rehearsal)]
    namespace = (document.namespace or DEFAULT_NAMESPACE) if kind.namespaced else ""
    problems = []
    if kind.namespaced and not rehearsal.has_namespace(namespace):
        message = f"namespace {namespace!r} does not exist; add a Namespace object to the manifests"
        problems.append(document.problem(_NAMESPACE_FIELD, message))
        # What else is wrong with the object shows in any namespace.
        namespace = DEFAULT_NAMESPACE
    refusal = await rehearsal.apply(_moved(document.obj, namespace), namespace)
    if refusal is None:
        return problems
    if not refusal.causes:
        return [*problems, document.problem("", refusal.message)]
    problems.extend(document.problem(cause.field, _advice(cause.reason, cause.message)) for cause in refusal.causes)
    return problems


def _moved(obj: dict[str, Any], namespace: str) -> dict[str, Any]:
    if not namespace:
        return obj
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def _unknown_kind(document: Document, rehearsal: Rehearsal) -> Problem:
    kinds = rehearsal.known_kinds()
    same_name = [one for one in kinds if one.kind == document.kind]
    shown = f"{document.kind} in {document.api_version}"
    if same_name:
        versions = ", ".join(one.api_version(version) for one in same_name for version in one.versions)
        return document.problem("apiVersion", f"unknown kind {shown}; use apiVersion {versions}")
    near = difflib.get_close_matches(document.kind, [one.kind for one in kinds], n=1, cutoff=0.75)
    hint = f"did you mean {near[0]}?" if near else "apply its CustomResourceDefinition too, or remove it"
    return document.problem("kind", f"unknown kind {shown}; {hint}")


def _advice(reason: str, message: str) -> str:
    match reason:
        case "FieldValueRequired":
            return f"{message}; add it"
        case "FieldUnknown":
            return "unknown field; check its spelling and indentation, or remove it"
        case "FieldValueTypeInvalid":
            return f"{message}; change the value's type"
        case _:
            return f"{message}; correct it"


def _at(obj: Any, path: str) -> Any:
    for step in path.split("."):
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj
