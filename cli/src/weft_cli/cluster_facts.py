"""Asks a cluster for everything `weft check` looks at. Raw objects end here."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any, Final

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import (
    CONFIG_MAPS,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from weft_proto.weft import metrics_pb2 as pb

from weft_cli.core.check_facts import (
    DEPLOYMENT_LABEL,
    PROXY_CONTAINER,
    ClusterFacts,
    MetricsApiFacts,
    PodFacts,
    WebhookFacts,
)
from weft_cli.core.identity_view import is_overdue
from weft_cli.destination_state import destination_states
from weft_cli.errors import CliError
from weft_cli.identity_client import identity_client
from weft_cli.metrics_client import METRICS_API, VIZ_NAMESPACE, find_metrics_api, metrics_client

CONTROL_PLANE_NAMESPACE: Final = "linkerd"
CONTROL_PLANE_LABEL: Final = "linkerd.io/control-plane-ns"
TRUST_ANCHORS_VARIABLE: Final = "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"
WEBHOOK_CONFIGURATION: Final = "linkerd-proxy-injector-webhook-config"


async def gather_facts(
    kube: KubeClient, namespace: str = CONTROL_PLANE_NAMESPACE, api_addr: str | None = None
) -> ClusterFacts:
    """Everything at once. Raises KubeError when the API server refuses or does not answer."""
    version, namespace_object, config, accounts = await asyncio.gather(
        kube.get("/version"),
        _get(kube, NAMESPACES, None, namespace),
        _get(kube, CONFIG_MAPS, namespace, "linkerd-config"),
        kube.list(SERVICE_ACCOUNTS.path(namespace)),
    )
    roots, issuer, webhook = await asyncio.gather(
        _get(kube, CONFIG_MAPS, namespace, "linkerd-identity-trust-roots"),
        _get(kube, SECRETS, namespace, "linkerd-identity-issuer"),
        _webhook(kube, namespace),
    )
    own, viz, meshed = await asyncio.gather(
        kube.list(PODS.path(namespace)),
        kube.list(PODS.path(VIZ_NAMESPACE)),
        kube.list(PODS.path(), {"labelSelector": f"{CONTROL_PLANE_LABEL}={namespace}"}),
    )
    pods = {
        (pod.namespace, pod.name): pod
        for raw in (*own["items"], *viz["items"], *meshed["items"])
        for pod in [pod_facts(raw)]
    }
    (reported, overdue), destination = await asyncio.gather(
        _certificates(kube, namespace), destination_states(own["items"])
    )
    return ClusterFacts(
        reported_trust=reported,
        overdue=overdue,
        destination=destination,
        server=kube.config.server,
        server_version=str(version.get("gitVersion", "")),
        namespace_exists=namespace_object is not None,
        config_exists=config is not None,
        control_plane_version=control_plane_version(own["items"]),
        service_accounts=frozenset(item["metadata"]["name"] for item in accounts["items"]),
        pods=tuple(pods[key] for key in sorted(pods)),
        trust_anchors_pem=((roots or {}).get("data") or {}).get("ca-bundle.crt"),
        issuer_pem=_secret(issuer, "crt.pem", "tls.crt"),
        issuer_key_pem=_secret(issuer, "key.pem", "tls.key"),
        webhook=webhook,
        metrics_api=await _metrics_api(kube, api_addr),
    )


def pod_facts(raw: dict[str, Any]) -> PodFacts:
    """One pod. Sidecars among the init containers count as containers, other init containers do not."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    sidecars = {c["name"] for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"}
    running = [*(spec.get("containers") or []), *(c for c in spec.get("initContainers") or [] if c["name"] in sidecars)]
    statuses = {
        item["name"]: item
        for section in ("containerStatuses", "initContainerStatuses")
        for item in status.get(section) or []
    }
    labels = metadata.get("labels") or {}
    proxy: dict[str, Any] = next((c for c in running if c["name"] == PROXY_CONTAINER), {})
    return PodFacts(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        phase=status.get("phase", "Pending"),
        owner=labels.get(DEPLOYMENT_LABEL) or _deployment(metadata),
        ready={c["name"]: bool(statuses.get(c["name"], {}).get("ready")) for c in running},
        waiting={
            name: reason for name, item in statuses.items() if (reason := _waiting(item)) and not item.get("ready")
        },
        is_terminating="deletionTimestamp" in metadata,
        unschedulable=_unschedulable(status),
        trust_anchors=next(
            (v.get("value") for v in proxy.get("env") or [] if v.get("name") == TRUST_ANCHORS_VARIABLE), None
        ),
        proxy_version=_tag(proxy.get("image", "")),
    )


def _waiting(status: dict[str, Any]) -> str:
    state = status.get("state") or {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    if waiting:
        message = f": {waiting['message']}" if waiting.get("message") else ""
        return f"{waiting.get('reason', 'waiting')}{message}"
    # An init container that has done its work is not trouble.
    return f"exited with {terminated['exitCode']}" if terminated.get("exitCode") else ""


def _unschedulable(status: dict[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return str(condition.get("message", "unschedulable"))
    return ""


def _deployment(metadata: dict[str, Any]) -> str:
    for owner in metadata.get("ownerReferences") or []:
        if owner.get("kind") == "ReplicaSet":
            return str(owner["name"]).rpartition("-")[0]
    return ""


def _tag(image: str) -> str:
    name, colon, tag = image.rpartition(":")
    return tag if colon and name and "/" not in tag else ""


def control_plane_version(pods: list[dict[str, Any]]) -> str:
    """The tag of the destination container, the one component nothing works without."""
    for pod in pods:
        for container in pod.get("spec", {}).get("containers") or []:
            if container["name"] == "destination":
                return _tag(container.get("image", ""))
    return ""


async def _get(kube: KubeClient, resource: Resource, namespace: str | None, name: str) -> dict[str, Any] | None:
    try:
        return await kube.get(resource.path(namespace, name))
    except KubeError as error:
        if error.status == 404:
            return None
        raise


async def _webhook(kube: KubeClient, namespace: str) -> WebhookFacts | None:
    configuration = await _get(kube, MUTATING_WEBHOOKS, None, WEBHOOK_CONFIGURATION)
    if configuration is None:
        return None
    webhooks = configuration.get("webhooks") or [{}]
    bundle = (webhooks[0].get("clientConfig") or {}).get("caBundle")
    secret = await _get(kube, SECRETS, namespace, "linkerd-proxy-injector-k8s-tls")
    return WebhookFacts(
        certificate_pem=_secret(secret, "tls.crt"),
        ca_bundle_pem=base64.b64decode(bundle).decode(errors="replace") if bundle else None,
        dns_name=f"linkerd-proxy-injector.{namespace}.svc",
    )


def _secret(secret: dict[str, Any] | None, *names: str) -> str | None:
    """The first of several keys, decoded."""
    data = (secret or {}).get("data") or {}
    for name in names:
        if name in data:
            return base64.b64decode(data[name]).decode(errors="replace")
    return None


async def _certificates(
    kube: KubeClient, namespace: str
) -> tuple[dict[tuple[str, str], frozenset[str]], tuple[str, ...]]:
    """What proxies report; nothing where identity cannot be asked from here, which other checks are about."""
    try:
        async with identity_client(kube, namespace, None) as client:
            found = (await client.list()).certificates
    except (CliError, KubeError):
        return {}, ()
    now = datetime.now(UTC)
    reported = {(c.namespace, c.pod): frozenset(c.trusted_anchors) for c in found if c.trusted_anchors}
    return reported, tuple(f"{c.namespace}/{c.pod}" for c in found if is_overdue(c, now))


async def _metrics_api(kube: KubeClient, api_addr: str | None) -> MetricsApiFacts | None:
    if api_addr is None and await _get(kube, SERVICES, VIZ_NAMESPACE, METRICS_API) is None:
        return None
    try:
        async with metrics_client(kube.config, api_addr or await find_metrics_api(kube)) as client:
            results = await client.self_check()
    except CliError as error:
        return MetricsApiFacts(unreachable=f"{error.message} ({error.hint})" if error.hint else error.message)
    return MetricsApiFacts(
        tuple(
            (
                result.description,
                result.status == pb.CheckResult.FAILED,
                result.status == pb.CheckResult.WARNING,
                result.message,
            )
            for result in results
        )
    )
