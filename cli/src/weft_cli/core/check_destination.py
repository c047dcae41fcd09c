"""How fresh destination's answers are: the numbers it exports in, a category of checks out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from weft_cli.core.check_model import Category, verdict

_SAMPLE: Final = re.compile(r'^(?P<name>\w+)(?:\{(?:resource="(?P<resource>[^"]*)")?[^}]*\})? (?P<value>\S+)$')


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One destination pod. stale: kinds it cannot follow now. snapshot_age_s: 0 while no snapshot is served."""

    pod: str
    stale: tuple[str, ...] = ()
    snapshot_age_s: float = 0.0
    has_redis: bool = True


def replica_state(pod: str, metrics: str) -> ReplicaState:
    """metrics: Prometheus text. What a replica of another version does not export counts as fine."""
    samples = [found.groupdict() for line in metrics.splitlines() if (found := _SAMPLE.match(line))]
    numbers = {sample["name"]: float(sample["value"]) for sample in samples}
    return ReplicaState(
        pod,
        tuple(
            sorted(
                sample["resource"]
                for sample in samples
                if sample["name"] == "weft_destination_stale" and sample["resource"] and float(sample["value"]) > 0
            )
        ),
        numbers.get("weft_destination_snapshot_age_seconds", 0.0),
        numbers.get("weft_redis_up", 1.0) > 0,
    )


def destination_category(replicas: Sequence[ReplicaState], *, redis_is_installed: bool) -> Category:
    """Empty when no replica could be asked. Everything here warns: traffic goes on."""
    if not replicas:
        return Category("weft-destination", ())
    return Category(
        "weft-destination",
        (
            verdict(
                "destination follows the cluster",
                [
                    f"{replica.pod} serves the last it knew of {', '.join(replica.stale)}"
                    for replica in replicas
                    if replica.stale
                ],
                "can its pod reach the API server, and may it watch these kinds? kubectl logs shows what it is told",
                warning=True,
            ),
            verdict(
                "endpoints come from the cluster",
                [
                    f"{replica.pod} serves a snapshot from Redis that is {_age(replica)} old"
                    for replica in replicas
                    if replica.snapshot_age_s > 0
                ],
                "it started while the API server was away; it follows the cluster as soon as it has listed it",
                warning=True,
            ),
            verdict(
                "destination can write snapshots",
                [f"{replica.pod} has no Redis" for replica in replicas if not replica.has_redis and redis_is_installed],
                "nothing fails without it; a replica that starts while the API server is away has nothing to say",
                warning=True,
            ),
        ),
    )


def _age(replica: ReplicaState) -> timedelta:
    return timedelta(seconds=round(replica.snapshot_age_s))
