"""One admission request, answered: gathers what the core needs, lets it decide, records what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from weft_common.log import get_logger

from weft_injector.core.inject import Outcome, annotate_service, inject_pod
from weft_injector.core.json_value import JsonObject
from weft_injector.core.owner import Owner
from weft_injector.core.patch import Add
from weft_injector.core.pod import pod_from_json
from weft_injector.kube.cluster import Cluster
from weft_injector.kube.events import EventWriter
from weft_injector.mesh_files import MeshFiles
from weft_injector.metrics import AdmissionMetrics

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reviewer:
    """The parts one review needs."""

    files: MeshFiles
    cluster: Cluster
    events: EventWriter
    metrics: AdmissionMetrics

    async def review(self, kind: str, namespace: str, obj: JsonObject, *, dry_run: bool) -> tuple[Add, ...]:
        """The patch for a Pod or a Service; nothing for any other kind.

        Raises ValueError (settings or object cannot be used) and KubeError (the cluster cannot be asked).
        """
        match kind:
            case "Pod":
                return await self._review_pod(namespace, obj, dry_run=dry_run)
            case "Service":
                mesh = self.files.read()
                annotations = await self.cluster.namespace_annotations(namespace)
                return annotate_service(mesh.settings, obj, annotations).ops
            case _:
                return ()

    async def _review_pod(self, namespace: str, obj: JsonObject, *, dry_run: bool) -> tuple[Add, ...]:
        mesh = self.files.read()
        annotations = await self.cluster.namespace_annotations(namespace)
        pod = pod_from_json(obj)
        owner = await self.cluster.owner_of(pod, namespace)
        outcome = inject_pod(mesh, pod, namespace, annotations, owner)
        self.metrics.record(owner.kind, namespace, pod.annotations, outcome.decision)
        if not dry_run:
            self._tell(outcome, owner, namespace)
        return outcome.ops

    def _tell(self, outcome: Outcome, owner: Owner, namespace: str) -> None:
        where = {"namespace": namespace, "owner": f"{owner.kind}/{owner.name}"}
        for warning in outcome.warnings:
            _log.warning("annotation left aside", **where, warning=warning)
        if outcome.injected:
            _log.info("pod injected", **where)
            self.events.record(owner, namespace, "Injected", "Linkerd sidecar proxy injected")
            return
        reasons = ", ".join(reason.text for reason in outcome.decision.reasons)
        _log.info("pod not injected", **where, reasons=[reason.value for reason in outcome.decision.reasons])
        self.events.record(owner, namespace, "InjectionSkipped", f"Linkerd sidecar proxy injection skipped: {reasons}")
