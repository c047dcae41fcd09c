"""Asks a cluster what of the mesh is installed in it. Raw objects end in `core.installation`."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import yaml
from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import (
    CONFIG_MAPS,
    CRON_JOBS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    VALIDATING_WEBHOOKS,
    Resource,
)

from weft_cli.core.check_pre import PERMISSIONS, Permission, PreFacts
from weft_cli.core.installation import Installed, is_worn_out
from weft_cli.errors import CliError

# Group of values, to the Service and the kind of configuration.
WEBHOOKS: Final = {
    "proxyInjector": ("linkerd-proxy-injector", MUTATING_WEBHOOKS),
    "policyValidator": ("linkerd-policy-validator", VALIDATING_WEBHOOKS),
    "profileValidator": ("linkerd-sp-validator", VALIDATING_WEBHOOKS),
}
VIZ_LABEL: Final = "linkerd.io/extension=viz"
PART_LABEL: Final = "app.kubernetes.io/part-of=Weft"
_RBAC: Final = "rbac.authorization.k8s.io"
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# Every kind that a chart of this or an earlier version rendered.
KINDS: Final = (
    MUTATING_WEBHOOKS,
    VALIDATING_WEBHOOKS,
    Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Resource(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    Resource(_RBAC, "v1", "rolebindings", "RoleBinding"),
    Resource(_RBAC, "v1", "roles", "Role"),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    Resource("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor"),
    CRON_JOBS,
    DEPLOYMENTS,
    SERVICES,
    SERVICE_ACCOUNTS,
    CONFIG_MAPS,
    SECRETS,
    NAMESPACES,
)


async def installed_objects(kube: KubeClient, namespace: str, *, definitions: bool = False) -> list[dict[str, Any]]:
    """Every object that carries the mesh's labels. definitions: custom resource definitions too. Raises KubeError."""
    selectors = (f"linkerd.io/control-plane-ns={namespace}", VIZ_LABEL)
    asked = [(kind, selector) for kind in KINDS for selector in selectors]
    if definitions:
        asked.append((CUSTOM_RESOURCE_DEFINITIONS, PART_LABEL))
    found = await asyncio.gather(*(_listed(kube, kind, selector) for kind, selector in asked))
    by_name = {
        (obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]): obj
        for part in found
        for obj in part
    }
    return list(by_name.values())


async def _listed(kube: KubeClient, kind: Resource, selector: str) -> list[dict[str, Any]]:
    try:
        listed = await kube.list(kind.path(), {"labelSelector": selector})
    except KubeError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            # A kind that this cluster does not have.
            return []
        raise
    return [{**item, "apiVersion": kind.api_version, "kind": kind.kind} for item in listed["items"]]


async def meshed_workloads(kube: KubeClient, namespace: str, viz_namespace: str) -> list[str]:
    """Pods that still have a proxy and are not the mesh's own, as namespace/name."""
    listed = await kube.list(PODS.path(), {"labelSelector": f"linkerd.io/control-plane-ns={namespace}"})
    names = (item["metadata"] for item in listed["items"])
    return sorted(f"{m['namespace']}/{m['name']}" for m in names if m["namespace"] not in {namespace, viz_namespace})


async def installed_settings(kube: KubeClient, namespace: str) -> Installed:
    """What an upgrade keeps. Raises CliError when nothing is installed."""
    overrides, roots, issuer, *served = await asyncio.gather(
        _get(kube, SECRETS, namespace, "linkerd-config-overrides"),
        _get(kube, CONFIG_MAPS, namespace, "linkerd-identity-trust-roots"),
        _get(kube, SECRETS, namespace, "linkerd-identity-issuer"),
        *(_webhook(kube, namespace, service, kind) for service, kind in WEBHOOKS.values()),
    )
    if overrides is None:
        raise CliError(
            f"no mesh is installed in namespace {namespace}: it has no Secret linkerd-config-overrides",
            hint="weft install installs one; charts installed by helm are upgraded by helm",
        )
    issued = _decoded(issuer)
    return Installed(
        overrides=yaml.safe_load(_decoded(overrides)["linkerd-config-overrides"]) or {},
        trust_anchors=((roots or {}).get("data") or {}).get("ca-bundle.crt"),
        # Another scheme's Secret is made by someone else.
        issuer=(issued["crt.pem"], issued["key.pem"]) if "crt.pem" in issued else None,
        webhooks={group: tls for group, tls in zip(WEBHOOKS, served, strict=True) if tls is not None},
    )


async def _webhook(kube: KubeClient, namespace: str, service: str, kind: Resource) -> tuple[str, str, str] | None:
    """Certificate, key and CA; None where they are made elsewhere or should be made anew."""
    secret, configuration = await asyncio.gather(
        _get(kube, SECRETS, namespace, f"{service}-k8s-tls"), _get(kube, kind, None, f"{service}-webhook-config")
    )
    served, bundle = _decoded(secret), _bundle(configuration)
    if not served or not bundle or is_worn_out(served["tls.crt"], datetime.now(UTC)):
        return None
    return served["tls.crt"], served["tls.key"], bundle


async def pre_facts(kube: KubeClient, namespace: str) -> PreFacts:
    """What decides whether an installation will be let in. Raises KubeError."""
    version, existing, nodes, *allowed = await asyncio.gather(
        kube.get("/version"),
        _get(kube, NAMESPACES, None, namespace),
        _nodes(kube),
        *(_may(kube, permission, namespace) for permission in PERMISSIONS),
    )
    return PreFacts(
        server_version=str(version.get("gitVersion", "")),
        namespace_exists=existing is not None,
        skew_s=_skew_s(nodes, datetime.now(UTC)),
        denied=frozenset(p for p, may in zip(PERMISSIONS, allowed, strict=True) if not may),
    )


async def _may(kube: KubeClient, permission: Permission, namespace: str) -> bool:
    attributes = {"verb": permission.verb, "group": permission.group, "resource": permission.plural}
    if permission.namespaced:
        attributes["namespace"] = namespace
    review = await kube.create(
        _REVIEWS,
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        },
    )
    return bool((review.get("status") or {}).get("allowed"))


async def _nodes(kube: KubeClient) -> list[dict[str, Any]]:
    try:
        items: list[dict[str, Any]] = (await kube.list(NODES.path()))["items"]
    except KubeError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            return []
        raise
    return items


def _skew_s(nodes: list[dict[str, Any]], now: datetime) -> float | None:
    reports = [
        datetime.fromisoformat(condition["lastHeartbeatTime"])
        for node in nodes
        for condition in (node.get("status") or {}).get("conditions") or []
        if condition.get("lastHeartbeatTime")
    ]
    return (max(reports) - now).total_seconds() if reports else None


async def _get(kube: KubeClient, resource: Resource, namespace: str | None, name: str) -> dict[str, Any] | None:
    try:
        return await kube.get(resource.path(namespace, name))
    except KubeError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _decoded(secret: dict[str, Any] | None) -> dict[str, str]:
    data = (secret or {}).get("data") or {}
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}


def _bundle(webhook: dict[str, Any] | None) -> str:
    webhooks = (webhook or {}).get("webhooks") or [{}]
    bundle = (webhooks[0].get("clientConfig") or {}).get("caBundle") or ""
    return base64.b64decode(bundle).decode(errors="replace")
