"""What a cluster would make of manifests: pods of workloads, addresses, endpoint slices. With nothing running.

One pod stands for every workload. Addresses are of networks for documentation (RFC 5737), so they are nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from weft_policy.kube.parse import CONTROL_PLANE_NAMESPACE

Raw = dict[str, Any]

_TEMPLATES: Final = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"})
_INJECT: Final = "linkerd.io/inject"
_INBOUND: Final = {"name": "LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "value": "0.0.0.0:4143"}


def imagined(objects: Iterable[Raw], control_plane_namespace: str = "linkerd") -> list[Raw]:
    """The objects, every namespace filled in, and what a cluster would add to them."""
    placed = [_placed(obj) for obj in objects]
    injects = {
        obj["metadata"]["name"]: _annotation(obj["metadata"], _INJECT) for obj in placed if obj["kind"] == "Namespace"
    }
    pods = [
        _pod(obj, f"192.0.2.{number % 254 + 1}", injects, control_plane_namespace)
        for number, obj in enumerate(obj for obj in placed if obj["kind"] in _TEMPLATES or obj["kind"] == "Pod")
    ]
    services = [obj for obj in placed if (obj["apiVersion"], obj["kind"]) == ("v1", "Service")]
    for number, service in enumerate(services):
        service["spec"].setdefault("clusterIP", f"198.51.100.{number % 254 + 1}")
    slices = [piece for service in services for piece in _slices(service, pods)]
    return [*(obj for obj in placed if obj["kind"] != "Pod"), *pods, *slices]


def _placed(obj: Raw) -> Raw:
    metadata = dict(obj.get("metadata") or {})
    if obj.get("kind") != "Namespace":
        metadata.setdefault("namespace", "default")
    return {**obj, "metadata": metadata, "spec": dict(obj.get("spec") or {})}


def _pod(workload: Raw, ip: str, injects: dict[str, str], control_plane_namespace: str) -> Raw:
    metadata = workload["metadata"]
    template = workload if workload["kind"] == "Pod" else workload["spec"].get("template") or {}
    inner = template.get("metadata") or {}
    spec = dict(template.get("spec") or {})
    labels = dict(inner.get("labels") or {})
    inject = _annotation(inner, _INJECT) or injects.get(metadata["namespace"], "")
    if inject in ("enabled", "ingress"):
        labels[CONTROL_PLANE_NAMESPACE] = control_plane_namespace
        spec["containers"] = [*spec.get("containers", ()), {"name": "linkerd-proxy", "env": [_INBOUND]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": inner.get("annotations") or {},
        },
        "spec": spec,
        "status": {"phase": "Running", "podIP": ip},
    }


def _slices(service: Raw, pods: Iterable[Raw]) -> Iterator[Raw]:
    """One slice for each pod, since pods may name different ports alike."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    selector = service["spec"].get("selector") or {}
    for pod in pods:
        metadata = pod["metadata"]
        if not selector or metadata["namespace"] != namespace or not selector.items() <= metadata["labels"].items():
            continue
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-{metadata['name']}",
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [
                {"name": port.get("name") or "", "port": _target_port(port, pod), "protocol": "TCP"}
                for port in service["spec"].get("ports") or ()
            ],
            "endpoints": [
                {
                    "addresses": [pod["status"]["podIP"]],
                    "targetRef": {"kind": "Pod", "name": metadata["name"], "namespace": namespace},
                }
            ],
        }


def _target_port(port: Raw, pod: Raw) -> int | None:
    wanted = port.get("targetPort") or port["port"]
    if isinstance(wanted, int):
        return wanted
    containers = pod["spec"].get("containers") or ()
    declared = (declared for container in containers for declared in container.get("ports") or ())
    return next((one["containerPort"] for one in declared if one.get("name") == wanted), None)


def _annotation(metadata: Raw, name: str) -> str:
    return str((metadata.get("annotations") or {}).get(name) or "")
