"""Whether a pod is to be injected, and every reason why not.

Reasons accumulate: a report that names one of three obstacles makes people come back three times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from weft_injector.core.names import (
    INIT_CONTAINER,
    INJECT,
    INJECT_DISABLED,
    INJECT_ENABLED,
    INJECT_INGRESS,
    PROXY_CONTAINER,
)
from weft_injector.core.pod import Container, Pod


class SkipReason(Enum):
    """value: the code of metrics; text: for people."""

    HOST_NETWORK = "host_network_enabled"
    SIDECAR_EXISTS = "sidecar_already_exists"
    UNSUPPORTED_RESOURCE = "unsupported_resource"
    BAD_NAMESPACE_ANNOTATION = "invalid_inject_annotation_at_ns"
    BAD_WORKLOAD_ANNOTATION = "invalid_inject_annotation_at_workload"
    DISABLED = "injection_disable_annotation_present"
    NOT_ENABLED = "injection_enable_annotation_absent"
    NO_TOKEN = "disabled_automount_service_account_token_account"  # noqa: S105 - a reason's code

    @property
    def text(self) -> str:
        """The reason in words."""
        return _TEXTS[self]


_TEXTS: Final = {
    SkipReason.HOST_NETWORK: "hostNetwork is enabled",
    SkipReason.SIDECAR_EXISTS: "pod has a sidecar injected already",
    SkipReason.UNSUPPORTED_RESOURCE: "this resource kind is unsupported",
    SkipReason.BAD_NAMESPACE_ANNOTATION: f"invalid value for annotation {INJECT} at the namespace",
    SkipReason.BAD_WORKLOAD_ANNOTATION: f"invalid value for annotation {INJECT} at the workload",
    SkipReason.DISABLED: f'pod has the annotation "{INJECT}:{INJECT_DISABLED}"',
    SkipReason.NOT_ENABLED: f'neither the namespace nor the pod have the annotation "{INJECT}:{INJECT_ENABLED}"',
    SkipReason.NO_TOKEN: "automountServiceAccountToken is false, or the pod mounts no service-account token",
}

_ENABLING: Final = frozenset({INJECT_ENABLED, INJECT_INGRESS})
_KNOWN: Final = _ENABLING | {INJECT_DISABLED}
_SIDECAR_NAMES: Final = frozenset({PROXY_CONTAINER, "istio-proxy"})
_SIDECAR_IMAGES: Final = ("cr.l5d.io/linkerd/proxy:", "gcr.io/istio-release/proxyv2:", "weft/proxy:")
_INIT_NAMES: Final = frozenset({INIT_CONTAINER, "istio-init"})
_INIT_IMAGES: Final = ("cr.l5d.io/linkerd/proxy-init:", "gcr.io/istio-release/proxy_init:")


@dataclass(frozen=True, slots=True)
class Decision:
    """annotation_at: where injection was asked for or refused: namespace, workload, or empty. No reasons: inject."""

    reasons: tuple[SkipReason, ...]
    annotation_at: str

    @property
    def injectable(self) -> bool:
        """Whether nothing stands against it."""
        return not self.reasons


def decide(pod: Pod | None, namespace_annotations: Mapping[str, str], *, token_projection: bool = True) -> Decision:
    """pod None: an object without a pod template, such as a Service."""
    reasons: list[SkipReason] = []
    if pod is None:
        return Decision((SkipReason.UNSUPPORTED_RESOURCE,), "")
    if pod.host_network:
        reasons.append(SkipReason.HOST_NETWORK)
    if has_sidecar(pod):
        reasons.append(SkipReason.SIDECAR_EXISTS)
    refusal, annotation_at = _asked_for(namespace_annotations.get(INJECT, ""), pod.annotations.get(INJECT, ""))
    if refusal is not None:
        reasons.append(refusal)
    if not token_projection and not _mounts_token(pod):
        reasons.append(SkipReason.NO_TOKEN)
    return Decision(tuple(reasons), annotation_at)


def _asked_for(namespace: str, workload: str) -> tuple[SkipReason | None, str]:
    if namespace and namespace not in _KNOWN:
        return SkipReason.BAD_NAMESPACE_ANNOTATION, ""
    if workload and workload not in _KNOWN:
        return SkipReason.BAD_WORKLOAD_ANNOTATION, ""
    if namespace in _ENABLING:
        if workload == INJECT_DISABLED:
            return SkipReason.DISABLED, "workload"
        return None, "namespace"
    if workload in _ENABLING:
        return None, "workload"
    return SkipReason.NOT_ENABLED, ""


def has_sidecar(pod: Pod) -> bool:
    """Whether a mesh's proxy or its init container is in the pod already, ours or a known other one."""
    return any(_is(c, _SIDECAR_NAMES, _SIDECAR_IMAGES) for c in pod.all_containers()) or any(
        _is(c, _INIT_NAMES, _INIT_IMAGES) for c in pod.init_containers
    )


def _is(container: Container, names: frozenset[str], images: tuple[str, ...]) -> bool:
    return container.name in names or container.image.startswith(images)


def _mounts_token(pod: Pod) -> bool:
    return pod.automounts_token and bool(pod.containers) and pod.containers[0].service_account_mount is not None
