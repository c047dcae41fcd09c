"""What a cluster holds before anybody applies anything: the standard namespaces and the API server's own Service."""

from __future__ import annotations

from typing import Any, Final

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, SERVICES, Resource

STANDARD_NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")


async def write_first_objects(kube: KubeClient, service_ip: str, endpoint: tuple[str, int]) -> None:
    """Create what is missing. endpoint: where pods reach the API server."""
    for name in STANDARD_NAMESPACES:
        await _create(kube, NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    labels = {"component": "apiserver", "provider": "kubernetes"}
    metadata: dict[str, Any] = {"name": "kubernetes", "namespace": "default", "labels": labels}
    address, port = endpoint
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": service_ip,
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    }
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    slice_ = {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}}],
        "ports": ports,
    }
    subsets = [{"addresses": [{"ip": address}], "ports": ports}]
    endpoints = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}
    await _create(kube, SERVICES, service)
    await _create(kube, ENDPOINT_SLICES, slice_)
    await _create(kube, ENDPOINTS, endpoints)


async def _create(kube: KubeClient, resource: Resource, obj: dict[str, Any]) -> None:
    try:
        await kube.create(resource.path(obj["metadata"].get("namespace")), obj)
    except KubeError as error:
        if error.status != 409:
            raise
