"""The API server as the node uses it: references from informers, tokens, status writes, events. Raw JSON ends here."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.informer import Informer
from weft_common.kube.resource import CONFIG_MAPS, EVENTS, NODES, PODS, SECRETS, SERVICE_ACCOUNTS, ObjectKey, Resource
from weft_common.log import get_logger

from weft_local.node.core.environment import References
from weft_local.node.core.spec import Json, PodSpec
from weft_local.node.core.status import timestamp
from weft_local.node.core.volumes import TokenRequest
from weft_local.node.settings import NodeSettings

EVENT_QUEUE_LENGTH: Final = 500
HEARTBEAT_S: Final = 60.0
_NOT_FOUND: Final = 404

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Event:
    pod: PodSpec
    kind: str
    reason: str
    message: str
    field_path: str


class ObjectsByNamespace:
    """An informer's sink for ConfigMaps or Secrets: namespace to name to object."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._objects: dict[str, dict[str, Json]] = {}
        self._changed = changed

    def apply(self, key: ObjectKey, obj: Json) -> None:
        """IndexSink."""
        before = self._objects.setdefault(key.namespace, {}).get(key.name)
        self._objects[key.namespace][key.name] = obj
        if before is None or any(before.get(part) != obj.get(part) for part in ("data", "binaryData", "stringData")):
            self._changed(key.namespace)

    def delete(self, key: ObjectKey) -> None:
        """IndexSink. Volumes keep what they show."""
        self._objects.get(key.namespace, {}).pop(key.name, None)

    def reset(self, objs: Mapping[ObjectKey, Json]) -> None:
        """IndexSink."""
        self._objects = {}
        for key, obj in objs.items():
            self._objects.setdefault(key.namespace, {})[key.name] = obj
        for namespace in self._objects:
            self._changed(namespace)

    def of(self, namespace: str) -> Mapping[str, Json]:
        """Objects of one namespace by name."""
        return self._objects.get(namespace, {})


class KubeCluster:
    """`ports.Cluster` over the API server."""

    def __init__(self, kube: KubeClient, settings: NodeSettings, references_changed: Callable[[str], None]) -> None:
        self._kube = kube
        self._settings = settings
        self._config_maps = ObjectsByNamespace(references_changed)
        self._secrets = ObjectsByNamespace(references_changed)
        self._events: asyncio.Queue[_Event] = asyncio.Queue(EVENT_QUEUE_LENGTH)
        self._counted: dict[tuple[str, str, str, str], tuple[str, int]] = {}
        self._informers = [
            _informer(kube, CONFIG_MAPS, self._config_maps),
            _informer(kube, SECRETS, self._secrets),
        ]

    async def run(self) -> None:
        """Follow references, send events and heartbeats until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers:
                tasks.create_task(informer.run(), name=f"informer {informer.resource.plural}")
            tasks.create_task(self._send_events(), name="events")
            tasks.create_task(self._keep_node(), name="node heartbeat")

    async def synced(self) -> None:
        """Return when references are known."""
        for informer in self._informers:
            await informer.synced.wait()

    def references(self, pod: PodSpec, pod_ip: str) -> References:
        """Cluster."""
        return References(
            config_maps=self._config_maps.of(pod.namespace),
            secrets=self._secrets.of(pod.namespace),
            node_ip=str(self._settings.gateway_ip),
            pod_ip=pod_ip,
        )

    async def token(self, pod: PodSpec, request: TokenRequest) -> bytes:
        """Cluster."""
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod.name, "uid": pod.uid}
        spec: dict[str, Any] = {"expirationSeconds": request.ttl_s, "boundObjectRef": bound}
        if request.audience:
            spec["audiences"] = [request.audience]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = SERVICE_ACCOUNTS.path(pod.namespace, pod.service_account, "token")
        answer = await self._kube.create(path, body)
        return str(answer["status"]["token"]).encode()

    async def write_status(self, pod: PodSpec, status: dict[str, Any]) -> bool:
        """Cluster."""
        try:
            await self._kube.patch(
                PODS.path(pod.namespace, pod.name, "status"), {"metadata": {"uid": pod.uid}, "status": status}
            )
        except KubeError as error:
            if error.status == _NOT_FOUND:
                return True
            _log.warning("pod status not written", pod=f"{pod.namespace}/{pod.name}", error=error.message)
            return False
        return True

    async def delete_finally(self, pod: PodSpec) -> None:
        """Cluster. Retried until the API server has taken it: a pod left in Terminating would stay for ever."""
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod.uid},
        }
        delay_s = 0.2
        while True:
            try:
                await self._kube.delete(PODS.path(pod.namespace, pod.name), {"gracePeriodSeconds": "0"}, body=options)
            except KubeError as error:
                if error.status in (_NOT_FOUND, 409):
                    return
                _log.warning("pod not deleted yet", pod=f"{pod.namespace}/{pod.name}", error=error.message)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 10.0)
                continue
            return

    async def bind(self, pod: PodSpec) -> None:
        """The whole scheduler: there is one node. Raises KubeError."""
        body = {"metadata": {"uid": pod.uid}, "spec": {"nodeName": self._settings.node_name}}
        await self._kube.patch(PODS.path(pod.namespace, pod.name), body)

    def event(self, pod: PodSpec, kind: str, reason: str, message: str, container: str = "") -> None:
        """Cluster."""
        try:
            self._events.put_nowait(_Event(pod, kind, reason, message, container))
        except asyncio.QueueFull:
            _log.warning("event dropped", pod=f"{pod.namespace}/{pod.name}", reason=reason)

    async def _send_events(self) -> None:
        while True:
            event = await self._events.get()
            try:
                await self._send(event)
            except KubeError as error:
                _log.debug("event not written", reason=event.reason, error=error.message)

    async def _send(self, event: _Event) -> None:
        pod, now = event.pod, timestamp(time.time())
        key = (pod.uid, event.reason, event.message, event.field_path)
        if known := self._counted.get(key):
            name, count = known
            self._counted[key] = (name, count + 1)
            try:
                await self._kube.patch(EVENTS.path(pod.namespace, name), {"count": count + 1, "lastTimestamp": now})
            except KubeError as error:
                if error.status != _NOT_FOUND:
                    raise
                del self._counted[key]
            return
        if len(self._counted) >= EVENT_QUEUE_LENGTH:
            self._counted.clear()
        name = f"{pod.name}.{time.time_ns():x}"
        reference = {"kind": "Pod", "apiVersion": "v1", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}
        if event.field_path:
            reference["fieldPath"] = event.field_path
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": pod.namespace},
            "involvedObject": reference,
            "type": event.kind,
            "reason": event.reason,
            "message": event.message,
            "source": {"component": "kubelet", "host": self._settings.node_name},
            "reportingComponent": "kubelet",
            "reportingInstance": self._settings.node_name,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._kube.create(EVENTS.path(pod.namespace), body)
        self._counted[key] = (name, 1)

    async def _keep_node(self) -> None:
        while True:
            try:
                await self._write_node()
                await asyncio.sleep(HEARTBEAT_S)
            except KubeError as error:
                _log.warning("node not registered", error=error.message)
                await asyncio.sleep(1.0)

    async def _write_node(self) -> None:
        path = NODES.path(name=self._settings.node_name)
        node = node_object(self._settings, time.time())
        try:
            await self._kube.get(path)
        except KubeError as error:
            if error.status != _NOT_FOUND:
                raise
            await self._kube.create(NODES.path(), node)
        await self._kube.patch(f"{path}/status", {"status": node["status"]})


def node_object(settings: NodeSettings, now: float) -> dict[str, Any]:
    """The Node that stands for this machine."""
    machine = os.uname()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine, machine.machine)
    memory_ki = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    capacity = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory_ki}Ki", "pods": "250"}
    at = timestamp(now)
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "this machine runs pods",
        "lastHeartbeatTime": at,
        "lastTransitionTime": at,
    }
    labels = {
        "kubernetes.io/hostname": settings.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "node-role.kubernetes.io/control-plane": "",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": settings.node_name, "labels": labels},
        "spec": {"podCIDR": str(settings.pod_cidr), "podCIDRs": [str(settings.pod_cidr)]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": str(settings.gateway_ip)},
                {"type": "Hostname", "address": settings.node_name},
            ],
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [ready],
            "nodeInfo": {
                "architecture": architecture,
                "operatingSystem": "linux",
                "kernelVersion": machine.release,
                "osImage": "this machine",
                "containerRuntimeVersion": "weft-local://0.1.0",
                "kubeletVersion": "v1.36.0+weft",
                "kubeProxyVersion": "",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
        },
    }


def _informer(kube: KubeClient, resource: Resource, sink: ObjectsByNamespace) -> Informer[Json]:
    return Informer(kube, resource, lambda raw: raw, sink)
