"""Whose proxies are asked for live requests and decisions, and what each may show (observability.md 4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from weft_metrics_api.core.pods import Directory, Phase, Pod
from weft_metrics_api.core.resources import EDGE_KINDS, ResourceId
from weft_metrics_api.core.stat import BadQuery, Selector

DEFAULT_MAX_RPS: Final = 100.0
TO_KINDS: Final = (*EDGE_KINDS, "service")
# "job" is what Prometheus calls the scrape job, so discovery labels Jobs otherwise.
_LABELS: Final = {"job": "k8s_job"}


class NothingToTap(ValueError):
    """No pod of the target can be asked; the text says why, pod by pod."""


@dataclass(frozen=True, slots=True)
class End:
    """What is known of one end of a request. workload: the pod itself when nothing owns it."""

    pod: ResourceId
    workload: ResourceId


def tappable_pods(directory: Directory, target: Selector) -> list[Pod]:
    """Pods of the target that can be asked, in name order. Raises BadQuery, NothingToTap."""
    if target.kind not in EDGE_KINDS:
        raise BadQuery(f"{target.kind!r} has no pods to ask; known: {', '.join(EDGE_KINDS)}")
    if not target.name and target.kind != "namespace" and not target.namespace:
        raise BadQuery("a name or a namespace is needed")
    pods = [pod for _, pod in sorted(directory.pods.items()) if _is_of(directory, pod, target)]
    found = [pod for pod in pods if pod.is_tappable]
    if not found:
        raise NothingToTap(_why_not(target, pods))
    return found


def _is_of(directory: Directory, pod: Pod, target: Selector) -> bool:
    resource = directory.resource_of(pod, target.kind)
    return pod.phase is Phase.ACTIVE and resource is not None and target.admits(resource)


def _why_not(target: Selector, pods: list[Pod]) -> str:
    named = f"{target.kind}/{target.name}" if target.name else f"{target.kind}s"
    where = f" in namespace {target.namespace}" if target.namespace else ""
    if not pods:
        return f"{named}{where} has no running pod"
    unmeshed = [pod.key.name for pod in pods if not pod.is_meshed]
    closed = [pod.key.name for pod in pods if pod.is_meshed and pod.tap_port is None]
    reasons = []
    if unmeshed:
        reasons.append(f"not in the mesh: {', '.join(unmeshed)}")
    if closed:
        reasons.append(f"tap is off (viz.linkerd.io/disable-tap, or injected before it was on): {', '.join(closed)}")
    return f"{named}{where} has no pod that can be asked; " + ("; ".join(reasons) or "its pods have no address yet")


def share_of(max_rps: float, pods: int) -> int:
    """Requests per second that each pod may show: an equal part, at least one."""
    return max(1, int((max_rps or DEFAULT_MAX_RPS) / max(pods, 1)))


def destination_labels(to: Selector) -> list[tuple[str, str]]:
    """Discovery labels that requests to a resource carry. Raises BadQuery."""
    if to.kind not in TO_KINDS or not to.name:
        raise BadQuery(f"to: one resource with a name, of {', '.join(TO_KINDS)}")
    labels = [] if to.kind == "namespace" or not to.namespace else [("namespace", to.namespace)]
    return [*labels, (_LABELS.get(to.kind, to.kind), to.name)]


def end_at(directory: Directory, by_ip: dict[str, Pod], ip: str) -> End | None:
    """What has an address; None when no pod we know does, or several do."""
    pod = by_ip.get(ip)
    if pod is None:
        return None
    return End(ResourceId(pod.key.namespace, "pod", pod.key.name), directory.workload_of(pod))
