"""Checks before an installation: facts about a cluster without the mesh in, a report out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from weft_cli.core.check_control_plane import kubernetes_version
from weft_cli.core.check_model import Category, Check, Report, verdict

# A kubelet that has nothing new to say reports every five minutes.
MAX_SKEW_S: Final = 360.0


@dataclass(frozen=True, slots=True)
class Permission:
    """Something an installation does. group: empty for core."""

    verb: str
    group: str
    plural: str
    namespaced: bool
    described: str


CLUSTER_WIDE: Final = (
    Permission("create", "", "namespaces", False, "Namespaces"),
    Permission("create", "rbac.authorization.k8s.io", "clusterroles", False, "ClusterRoles"),
    Permission("create", "rbac.authorization.k8s.io", "clusterrolebindings", False, "ClusterRoleBindings"),
    Permission("create", "apiextensions.k8s.io", "customresourcedefinitions", False, "CustomResourceDefinitions"),
    Permission(
        "create",
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        False,
        "MutatingWebhookConfigurations",
    ),
    Permission(
        "create",
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        False,
        "ValidatingWebhookConfigurations",
    ),
)
NAMESPACED: Final = (
    Permission("create", "", "serviceaccounts", True, "ServiceAccounts"),
    Permission("create", "", "services", True, "Services"),
    Permission("create", "apps", "deployments", True, "Deployments"),
    Permission("create", "", "configmaps", True, "ConfigMaps"),
    Permission("create", "", "secrets", True, "Secrets"),
    Permission("get", "", "secrets", True, "Secrets"),
    Permission("create", "rbac.authorization.k8s.io", "roles", True, "Roles"),
)
PERMISSIONS: Final = (*CLUSTER_WIDE, *NAMESPACED)


@dataclass(frozen=True, slots=True)
class PreFacts:
    """skew_s: the newest report of a node minus this machine's clock; None without nodes."""

    server_version: str
    namespace_exists: bool
    skew_s: float | None
    denied: frozenset[Permission]


def pre_report(facts: PreFacts, namespace: str) -> Report:
    """Whether an installation will be let in."""
    setup = [
        verdict(
            "control plane namespace does not already exist",
            [f"there is a namespace {namespace}"] if facts.namespace_exists else [],
            "an installed mesh is changed with weft upgrade, removed with weft uninstall",
        ),
        verdict(
            "can create non-namespaced resources",
            [f"not allowed to create {p.described}" for p in CLUSTER_WIDE if p in facts.denied],
            "install as a cluster administrator",
        ),
        *(
            verdict(
                f"can {'read' if permission.verb == 'get' else permission.verb} {permission.described}",
                [f"not allowed in namespace {namespace}"] if permission in facts.denied else [],
                "install as a cluster administrator",
            )
            for permission in NAMESPACED
        ),
        _clock(facts),
    ]
    return Report(
        (
            Category("kubernetes-api", (Check("can initialize the client"), Check("can query the Kubernetes API"))),
            Category("kubernetes-version", (kubernetes_version(facts.server_version),)),
            Category("pre-kubernetes-setup", tuple(setup)),
        )
    )


def _clock(facts: PreFacts) -> Check:
    skewed = facts.skew_s is not None and abs(facts.skew_s) > MAX_SKEW_S
    return verdict(
        "no clock skew detected",
        [f"the nodes' clock differs by {facts.skew_s:.0f} s"] if skewed else [],
        "certificates made here would not be valid there: set the clocks by NTP",
        warning=True,
    )
