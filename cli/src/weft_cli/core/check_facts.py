"""What `weft check` looks at, as values. Filled by the shell that asks the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from weft_cli.core.check_destination import ReplicaState

PROXY_CONTAINER: Final = "linkerd-proxy"
DEPLOYMENT_LABEL: Final = "linkerd.io/proxy-deployment"


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod. ready: container name to readiness. waiting: container name to why it does not run.

    trust_anchors: the bundle its proxy was given, None when it reads the ConfigMap or has no proxy. owner: the name its
    ReplicaSet starts with.
    """

    namespace: str
    name: str
    phase: str
    owner: str = ""
    ready: Mapping[str, bool] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)
    is_terminating: bool = False
    unschedulable: str = ""
    trust_anchors: str | None = None
    proxy_version: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether every container is."""
        return self.phase == "Running" and bool(self.ready) and all(self.ready.values())

    @property
    def is_meshed(self) -> bool:
        """Whether it has a proxy container."""
        return PROXY_CONTAINER in self.ready

    @property
    def trouble(self) -> str:
        """Why it is not ready, in a few words."""
        if self.waiting:
            return ", ".join(f"{name} {reason}" for name, reason in sorted(self.waiting.items()))
        unready = sorted(name for name, ready in self.ready.items() if not ready)
        return f"{', '.join(unready)} not ready" if unready else self.phase


@dataclass(frozen=True, slots=True)
class WebhookFacts:
    """The injector's certificate and the bundle the API server checks it with, both PEM; None when absent."""

    certificate_pem: str | None
    ca_bundle_pem: str | None
    dns_name: str


@dataclass(frozen=True, slots=True)
class MetricsApiFacts:
    """What metrics-api says of itself: (description, failed, warning, message). unreachable: why it was not asked."""

    results: tuple[tuple[str, bool, bool, str], ...] = ()
    unreachable: str = ""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """None stands for an object that does not exist.

    reported_trust: ids of the anchors in use, by namespace and pod, of proxies that report them. overdue: pods whose
    certificate should have been renewed by now. destination: its replicas that could be asked.
    """

    server: str
    server_version: str
    namespace_exists: bool
    config_exists: bool
    control_plane_version: str
    service_accounts: frozenset[str]
    pods: tuple[PodFacts, ...]
    trust_anchors_pem: str | None
    issuer_pem: str | None
    issuer_key_pem: str | None
    webhook: WebhookFacts | None
    metrics_api: MetricsApiFacts | None
    reported_trust: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    overdue: tuple[str, ...] = ()
    destination: tuple[ReplicaState, ...] = ()

    def pods_in(self, namespace: str, owner: str = "") -> list[PodFacts]:
        """Pods of a namespace that are not on their way out, optionally of one Deployment."""
        return [
            pod
            for pod in self.pods
            if pod.namespace == namespace and not pod.is_terminating and (not owner or pod.owner == owner)
        ]
