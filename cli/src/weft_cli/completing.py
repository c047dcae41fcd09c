"""What can come next on the command line: types, live names, namespaces. Silent when the cluster is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import typer

from weft_cli.core.resources import ALL, KINDS

TIMEOUT_S: Final = 2.0

# Where each kind lives; kept apart from weft_common.kube so that completing a type imports no HTTP client.
_PATHS: Final = {
    "daemonset": ("/apis/apps/v1", "daemonsets"),
    "statefulset": ("/apis/apps/v1", "statefulsets"),
    "job": ("/apis/batch/v1", "jobs"),
    "deployment": ("/apis/apps/v1", "deployments"),
    "replicationcontroller": ("/api/v1", "replicationcontrollers"),
    "pod": ("/api/v1", "pods"),
    "service": ("/api/v1", "services"),
    "cronjob": ("/apis/batch/v1", "cronjobs"),
    "replicaset": ("/apis/apps/v1", "replicasets"),
    "namespace": ("/api/v1", "namespaces"),
}
_KIND_OF: Final = {name: kind for kind, names in KINDS.items() for name in (kind, *names)}


def complete_resources(ctx: typer.Context, args: Sequence[str], incomplete: str) -> list[str]:
    """`TYPE`, then names; `TYPE/NAME` at once."""
    typed = [word for word in ctx.params.get("resources") or () if word != incomplete]
    if not typed and "/" not in incomplete:
        return [*complete_types(incomplete), *([ALL] if ALL.startswith(incomplete) else [])]
    if "/" in incomplete:
        prefix, _, beginning = incomplete.partition("/")
        return [f"{prefix}/{name}" for name in _names(ctx.params, prefix) if name.startswith(beginning)]
    return [name for name in _names(ctx.params, typed[0]) if name.startswith(incomplete) and name not in typed]


def complete_types(incomplete: str) -> list[str]:
    """Types alone."""
    return [name for kind, (short, *_) in KINDS.items() for name in (kind, short) if name.startswith(incomplete)]


def complete_namespaces(ctx: typer.Context, args: Sequence[str], incomplete: str) -> list[str]:
    """Live namespaces."""
    return [name for name in _names({**ctx.params, "all_namespaces": True}, "ns") if name.startswith(incomplete)]


def _names(params: Mapping[str, Any], word: str) -> list[str]:
    kind = _KIND_OF.get(word.lower())
    if kind is None:
        return []
    # Whatever goes wrong here, a shell that is completing must not get an error printed into its line.
    try:
        return asyncio.run(_list(params, kind))
    except Exception:
        return []


async def _list(params: Mapping[str, Any], kind: str) -> list[str]:
    from weft_common.kube.client import KubeClient

    from weft_cli.cluster import find_cluster

    kubeconfig = params.get("kubeconfig")
    config = find_cluster(Path(kubeconfig) if kubeconfig else None, params.get("context"))
    group, plural = _PATHS[kind]
    namespace = params.get("namespace") or config.namespace
    is_spanning = kind == "namespace" or params.get("all_namespaces")
    path = f"{group}/{plural}" if is_spanning else f"{group}/namespaces/{namespace}/{plural}"
    async with asyncio.timeout(TIMEOUT_S), KubeClient(config) as kube:
        found = await kube.list(path)
    return sorted(item["metadata"]["name"] for item in found["items"])
