"""The kinds served: built-in ones as a table, custom ones from their CRDs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from weft_local.apiserver.custom import CustomSchema

# Verbs of every stored kind.
VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind in its storage version. versions: served versions, preferred first. schema: of a CRD, by version."""

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    is_custom: bool = False
    schemas: tuple[tuple[str, CustomSchema], ...] = ()
    printer_columns: tuple[tuple[str, str, str], ...] = ()

    def schema(self, version: str) -> CustomSchema | None:
        """What objects of a custom kind must look like in a version; None when nothing is demanded."""
        return next((schema for name, schema in self.schemas if name == version), None)

    @property
    def id(self) -> str:
        """Key of the kind in the store."""
        return f"{self.group}/{self.plural}"

    @property
    def singular(self) -> str:
        return self.kind.lower()

    def api_version(self, version: str | None = None) -> str:
        """As in an object's apiVersion."""
        chosen = version or self.versions[0]
        return f"{self.group}/{chosen}" if self.group else chosen


def _k(
    group: str,
    version: str,
    plural: str,
    kind: str,
    namespaced: bool = True,
    short: str = "",
    sub: str = "",
    categories: str = "",
) -> Kind:
    return Kind(
        group,
        (version,),
        plural,
        kind,
        namespaced,
        tuple(short.split()),
        tuple(sub.split()),
        tuple(categories.split()),
    )


_ADMISSION: Final = "admissionregistration.k8s.io"
_RBAC: Final = "rbac.authorization.k8s.io"

BUILT_IN: Final = (
    _k("", "v1", "namespaces", "Namespace", False, "ns", "status finalize"),
    _k("", "v1", "nodes", "Node", False, "no", "status"),
    _k("", "v1", "pods", "Pod", True, "po", "status log exec attach portforward eviction binding", "all"),
    _k("", "v1", "services", "Service", True, "svc", "status", "all"),
    _k("", "v1", "endpoints", "Endpoints", True, "ep"),
    _k("", "v1", "configmaps", "ConfigMap", True, "cm"),
    _k("", "v1", "secrets", "Secret"),
    _k("", "v1", "serviceaccounts", "ServiceAccount", True, "sa", "token"),
    _k("", "v1", "events", "Event", True, "ev"),
    _k("", "v1", "replicationcontrollers", "ReplicationController", True, "rc", "status", "all"),
    _k("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True, "pvc", "status"),
    _k("", "v1", "persistentvolumes", "PersistentVolume", False, "pv", "status"),
    _k("", "v1", "limitranges", "LimitRange", True, "limits"),
    _k("", "v1", "resourcequotas", "ResourceQuota", True, "quota", "status"),
    _k("apps", "v1", "deployments", "Deployment", True, "deploy", "status scale", "all"),
    _k("apps", "v1", "replicasets", "ReplicaSet", True, "rs", "status scale", "all"),
    _k("apps", "v1", "statefulsets", "StatefulSet", True, "sts", "status scale", "all"),
    _k("apps", "v1", "daemonsets", "DaemonSet", True, "ds", "status", "all"),
    _k("apps", "v1", "controllerrevisions", "ControllerRevision"),
    _k("batch", "v1", "jobs", "Job", True, "", "status", "all"),
    _k("batch", "v1", "cronjobs", "CronJob", True, "cj", "status", "all"),
    _k("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    _k("coordination.k8s.io", "v1", "leases", "Lease"),
    _k("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True, "pdb", "status"),
    _k("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True, "netpol"),
    _k("networking.k8s.io", "v1", "ingresses", "Ingress", True, "ing", "status"),
    _k("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False, "pc"),
    _k(_RBAC, "v1", "roles", "Role"),
    _k(_RBAC, "v1", "rolebindings", "RoleBinding"),
    _k(_RBAC, "v1", "clusterroles", "ClusterRole", False),
    _k(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False),
    _k(_ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False),
    _k(_ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False),
    _k(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        False,
        "crd crds",
        "status",
    ),
    _k("events.k8s.io", "v1", "events", "Event", True, "ev"),
)

# Answered without being stored.
REVIEWS: Final = (
    ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", False),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", False),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", False),
    ("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False),
    ("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", True),
)


def kind_from_crd(crd: dict[str, Any]) -> Kind:
    """The kind a CustomResourceDefinition defines; its storage version comes first. Raises KeyError when incomplete."""
    spec = crd["spec"]
    names = spec["names"]
    served = [version for version in spec["versions"] if version.get("served")]
    served.sort(key=lambda version: not version.get("storage", False))
    subresources = {name for version in served for name in version.get("subresources") or {}}
    columns = served[0].get("additionalPrinterColumns") or [] if served else []
    return Kind(
        group=spec["group"],
        versions=tuple(version["name"] for version in served),
        plural=names["plural"],
        kind=names["kind"],
        namespaced=spec.get("scope", "Namespaced") == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        subresources=tuple(sorted(subresources)),
        categories=tuple(names.get("categories") or ()),
        is_custom=True,
        schemas=tuple((v["name"], CustomSchema(v["schema"]["openAPIV3Schema"])) for v in served if v.get("schema")),
        printer_columns=tuple((c["name"], c["type"], c["jsonPath"]) for c in columns if not c.get("priority")),
    )
