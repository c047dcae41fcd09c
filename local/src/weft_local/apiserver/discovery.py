"""What clients ask before they do anything: groups, versions, resources, what kind of server this is."""

from __future__ import annotations

from collections.abc import Iterable
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

CORE_VERSIONS: Final = {
    "kind": "APIVersions",
    "apiVersion": "v1",
    "versions": ["v1"],
    "serverAddressByClientCIDRs": [],
}

_SUBRESOURCE_KINDS: Final = {
    "scale": ("Scale", "autoscaling", "v1", ["get", "patch", "update"]),
    "token": ("TokenRequest", "authentication.k8s.io", "v1", ["create"]),
    "eviction": ("Eviction", "policy", "v1", ["create"]),
    "exec": ("PodExecOptions", "", "v1", ["create", "get"]),
    "attach": ("PodAttachOptions", "", "v1", ["create", "get"]),
    "portforward": ("PodPortForwardOptions", "", "v1", ["create", "get"]),
    "binding": ("Binding", "", "v1", ["create"]),
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


def openid_configuration(issuer: str) -> dict[str, Any]:
    """What tells others how to check our tokens."""
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }
