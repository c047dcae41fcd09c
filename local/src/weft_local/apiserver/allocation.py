"""What the server adds from the state of the cluster: a pod's service account, a service's address."""

from __future__ import annotations

import random
from collections.abc import Container
from ipaddress import IPv4Network
from typing import Any, Final

from weft_local.apiserver.decoding import Object
from weft_local.apiserver.defaults import with_api_access
from weft_local.apiserver.errors import ApiError, Cause, invalid

# As Kubernetes: no vowels and no look-alikes, so that no words appear.
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
# The first addresses stay free for services that ask for theirs, such as the API server's own.
_FIRST_FREE: Final = 16


def random_suffix(rng: random.Random) -> str:
    """Five characters, as generated names end."""
    return "".join(rng.choice(_ALPHABET) for _ in range(5))


def account_name(pod: Object) -> str:
    return str(pod["spec"].get("serviceAccountName") or "default")


def with_service_account(pod: Object, account: Object | None, rng: random.Random) -> Object:
    """The pod with its account named and the API token mounted. account: None when it does not exist.

    Raises ApiError 403 then, as a cluster does while a namespace is new.
    """
    spec, name, namespace = pod["spec"], account_name(pod), pod["metadata"]["namespace"]
    if account is None:
        shown = pod["metadata"].get("name") or pod["metadata"].get("generateName", "")
        raise ApiError(
            403,
            "Forbidden",
            f'pods "{shown}" is forbidden: error looking up service account {namespace}/{name}: '
            f'serviceaccount "{name}" not found',
        )
    spec = {**spec, "serviceAccountName": name, "serviceAccount": name}
    automount = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
    if automount:
        present = (volume["name"] for volume in spec.get("volumes") or [])
        volume = next((volume for volume in present if volume.startswith("kube-api-access-")), None)
        # A second look, after webhooks have added containers, mounts the volume of the first.
        spec = with_api_access(spec, volume or f"kube-api-access-{random_suffix(rng)}")
    return {**pod, "spec": spec}


def with_cluster_ip(
    service: Object, old: Object | None, taken: Container[str], network: IPv4Network, rng: random.Random
) -> Object:
    """The service with its address: the one it had, the one it asks for, or a free one. Raises ApiError."""
    spec: dict[str, Any] = service["spec"]
    if spec["type"] == "ExternalName":
        return service
    before = (old or {}).get("spec", {}).get("clusterIP")
    ip = spec.get("clusterIP") or before
    if not ip:
        ip = free_address(taken, network, rng)
    elif ip not in ("None", before):
        name = str(service["metadata"].get("name", ""))
        if before:
            cause = Cause("spec.clusterIPs[0]", "FieldValueInvalid", f'Invalid value: "{ip}": may not change once set')
            raise invalid("Service", "", name, (cause,))
        if ip in taken:
            text = f'Invalid value: ["{ip}"]: failed to allocate IP {ip}: provided IP is already allocated'
            raise invalid("Service", "", name, (Cause("spec.clusterIPs", "FieldValueInvalid", text),))
    return {**service, "spec": {**spec, "clusterIP": ip, "clusterIPs": [ip]}}


def free_address(taken: Container[str], network: IPv4Network, rng: random.Random) -> str:
    """Any address of the network that nobody has. Raises ApiError 500 when there is none."""
    usable = range(_FIRST_FREE, network.num_addresses - 1)
    start = rng.randrange(len(usable))
    for offset in range(len(usable)):
        ip = str(network[usable[(start + offset) % len(usable)]])
        if ip not in taken:
            return ip
    raise ApiError(500, "InternalError", f"no free address in the service network {network}")
