"""Namespace: what every namespace starts with, and how one ends."""

from __future__ import annotations

from typing import Final

from weft_common.kube.resource import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, ObjectKey

from weft_local.controllers.core.objects import is_terminating
from weft_local.controllers.core.plan import NOTHING, Action, Create, EmptyNamespace, Patch, Plan
from weft_local.controllers.core.world import World

ROOT_CA_NAME: Final = "kube-root-ca.crt"
DEFAULT_ACCOUNT: Final = "default"


def reconcile(world: World, name: str, ca_pem: str) -> Plan:
    """Give a namespace its default ServiceAccount and the API server's CA; empty one that is to go."""
    namespace = world.get(NAMESPACES, ObjectKey("", name))
    if namespace is None:
        return NOTHING
    if is_terminating(namespace):
        return Plan((EmptyNamespace(name),))
    actions: list[Action] = []
    if world.get(SERVICE_ACCOUNTS, ObjectKey(name, DEFAULT_ACCOUNT)) is None:
        actions.append(
            Create(
                SERVICE_ACCOUNTS,
                {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": DEFAULT_ACCOUNT, "namespace": name},
                },
            )
        )
    key = ObjectKey(name, ROOT_CA_NAME)
    data = {"ca.crt": ca_pem}
    present = world.get(CONFIG_MAPS, key)
    if present is None:
        metadata = {"name": ROOT_CA_NAME, "namespace": name}
        actions.append(
            Create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        )
    elif present.get("data") != data:
        actions.append(Patch(CONFIG_MAPS, key, {"data": data}))
    return Plan(tuple(actions))
