"""Names of things in the cluster: kinds that have statistics, and one resource."""

from __future__ import annotations

from typing import Final, NamedTuple

# Owners of pods, the outermost first: a pod of a Deployment counts for the Deployment, not for its ReplicaSet.
WORKLOAD_KINDS: Final = (
    "deployment",
    "statefulset",
    "daemonset",
    "cronjob",
    "job",
    "replicaset",
    "replicationcontroller",
)
STAT_KINDS: Final = (*WORKLOAD_KINDS, "pod", "namespace", "service")
EDGE_KINDS: Final = (*WORKLOAD_KINDS, "pod", "namespace")

# The far end of an edge whose client has no proxy and whose address nobody reported.
UNMESHED_KIND: Final = "unmeshed"


class ResourceId(NamedTuple):
    """Namespace (empty for a namespace itself), lower-case singular kind, name."""

    namespace: str
    kind: str
    name: str


UNMESHED_CLIENT: Final = ResourceId("", UNMESHED_KIND, "unmeshed")
