"""Raw API objects to the values the core knows. `Any` ends here."""

from __future__ import annotations

import re
from typing import Any, Final

from weft_metrics_api.core.pods import OwnerRef, Phase, Pod, PodKey

PROXY_CONTAINER: Final = "linkerd-proxy"
ADMIN_PORT_NAME: Final = "linkerd-admin"
CONTROL_PLANE_LABEL: Final = "linkerd.io/control-plane-ns"
IDENTITY_VARIABLE: Final = "LINKERD2_PROXY_IDENTITY_LOCAL_NAME"
TAP_VARIABLE: Final = "LINKERD2_PROXY_TAP_SVC_NAME"
CONTROL_LISTEN_VARIABLE: Final = "LINKERD2_PROXY_CONTROL_LISTEN_ADDR"
DEFAULT_CONTROL_PORT: Final = 4190
_REFERENCE: Final = re.compile(r"\$\(([^)]+)\)")


def pod_from(raw: dict[str, Any], control_plane_namespace: str) -> Pod:
    """A pod. Raises KeyError when it has no name."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    key = PodKey(metadata.get("namespace", ""), metadata["name"])
    proxy = _proxy(spec)
    is_meshed = (metadata.get("labels") or {}).get(CONTROL_PLANE_LABEL) == control_plane_namespace
    return Pod(
        key=key,
        uid=metadata.get("uid", ""),
        ip="" if spec.get("hostNetwork") else status.get("podIP", ""),
        phase=_phase(metadata, status),
        owner=owner_from(raw),
        admin_port=_admin_port(proxy) if proxy else None,
        identity=_identity(proxy, key.namespace, spec) if proxy and is_meshed else "",
        is_meshed=is_meshed,
        host_ip=status.get("hostIP", ""),
        tap_port=_tap_port(proxy) if proxy else None,
    )


def owner_from(raw: dict[str, Any]) -> OwnerRef | None:
    """The controller of an object, None when it has none."""
    for reference in raw["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return OwnerRef(reference["kind"].lower(), reference["name"])
    return None


def _proxy(spec: dict[str, Any]) -> dict[str, Any] | None:
    # A native sidecar is an init container that keeps running.
    for section in ("containers", "initContainers"):
        for container in spec.get(section) or []:
            if container.get("name") == PROXY_CONTAINER:
                found: dict[str, Any] = container
                return found
    return None


def _admin_port(proxy: dict[str, Any]) -> int | None:
    for port in proxy.get("ports") or []:
        if port.get("name") == ADMIN_PORT_NAME:
            return int(port["containerPort"])
    return None


def _tap_port(proxy: dict[str, Any]) -> int | None:
    """None when the proxy was told of nobody who may tap it."""
    env = {variable["name"]: str(variable.get("value") or "") for variable in proxy.get("env") or []}
    if not env.get(TAP_VARIABLE):
        return None
    port = env.get(CONTROL_LISTEN_VARIABLE, "").rpartition(":")[2]
    return int(port) if port.isdecimal() else DEFAULT_CONTROL_PORT


def _identity(proxy: dict[str, Any], namespace: str, spec: dict[str, Any]) -> str:
    """The proxy's local name, its references to earlier variables filled in as the kubelet does."""
    known: dict[str, str] = {}
    fields = {"metadata.namespace": namespace, "spec.serviceAccountName": spec.get("serviceAccountName") or "default"}
    for variable in proxy.get("env") or []:
        path = ((variable.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath", "")
        value = fields.get(path) if path else str(variable.get("value") or "")
        if value is not None:
            known[variable["name"]] = _REFERENCE.sub(lambda match: known.get(match[1], match[0]), value)
    return known.get(IDENTITY_VARIABLE, "")


def _phase(metadata: dict[str, Any], status: dict[str, Any]) -> Phase:
    phase = status.get("phase", "Pending")
    if phase == "Failed":
        return Phase.FAILED
    if phase in ("Pending", "Running") and not metadata.get("deletionTimestamp"):
        return Phase.ACTIVE
    return Phase.OTHER
