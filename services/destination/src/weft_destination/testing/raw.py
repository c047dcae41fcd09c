"""Cluster objects as the API has them, as small as tests need."""

from __future__ import annotations

from typing import Any

Raw = dict[str, Any]


def raw_service(
    name: str,
    namespace: str = "shop",
    *,
    ports: list[Raw] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Raw:
    ports = [{"port": 80, "targetPort": 8080, "name": "http"}] if ports is None else ports
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }


def raw_pod(
    name: str,
    ip: str,
    namespace: str = "shop",
    *,
    mesh: str = "linkerd",
    annotations: dict[str, str] | None = None,
    node: str = "n1",
    containers: list[Raw] | None = None,
    status: Raw | None = None,
    **spec: Any,
) -> Raw:
    app = {"name": "app", "image": "app", "ports": [{"containerPort": 8080, "name": "http"}]}
    env = [
        {"name": "LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "value": "[::]:4143"},
        {"name": "LINKERD2_PROXY_ADMIN_LISTEN_ADDR", "value": "[::]:4191"},
        {"name": "LINKERD2_PROXY_CONTROL_LISTEN_ADDR", "value": "[::]:4190"},
    ]
    proxy = {"name": "linkerd-proxy", "image": "proxy", "env": env, "restartPolicy": "Always"}
    labels = {"linkerd.io/control-plane-ns": mesh} if mesh else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}, "labels": labels},
        "spec": {
            "nodeName": node,
            "serviceAccountName": "default",
            "containers": containers or [app],
            **({"initContainers": [proxy]} if mesh else {}),
            **spec,
        },
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], **(status or {})},
    }


def raw_endpoint(pod: str, ip: str, namespace: str = "shop", *, ready: bool = True, **more: Any) -> Raw:
    return {
        "addresses": [ip],
        "conditions": {"ready": ready},
        "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace},
        **more,
    }


def raw_slice(name: str, service: str, endpoints: list[Raw], namespace: str = "shop", port: int = 8080) -> Raw:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    }
