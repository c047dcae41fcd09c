"""The admission counters, with the labels Linkerd's dashboards expect."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter

from weft_injector.core.decision import Decision
from weft_injector.core.overrides import METRIC_LABELS


class AdmissionMetrics:
    """One label per inheritable annotation, holding the pod's own value."""

    def __init__(self, registry: CollectorRegistry) -> None:
        common = ["owner_kind", "namespace", "annotation_at", *METRIC_LABELS.values()]
        self._requests = Counter(
            "proxy_inject_admission_requests", "Pods and services reviewed.", common, registry=registry
        )
        self._responses = Counter(
            "proxy_inject_admission_responses",
            "Pods and services answered, injected or not.",
            [*common, "skip", "skip_reason"],
            registry=registry,
        )

    def asked(self, owner_kind: str, namespace: str, annotations: Mapping[str, str], decision: Decision) -> None:
        """Count a review that was decided, before its patch is made: making it may still fail."""
        self._requests.labels(**_labels(owner_kind, namespace, annotations, decision)).inc()

    def answered(self, owner_kind: str, namespace: str, annotations: Mapping[str, str], decision: Decision) -> None:
        """Count an answer that lets the object in, patched or not."""
        self._responses.labels(
            **_labels(owner_kind, namespace, annotations, decision),
            skip="false" if decision.injectable else "true",
            skip_reason=",".join(reason.value for reason in decision.reasons),
        ).inc()


def _labels(owner_kind: str, namespace: str, annotations: Mapping[str, str], decision: Decision) -> dict[str, str]:
    return {
        "owner_kind": owner_kind,
        "namespace": namespace,
        "annotation_at": decision.annotation_at,
        **{label: annotations.get(key, "") for key, label in METRIC_LABELS.items()},
    }
