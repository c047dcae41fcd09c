"""When repeated checks amount to a verdict: thresholds over consecutive results."""

from __future__ import annotations

from dataclasses import dataclass, replace

from weft_local.node.core.spec import Probe


@dataclass(frozen=True, slots=True)
class ProbeState:
    """verdict: None until the first threshold is reached."""

    verdict: bool | None = None
    successes: int = 0
    failures: int = 0


def after_result(probe: Probe, state: ProbeState, *, passed: bool) -> ProbeState:
    """Count one result; the verdict changes when its threshold is reached."""
    if passed:
        state = replace(state, successes=state.successes + 1, failures=0)
        return replace(state, verdict=True) if state.successes >= probe.success_threshold else state
    state = replace(state, failures=state.failures + 1, successes=0)
    return replace(state, verdict=False) if state.failures >= probe.failure_threshold else state
