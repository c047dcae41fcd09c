"""A pod in, the patch that meshes it out: the one place where decision, settings and containers meet."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from weft_injector.core import opaque_ports
from weft_injector.core.containers import (
    debug_container,
    init_container,
    proxy_container,
    proxy_volumes,
    validator_container,
    xtables_volume,
)
from weft_injector.core.decision import Decision, decide
from weft_injector.core.json_value import JsonObject, object_at, text_map_at
from weft_injector.core.names import (
    CONTROL_PLANE_NS,
    CREATED_BY,
    OPAQUE_PORTS,
    PROXY_VERSION,
    TRUST_ROOT_SHA256,
    WORKLOAD_NS,
)
from weft_injector.core.overrides import effective_settings
from weft_injector.core.owner import Owner
from weft_injector.core.patch import Add, metadata_ops
from weft_injector.core.pod import Pod
from weft_injector.core.proxy_env import proxy_env
from weft_injector.core.settings import BadValues, MeshSettings


@dataclass(frozen=True, slots=True)
class Mesh:
    """What injection needs besides the pod. trust_anchors: PEM bundle. created_by: who injects, and its version."""

    settings: MeshSettings
    trust_anchors: str
    created_by: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """ops: empty when there is nothing to change. warnings: annotations left aside, with the reason."""

    decision: Decision
    ops: tuple[Add, ...]
    warnings: tuple[str, ...] = ()

    @property
    def injected(self) -> bool:
        """Whether the patch adds the proxy."""
        return self.decision.injectable


def decide_pod(mesh: Mesh, pod: Pod, namespace_annotations: Mapping[str, str]) -> Decision:
    """Whether `inject_pod` adds the proxy, without making the patch."""
    return decide(pod, namespace_annotations, token_projection=mesh.settings.token_projection)


def inject_pod(
    mesh: Mesh, pod: Pod, namespace: str, namespace_annotations: Mapping[str, str], owner: Owner | None
) -> Outcome:
    """The patch for a pod: the proxy, or at least its opaque ports. Raises BadSetting, BadValues."""
    decision = decide_pod(mesh, pod, namespace_annotations)
    if not decision.injectable:
        return Outcome(decision, _opaque_ops(pod, namespace_annotations, mesh.settings))
    if not mesh.trust_anchors.strip():
        raise BadValues("the trust bundle is empty: a proxy could trust nobody")
    effective = effective_settings(mesh.settings, namespace_annotations, pod.annotations)
    settings = effective.settings
    added = {
        **effective.written,
        CREATED_BY: mesh.created_by,
        PROXY_VERSION: settings.image.version,
        TRUST_ROOT_SHA256: hashlib.sha256(mesh.trust_anchors.encode()).hexdigest(),
    }
    opaque = opaque_ports.pod_annotation(pod, namespace_annotations, settings.opaque_ports)
    if opaque is not None:
        added[OPAQUE_PORTS] = opaque
    labels = {CONTROL_PLANE_NS: settings.control_plane_namespace}
    if namespace:
        # A manifest may leave its namespace to whoever applies it.
        labels[WORKLOAD_NS] = namespace
    if owner is not None and (label := owner.label()) is not None:
        labels[label[0]] = label[1]
    env = proxy_env(settings, pod, {**pod.annotations, **added}, {**pod.labels, **labels}, mesh.trust_anchors)
    ops = metadata_ops(
        has_metadata=pod.has_metadata,
        has_annotations=bool(pod.annotations),
        has_labels=bool(pod.labels),
        annotations=added,
        labels=labels,
    )
    ops += _spec_ops(settings, pod, env)
    return Outcome(decision, tuple(ops), effective.warnings)


def annotate_service(settings: MeshSettings, service: JsonObject, namespace_annotations: Mapping[str, str]) -> Outcome:
    """The patch for a Service: its opaque ports, if any."""
    metadata = object_at(service, "metadata")
    annotations = text_map_at(metadata, "annotations", "metadata")
    value = opaque_ports.service_annotation(service, annotations, namespace_annotations, settings.opaque_ports)
    return Outcome(decide(None, namespace_annotations), _annotation_ops(value, bool(annotations), bool(metadata)))


def _opaque_ops(pod: Pod, namespace_annotations: Mapping[str, str], settings: MeshSettings) -> tuple[Add, ...]:
    value = opaque_ports.pod_annotation(pod, namespace_annotations, settings.opaque_ports)
    return _annotation_ops(value, bool(pod.annotations), pod.has_metadata)


def _annotation_ops(value: str | None, has_annotations: bool, has_metadata: bool) -> tuple[Add, ...]:
    if value is None:
        return ()
    return tuple(
        metadata_ops(
            has_metadata=has_metadata,
            has_annotations=has_annotations,
            has_labels=True,
            annotations={OPAQUE_PORTS: value},
            labels={},
        )
    )


def _spec_ops(settings: MeshSettings, pod: Pod, env: list[JsonObject]) -> list[Add]:
    ops: list[Add] = []
    if not pod.has_volumes:
        ops.append(Add("/spec/volumes", []))
    if not pod.init_containers:
        ops.append(Add("/spec/initContainers", []))
    # A native sidecar stands before the user's init containers, which are then meshed too.
    init_path = "/spec/initContainers/0" if settings.native_sidecar else "/spec/initContainers/-"
    if settings.cni_enabled:
        ops.append(Add(init_path, validator_container(settings)))
    else:
        ops.append(Add("/spec/volumes/-", xtables_volume(settings)))
        ops.append(Add(init_path, init_container(settings, pod)))
    if settings.debug_sidecar:
        ops.append(Add("/spec/containers/-", debug_container(settings)))
    ops += [Add("/spec/volumes/-", volume) for volume in proxy_volumes(settings)]
    ops.append(Add(_proxy_path(settings), proxy_container(settings, pod, env)))
    return ops


def _proxy_path(settings: MeshSettings) -> str:
    if settings.native_sidecar:
        return "/spec/initContainers/1"
    # First among the containers, its postStart hook holds the others back.
    return "/spec/containers/0" if settings.await_ready else "/spec/containers/-"
