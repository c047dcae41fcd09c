"""Where a Service can be reached from the host: used for admission webhooks and for the web UI's address.

Answers from the API server's store, because the API server calls webhooks while it is answering a write.
"""

from __future__ import annotations

import random

from weft_common.kube.resource import ObjectKey

from weft_local.apiserver.operations import Operations

_SERVICE_LABEL = "kubernetes.io/service-name"


def ready_address(operations: Operations, namespace: str, name: str, port: int) -> tuple[str, int]:
    """Address and port of a ready endpoint of a Service port. Raises LookupError saying what is missing."""
    kinds, storage = operations.kinds, operations.storage
    service = storage.find(kinds["/services"], ObjectKey(namespace, name))
    if service is None:
        raise LookupError(f"service {namespace}/{name} does not exist")
    service_port = next((one for one in service["spec"].get("ports") or () if one["port"] == port), None)
    if service_port is None:
        raise LookupError(f"service {namespace}/{name} has no port {port}")
    found = []
    for stored in storage.all(kinds["discovery.k8s.io/endpointslices"], namespace):
        slice_ = stored.obj
        if (slice_["metadata"].get("labels") or {}).get(_SERVICE_LABEL) != name:
            continue
        for slice_port in slice_.get("ports") or ():
            if slice_port.get("name", "") != service_port.get("name", ""):
                continue
            found += [
                (str(endpoint["addresses"][0]), int(slice_port["port"]))
                for endpoint in slice_.get("endpoints") or ()
                if (endpoint.get("conditions") or {}).get("ready", True)
            ]
    if not found:
        raise LookupError(f"no endpoints available for service {namespace}/{name}")
    return random.choice(found)
