"""What this replica serves now, in the terms of the snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from weft_policy.core.endpoints import EndpointSet, Locality, endpoints_of
from weft_policy.core.names import ServiceTarget
from weft_policy.wire.encode_destination import full_update

from weft_destination.answers import Answers
from weft_destination.kube.follow import ClusterFollower


@dataclass(frozen=True, slots=True)
class ServedAnswers:
    """Implements ServedNow."""

    answers: Answers
    follower: ClusterFollower

    def snapshot(self, target: ServiceTarget) -> bytes | None:
        """A target's endpoints for a client nothing is known of; None when there are none."""
        found = endpoints_of(self.answers.index, self.answers.mesh, target, Locality())
        if not isinstance(found, EndpointSet) or not found.endpoints:
            return None
        return full_update(found).SerializeToString()

    def targets(self) -> Iterable[ServiceTarget]:
        """Targets of open streams."""
        return {question.target for question in self.answers.endpoints.questions()}

    def version(self) -> int | None:
        """Of the slices; None until the first list, and while the API server is away."""
        return self.follower.version()
