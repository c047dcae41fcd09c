"""What can be said about manifests together, before any server is asked; and how a server's refusal reads in files."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from weft_local.manifests.model import FieldPath, Manifest, Problem, parse_field

# Kinds that others need, first; everything else after them in the order written.
_ORDER: Final = (
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Secret",
    "ConfigMap",
    "Service",
)

_POD_SPECS: Final[Mapping[str, FieldPath]] = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "ReplicaSet": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "DaemonSet": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}


def in_apply_order(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Namespaces and definitions first, workloads last; otherwise as written."""
    rank = {kind: index for index, kind in enumerate(_ORDER)}
    return sorted(manifests, key=lambda manifest: rank.get(manifest.kind, len(_ORDER)))


def pod_spec_of(manifest: Manifest) -> tuple[str, dict[str, Any]] | None:
    """The pod spec inside a workload with its field path; None for kinds without one or where it is malformed."""
    path = _POD_SPECS.get(manifest.kind)
    if path is None:
        return None
    value: Any = manifest.obj
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return (".".join(str(step) for step in path), value) if isinstance(value, dict) else None


def unknown_kinds(manifests: Iterable[Manifest], served: Sequence[tuple[str, str]]) -> list[Problem]:
    """Kinds neither served nor defined by the manifests themselves. served: (apiVersion, kind) pairs."""
    known = {*served, *_defined(manifests := list(manifests))}
    names = sorted({kind for _, kind in known})
    problems = []
    for manifest in manifests:
        if (manifest.api_version, manifest.kind) in known:
            continue
        versions = sorted(version for version, kind in known if kind == manifest.kind)
        if versions:
            what = f'no kind "{manifest.kind}" in {manifest.api_version}'
            problems.append(manifest.problem("apiVersion", what, f"use {' or '.join(versions)}"))
        else:
            close = difflib.get_close_matches(manifest.kind, names, n=1)
            advice = f"did you mean {close[0]}?" if close else "apply its CustomResourceDefinition first"
            problems.append(
                manifest.problem("kind", f'unknown kind "{manifest.kind}" in {manifest.api_version}', advice)
            )
    return problems


def _defined(manifests: Iterable[Manifest]) -> set[tuple[str, str]]:
    defined = set()
    for manifest in manifests:
        if manifest.kind == "CustomResourceDefinition":
            spec = manifest.obj.get("spec") or {}
            for version in spec.get("versions") or []:
                group, kind = spec.get("group"), (spec.get("names") or {}).get("kind")
                defined.add((f"{group}/{version.get('name')}", str(kind)))
    return defined


def duplicates(manifests: Iterable[Manifest], default_namespace: str = "default") -> list[Problem]:
    """Objects written twice: the second would silently win."""
    first: dict[tuple[str, str, str, str], Manifest] = {}
    problems = []
    for manifest in manifests:
        group = manifest.api_version.rpartition("/")[0]
        key = (group, manifest.kind, manifest.namespace or default_namespace, manifest.name)
        if not manifest.name:
            continue
        if key in first:
            other = first[key]
            what = f'{manifest.kind} "{manifest.name}" is already defined at {other.file}:{other.line_of(())}'
            problems.append(manifest.problem("metadata.name", what, "remove one of the two"))
        else:
            first[key] = manifest
    return problems


def problems_from_status(manifest: Manifest, status: Mapping[str, Any]) -> list[Problem]:
    """A server's Status as problems at the fields its causes name; at the object when it names none."""
    causes = (status.get("details") or {}).get("causes") or []
    found = [
        manifest.problem(str(cause.get("field", "")), str(cause.get("message", "")), _advice(cause))
        for cause in causes
        if _is_field(str(cause.get("field", "")))
    ]
    return found or [manifest.problem("", str(status.get("message", "refused")), "")]


def _is_field(text: str) -> bool:
    return bool(text) and bool(parse_field(text))


def _advice(cause: Mapping[str, Any]) -> str:
    match cause.get("reason"):
        case "FieldValueRequired":
            return "add this field"
        case "FieldValueNotSupported" if cause.get("message") == "unknown field":
            return "remove it, or correct its spelling and indentation"
        case "FieldValueTypeInvalid":
            return "correct the value's type; quote text that looks like a number"
        case _:
            return ""
