"""Checks of the control plane, the proxies and the extensions: facts in, categories out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from weft_cli.core.check_certificates import data_plane_category, identity_category, webhook_category
from weft_cli.core.check_destination import destination_category
from weft_cli.core.check_facts import PROXY_CONTAINER, ClusterFacts, PodFacts
from weft_cli.core.check_model import Category, Check, Report, Result, verdict

CONTROL_PLANE: Final = ("linkerd-destination", "linkerd-identity", "linkerd-proxy-injector")
REDIS: Final = "weft-redis"
VIZ: Final = ("metrics-api", "web")
MIN_KUBERNETES: Final = (1, 31)
SHOWN_PODS: Final = 5


def report(
    facts: ClusterFacts,
    now: datetime,
    cli_version: str,
    *,
    namespace: str = "linkerd",
    viz_namespace: str = "linkerd-viz",
    data_plane_namespace: str | None = None,
    with_data_plane: bool = False,
) -> Report:
    """Everything that can be said about a cluster. data_plane_namespace: None looks at proxies in every namespace."""
    categories = [
        Category("kubernetes-api", (Check("can initialize the client"), Check("can query the Kubernetes API"))),
        Category("kubernetes-version", (kubernetes_version(facts.server_version),)),
        _existence(facts, namespace),
        _config(facts, namespace),
        identity_category(facts, now),
        webhook_category(facts, now),
        data_plane_category(facts),
        _control_plane_version(facts, cli_version),
        _control_plane_proxies(facts, namespace),
        destination_category(facts.destination, redis_is_installed=bool(facts.pods_in(namespace, REDIS))),
        _redis(facts, namespace),
        _viz(facts, viz_namespace),
    ]
    if with_data_plane:
        categories.append(_data_plane(facts, {namespace, viz_namespace}, data_plane_namespace, cli_version))
    return Report(tuple(category for category in categories if category.checks)).until_fatal()


def unreachable_report(error: str) -> Report:
    """The cluster did not answer."""
    failed = verdict(
        "can query the Kubernetes API",
        [error],
        "is the cluster running? For a local one: weft local status; else check --kubeconfig and --context",
        fatal=True,
    )
    return Report((Category("kubernetes-api", (Check("can initialize the client"), failed)),))


def kubernetes_version(server_version: str) -> Check:
    """server_version: as the API server writes it, such as v1.36.0+k3s1."""
    wanted = ".".join(map(str, MIN_KUBERNETES))
    parts = server_version.removeprefix("v").split(".")
    try:
        version = int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        version = (0, 0)
    problems = [] if version >= MIN_KUBERNETES else [f"the server runs {server_version or 'an unknown version'}"]
    return verdict("is running the minimum Kubernetes version", problems, f"upgrade the cluster to {wanted} or later")


def _existence(facts: ClusterFacts, namespace: str) -> Category:
    install = "install the control plane: weft local up, or the charts"
    checks = [
        verdict(
            f"'{namespace}' namespace exists",
            [] if facts.namespace_exists else [f"there is no namespace {namespace}"],
            install,
            fatal=True,
        ),
        verdict(
            "'linkerd-config' config map exists",
            [] if facts.config_exists else [f"there is no ConfigMap {namespace}/linkerd-config"],
            install,
            fatal=True,
        ),
        verdict(
            "no unschedulable pods",
            [f"{pod.name}: {pod.unschedulable}" for pod in facts.pods_in(namespace) if pod.unschedulable],
            "free up resources on the nodes, or lower the requests",
            warning=True,
        ),
        verdict(
            "control plane pods are ready",
            _not_ready(facts, namespace, CONTROL_PLANE),
            f"see why: kubectl describe pods -n {namespace}, kubectl logs -n {namespace} POD",
            fatal=True,
            retry=True,
        ),
    ]
    return Category("linkerd-existence", tuple(checks))


def _config(facts: ClusterFacts, namespace: str) -> Category:
    missing = [name for name in CONTROL_PLANE if name not in facts.service_accounts]
    return Category(
        "linkerd-config",
        (
            verdict(
                "control plane ServiceAccounts exist",
                [f"missing in {namespace}: {', '.join(missing)}"] if missing else [],
                "install the charts again",
                fatal=True,
            ),
            verdict(
                "control plane MutatingWebhookConfigurations exist",
                [] if facts.webhook else ["there is no linkerd-proxy-injector-webhook-config, so no pod gets a proxy"],
                "install the chart weft-injector again",
                fatal=True,
            ),
        ),
    )


def _control_plane_version(facts: ClusterFacts, cli_version: str) -> Category:
    version = facts.control_plane_version
    return Category(
        "control-plane-version",
        (
            verdict(
                "control plane and cli versions match",
                [] if version == cli_version else [f"control plane {version or 'unknown'}, this command {cli_version}"],
                "upgrade whichever is older",
                warning=True,
            ),
        ),
    )


def _control_plane_proxies(facts: ClusterFacts, namespace: str) -> Category:
    pods = [pod for pod in facts.pods_in(namespace) if pod.is_meshed]
    return Category(
        "linkerd-control-plane-proxy",
        (
            verdict(
                "control plane proxies are healthy",
                _unready_proxies(pods),
                f"see why: kubectl logs -n {namespace} POD -c {PROXY_CONTAINER}",
                fatal=True,
                retry=True,
            ),
        ),
    )


def _redis(facts: ClusterFacts, namespace: str) -> Category:
    pods = facts.pods_in(namespace, REDIS)
    if not pods:
        # The cache is optional, and may be one that lives elsewhere.
        return Category("weft-redis", ())
    problems = [f"{pod.name}: {pod.trouble}" for pod in pods if not pod.is_ready]
    hint = f"nothing fails without it; restarts are slower. See why: kubectl describe pods -n {namespace}"
    return Category("weft-redis", (verdict("redis pods are ready", problems, hint, warning=True),))


def _viz(facts: ClusterFacts, namespace: str) -> Category:
    if facts.metrics_api is None:
        return Category("linkerd-viz", ())
    checks = [
        verdict(
            "viz extension pods are running",
            _not_ready(facts, namespace, VIZ),
            f"see why: kubectl describe pods -n {namespace}",
            retry=True,
        )
    ]
    if facts.metrics_api.unreachable:
        checks.append(verdict("metrics API can be asked", [facts.metrics_api.unreachable], warning=True))
    for description, failed, warned, message in facts.metrics_api.results:
        result = Result.ERROR if failed else Result.WARNING if warned else Result.SUCCESS
        # Right after a start there is no complete round yet, and some proxies are still coming up.
        checks.append(Check(f"metrics API: {description}", result, message, retry=failed))
    return Category("linkerd-viz", tuple(checks))


def _data_plane(facts: ClusterFacts, own: set[str], namespace: str | None, cli_version: str) -> Category:
    pods = [
        pod
        for pod in facts.pods
        if pod.is_meshed
        and not pod.is_terminating
        and pod.phase not in ("Succeeded", "Failed")
        and (pod.namespace == namespace if namespace else pod.namespace not in own)
    ]
    where = f" in namespace {namespace}" if namespace else ""
    other = sorted({pod.proxy_version for pod in pods if pod.proxy_version and pod.proxy_version != cli_version})
    return Category(
        "linkerd-data-plane",
        (
            verdict(
                "data plane proxies are present",
                [] if pods else [f"no pod{where} has a proxy"],
                "annotate a namespace or workload with linkerd.io/inject: enabled and restart it",
                warning=True,
            ),
            verdict(
                "data plane proxies are ready",
                _unready_proxies(pods),
                f"see why: kubectl logs -n NAMESPACE POD -c {PROXY_CONTAINER}",
                fatal=True,
                retry=True,
            ),
            verdict(
                "data plane proxies and cli versions match",
                [f"proxies of version {', '.join(other)}, this command {cli_version}"] if other else [],
                "restart the workloads to get the current proxy",
                warning=True,
            ),
        ),
    )


def _not_ready(facts: ClusterFacts, namespace: str, deployments: Sequence[str]) -> list[str]:
    problems = []
    for deployment in deployments:
        pods = facts.pods_in(namespace, deployment)
        if not pods:
            problems.append(f"{deployment} has no pods")
        elif not any(pod.is_ready for pod in pods):
            problems.append(f"{pods[0].name}: {pods[0].trouble}")
    return problems


def _unready_proxies(pods: Sequence[PodFacts]) -> list[str]:
    unready = [pod for pod in pods if not pod.ready.get(PROXY_CONTAINER)]
    problems = [f"{pod.namespace}/{pod.name}: {pod.waiting.get(PROXY_CONTAINER, 'not ready')}" for pod in unready]
    more = len(problems) - SHOWN_PODS
    return [*problems[:SHOWN_PODS], f"and {more} more"] if more > 0 else problems
