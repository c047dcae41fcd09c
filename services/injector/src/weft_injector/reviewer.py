"""One admission request, answered: gathers what the core needs, lets it decide, records what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from weft_common.log import get_logger

from weft_injector.core.answer import Admitted, Answer
from weft_injector.core.inject import Outcome, annotate_service, decide_pod, inject_pod
from weft_injector.core.json_value import JsonObject
from weft_injector.core.owner import Owner
from weft_injector.core.patch import Add
from weft_injector.core.pod import pod_from_json
from weft_injector.core.policy import review_policy
from weft_injector.kube.cluster import Cluster
from weft_injector.kube.events import Event, EventWriter
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

    async def review(self, kind: str, namespace: str, obj: JsonObject, *, dry_run: bool) -> Answer:
        """The patch for a Pod or a Service; nothing for any other kind.

        Raises ValueError (settings or object cannot be used) and KubeError (the cluster cannot be asked).
        """
        match kind:
            case "Pod":
                return Admitted(await self._review_pod(namespace, obj, dry_run=dry_run))
            case "Service":
                return Admitted(await self._review_service(namespace, obj))
            case _:
                return Admitted()

    async def _review_service(self, namespace: str, obj: JsonObject) -> tuple[Add, ...]:
        mesh = self.files.read()
        outcome = annotate_service(mesh.settings, obj, await self.cluster.namespace_annotations(namespace))
        self.metrics.asked("service", namespace, {}, outcome.decision)
        self.metrics.answered("service", namespace, {}, outcome.decision)
        return outcome.ops

    async def _review_pod(self, namespace: str, obj: JsonObject, *, dry_run: bool) -> tuple[Add, ...]:
        mesh = self.files.read()
        annotations = await self.cluster.namespace_annotations(namespace)
        pod = pod_from_json(obj)
        owner = await self.cluster.owner_of(pod, namespace)
        counted = (owner.kind, namespace, pod.annotations, decide_pod(mesh, pod, annotations))
        self.metrics.asked(*counted)
        try:
            outcome = inject_pod(mesh, pod, namespace, annotations, owner)
        except ValueError as error:
            if not dry_run:
                # The user sees it on the workload too, not only where the pod was refused.
                self.events.record(owner, namespace, Event.REFUSED, f"Linkerd sidecar proxy not injected: {error}")
            raise
        self.metrics.answered(*counted)
        if not dry_run:
            self._tell(outcome, owner, namespace)
        return outcome.ops

    def _tell(self, outcome: Outcome, owner: Owner, namespace: str) -> None:
        where = {"namespace": namespace, "owner": f"{owner.kind}/{owner.name}"}
        for warning in outcome.warnings:
            _log.warning("annotation left aside", **where, warning=warning)
        if outcome.warnings:
            self.events.record(owner, namespace, Event.LEFT_ASIDE, "; ".join(outcome.warnings))
        if outcome.injected:
            _log.info("pod injected", **where)
            self.events.record(owner, namespace, Event.INJECTED, "Linkerd sidecar proxy injected")
            return
        reasons = ", ".join(reason.text for reason in outcome.decision.reasons)
        _log.info("pod not injected", **where, reasons=[reason.value for reason in outcome.decision.reasons])
        self.events.record(owner, namespace, Event.SKIPPED, f"Linkerd sidecar proxy injection skipped: {reasons}")


async def validate(kind: str, namespace: str, obj: JsonObject, *, dry_run: bool) -> Answer:
    """The review of a policy object. It changes and stores nothing, so a dry run is no different."""
    answer = review_policy(kind, obj)
    if isinstance(answer, Admitted):
        for warning in answer.warnings:
            _log.warning("policy cannot be read in full", kind=kind, namespace=namespace, warning=warning)
    return answer
