"""What clients ask before they do anything: groups, versions, resources, and the least OpenAPI that kubectl needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from weft_common.version import VERSION

from weft_local.apiserver.kinds import REVIEWS, VERBS, Kind

SERVER_VERSION: Final = {
    "major": "1",
    "minor": "36",
    "gitVersion": f"v1.36.0+weft.{VERSION}",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}

_SUBRESOURCE_KINDS: Final = {
    "scale": ("Scale", "autoscaling", "v1", ["get", "patch", "update"]),
    "token": ("TokenRequest", "authentication.k8s.io", "v1", ["create"]),
    "eviction": ("Eviction", "policy", "v1", ["create"]),
    "exec": ("PodExecOptions", "", "v1", ["create", "get"]),
    "attach": ("PodAttachOptions", "", "v1", ["create", "get"]),
    "portforward": ("PodPortForwardOptions", "", "v1", ["create", "get"]),
    "log": ("Pod", "", "v1", ["get"]),
    "finalize": ("Namespace", "", "v1", ["update"]),
}


def api_groups(kinds: Iterable[Kind]) -> dict[str, Any]:
    """Answer of /apis."""
    versions = _versions(kinds)
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(group, found) for group, found in sorted(versions.items()) if group],
    }


def api_group(kinds: Iterable[Kind], group: str) -> dict[str, Any] | None:
    """Answer of /apis/GROUP."""
    found = _versions(kinds).get(group)
    return None if found is None else {"kind": "APIGroup", "apiVersion": "v1", **_group(group, found)}


def _versions(kinds: Iterable[Kind]) -> dict[str, list[str]]:
    versions: dict[str, list[str]] = {}
    for kind in kinds:
        for version in kind.versions:
            if version not in versions.setdefault(kind.group, []):
                versions[kind.group].append(version)
    for group, version, *_ in REVIEWS:
        if version not in versions.setdefault(group, []):
            versions[group].append(version)
    return versions


def _group(group: str, versions: list[str]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def api_resources(kinds: Iterable[Kind], group: str, version: str) -> dict[str, Any] | None:
    """Answer of /api/v1 and /apis/GROUP/VERSION; None for a version nobody serves."""
    resources: list[dict[str, Any]] = []
    for kind in kinds:
        if kind.group != group or version not in kind.versions:
            continue
        resources.append(
            {
                "name": kind.plural,
                "singularName": kind.singular,
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": list(VERBS),
                **({"shortNames": list(kind.short_names)} if kind.short_names else {}),
                **({"categories": list(kind.categories)} if kind.categories else {}),
            }
        )
        for name in kind.subresources:
            shown, sub_group, sub_version, verbs = _SUBRESOURCE_KINDS.get(
                name, (kind.kind, "", "", ["get", "patch", "update"])
            )
            resources.append(
                {
                    "name": f"{kind.plural}/{name}",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    "kind": shown,
                    "verbs": verbs,
                    **({"group": sub_group, "version": sub_version} if sub_group else {}),
                }
            )
    for review_group, review_version, plural, shown, namespaced in REVIEWS:
        if (review_group, review_version) == (group, version):
            resources.append(
                {"name": plural, "singularName": "", "namespaced": namespaced, "kind": shown, "verbs": ["create"]}
            )
    if not resources:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }


def openapi_v3_index(kinds: Iterable[Kind]) -> dict[str, Any]:
    """Answer of /openapi/v3: one document per group and version."""
    pairs = {(kind.group, version) for kind in kinds for version in kind.versions}
    paths = {f"apis/{group}/{version}" if group else f"api/{version}" for group, version in pairs}
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in sorted(paths)}}


def openapi_v3_document(kinds: Iterable[Kind], group: str, version: str) -> dict[str, Any]:
    """Paths only, and in them what kubectl looks for: that PATCH takes fieldValidation, so the server validates."""
    paths: dict[str, Any] = {}
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    dry_run = {"name": "dryRun", "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for kind in kinds:
        if kind.group != group or version not in kind.versions:
            continue
        root = f"/apis/{group}/{version}" if group else f"/api/{version}"
        scope = "/namespaces/{namespace}" if kind.namespaced else ""
        gvk = {"group": group, "version": version, "kind": kind.kind}
        operation = {
            "parameters": [dry_run, parameter],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-group-version-kind": gvk,
        }
        paths[f"{root}{scope}/{kind.plural}/{{name}}"] = {
            "patch": {**operation, "x-kubernetes-action": "patch"},
            "put": {**operation, "x-kubernetes-action": "put"},
        }
        paths[f"{root}{scope}/{kind.plural}"] = {"post": {**operation, "x-kubernetes-action": "post"}}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": SERVER_VERSION["gitVersion"]},
        "paths": paths,
    }


def openapi_v2(kinds: Iterable[Kind]) -> Mapping[str, Any]:
    """The older document, for clients that ask for it: paths without schemas."""
    paths: dict[str, Any] = {}
    for group, version in sorted({(kind.group, version) for kind in kinds for version in kind.versions}):
        for path, operations in openapi_v3_document(kinds, group, version)["paths"].items():
            patch = dict(operations.get("patch") or {})
            if patch:
                patch["parameters"] = [
                    {"name": name, "in": "query", "type": "string", "uniqueItems": True}
                    for name in ("dryRun", "fieldValidation")
                ]
                paths[path] = {"patch": patch}
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": SERVER_VERSION["gitVersion"]},
        "paths": paths,
        "definitions": {},
    }
