"""Who is at the far end of an outbound series: from the proxy's discovery labels, else from the target's address."""

from __future__ import annotations

from collections.abc import Mapping

from weft_metrics_api.core.pods import Directory, Pod, PodKey
from weft_metrics_api.core.resources import ResourceId
from weft_metrics_api.core.series import Series


def destination_pod(series: Series, directory: Directory, pods_by_ip: Mapping[str, Pod]) -> Pod | None:
    """The pod an outbound series goes to; None when it is not one we know."""
    destination = series.destination
    if destination.pod:
        return directory.pods.get(PodKey(destination.namespace, destination.pod))
    return pods_by_ip.get(series.target_ip)


def destination_of(series: Series, kind: str, directory: Directory, pods_by_ip: Mapping[str, Pod]) -> ResourceId | None:
    """What an outbound series goes to, as a resource of a kind; None when it goes to nothing of the kind."""
    destination = series.destination
    if kind == "service":
        return ResourceId(destination.namespace, kind, destination.service) if destination.service else None
    if kind == "namespace" and destination.namespace:
        return ResourceId("", kind, destination.namespace)
    if kind == "pod" and destination.pod:
        return ResourceId(destination.namespace, kind, destination.pod)
    if destination.workload is not None and destination.workload.kind == kind:
        return destination.workload
    pod = destination_pod(series, directory, pods_by_ip)
    return directory.resource_of(pod, kind) if pod is not None else None


def destination_workload(series: Series, directory: Directory, pods_by_ip: Mapping[str, Pod]) -> ResourceId | None:
    """The outermost owner of what an outbound series goes to; None when it leaves the cluster's pods."""
    pod = destination_pod(series, directory, pods_by_ip)
    if pod is not None:
        return directory.workload_of(pod)
    destination = series.destination
    if destination.workload is not None:
        return destination.workload
    return ResourceId(destination.namespace, "pod", destination.pod) if destination.pod else None
