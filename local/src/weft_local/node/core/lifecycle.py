"""What to do next with the containers of a pod: start order, restarts and their back-off, stop order.

Level-triggered: `decide` looks at all states at one moment and returns what should happen now, and when to look again
though nothing changed. Nothing here remembers having asked; a container that is being started or stopped says so in
its state. Time is seconds since the epoch, given by the caller.

Restart delays are shorter than a cluster's (1 s doubling to 60 s instead of 10 s to 300 s): on a developer's machine
the wait costs more than the restarts. A container that ran for RESET_AFTER_S starts over at the shortest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from weft_local.node.core.spec import ContainerSpec, PodSpec, RestartPolicy, Role

RESTART_MIN_S: Final = 1.0
RESTART_MAX_S: Final = 60.0
RESET_AFTER_S: Final = 120.0


class Stage(Enum):
    """WAITING: not started, or between runs. STARTING and STOPPING: the shell is at work on it."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class Ended:
    """One finished run. reason: Completed, Error, OOMKilled, StartError."""

    exit_code: int
    reason: str
    started_at: float
    finished_at: float
    message: str = ""
    instance: str = ""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """waiting_reason: why it does not run, as kubectl shows it. started: its startup probe has passed, or it has none.

    ready: its readiness probe says so. failures: runs in a row that count for the back-off.
    """

    stage: Stage = Stage.WAITING
    waiting_reason: str = "PodInitializing"
    waiting_message: str = ""
    started_at: float = 0.0
    restarts: int = 0
    failures: int = 0
    retry_at: float = 0.0
    started: bool = False
    ready: bool = False
    instance: str = ""
    ended: Ended | None = None
    last: Ended | None = None
    runs: int = 0

    @property
    def is_up(self) -> bool:
        return self.stage in (Stage.STARTING, Stage.RUNNING, Stage.STOPPING)


@dataclass(frozen=True, slots=True)
class Start:
    container: str


@dataclass(frozen=True, slots=True)
class Stop:
    container: str


Action = Start | Stop
States = Mapping[str, ContainerState]


@dataclass(frozen=True, slots=True)
class Decision:
    """look_again_at: None when only an event can change anything. finished: nothing runs and nothing ever will."""

    actions: tuple[Action, ...] = ()
    look_again_at: float | None = None
    finished: bool = False


def decide(pod: PodSpec, states: States, *, stopping: bool, now: float) -> Decision:
    """What should happen now. stopping: the pod is being deleted or has outlived its deadline."""
    if stopping:
        return _wind_down(pod, states)
    plan = _Plan(pod, states, now)
    if not plan.walk_init_containers():
        # A failed init container of a pod that is never restarted ends the pod.
        return _wind_down(pod, states) if plan.failed else plan.decision()
    apps = pod.of_role(Role.APP)
    for app in apps:
        plan.keep(app)
    if apps and all(_is_final(pod, app, states[app.name]) for app in apps):
        return _wind_down(pod, states)
    return plan.decision()


class _Plan:
    """Collects actions while walking the containers of one pod at one moment."""

    def __init__(self, pod: PodSpec, states: States, now: float) -> None:
        self._pod, self._states, self._now = pod, states, now
        self._actions: list[Action] = []
        self._look_again_at: float | None = None
        self.failed = False

    def walk_init_containers(self) -> bool:
        """Whether main containers may run."""
        begun = is_initialized(self._pod, self._states)
        for spec in self._pod.of_role(Role.INIT, Role.SIDECAR):
            state = self._states[spec.name]
            if spec.role is Role.SIDECAR:
                self.keep(spec)
                if not begun and not (state.stage is Stage.RUNNING and state.started):
                    return False
                continue
            if begun or (state.stage is Stage.TERMINATED and state.ended is not None and state.ended.exit_code == 0):
                continue
            if _is_final(self._pod, spec, state):
                self.failed = True
                return False
            self.keep(spec)
            return False
        return True

    def keep(self, spec: ContainerSpec) -> None:
        """Start a container that should run and does not, when its time has come."""
        state = self._states[spec.name]
        if state.is_up or _is_final(self._pod, spec, state):
            return
        if state.retry_at > self._now:
            self._look_again_at = min(self._look_again_at or state.retry_at, state.retry_at)
            return
        self._actions.append(Start(spec.name))

    def decision(self) -> Decision:
        return Decision(tuple(self._actions), self._look_again_at)


def is_initialized(pod: PodSpec, states: States) -> bool:
    """Whether every init container has done its part once: main containers have run, or nothing holds them back."""
    if any(states[c.name].runs > 0 or states[c.name].is_up for c in pod.of_role(Role.APP)):
        return True
    for spec in pod.of_role(Role.INIT, Role.SIDECAR):
        state = states[spec.name]
        if spec.role is Role.SIDECAR:
            if not (state.stage is Stage.RUNNING and state.started):
                return False
        elif state.ended is None or state.ended.exit_code != 0 or state.stage is not Stage.TERMINATED:
            return False
    return True


def _is_final(pod: PodSpec, spec: ContainerSpec, state: ContainerState) -> bool:
    if state.stage is not Stage.TERMINATED or state.ended is None:
        return False
    succeeded = state.ended.exit_code == 0
    if spec.role is Role.SIDECAR:
        return False
    if spec.role is Role.INIT:
        return succeeded or pod.restart_policy is RestartPolicy.NEVER
    if pod.restart_policy is RestartPolicy.ALWAYS:
        return False
    return succeeded or pod.restart_policy is RestartPolicy.NEVER


def _wind_down(pod: PodSpec, states: States) -> Decision:
    """Main and init containers first, together; then sidecars one by one, the last started first."""
    first = [c for c in pod.of_role(Role.APP, Role.INIT) if states[c.name].is_up]
    if first:
        return Decision(tuple(Stop(c.name) for c in first if states[c.name].stage is not Stage.STOPPING))
    for spec in reversed(pod.of_role(Role.SIDECAR)):
        state = states[spec.name]
        if state.is_up:
            return Decision((Stop(spec.name),) if state.stage is not Stage.STOPPING else ())
    return Decision(finished=True)


# --- what happened ----------------------------------------------------------------------------------------------


def starting(state: ContainerState) -> ContainerState:
    """The shell has begun to start it. kubectl shows ContainerCreating, or the trouble of the last run."""
    reason = state.waiting_reason if state.waiting_reason in _LASTING else "ContainerCreating"
    return replace(state, stage=Stage.STARTING, waiting_reason=reason)


def running(state: ContainerState, spec: ContainerSpec, instance: str, now: float) -> ContainerState:
    """Its program runs."""
    return replace(
        state,
        stage=Stage.RUNNING,
        waiting_reason="",
        waiting_message="",
        started_at=now,
        started=spec.startup is None and spec.post_start is None,
        ready=spec.readiness is None and spec.startup is None and spec.post_start is None,
        instance=instance,
        restarts=state.runs,
        runs=state.runs + 1,
        last=state.ended or state.last,
        ended=None,
    )


def not_started(state: ContainerState, reason: str, message: str, now: float) -> ContainerState:
    """It could not be started for something outside it: an image without a command, a missing ConfigMap."""
    failures = state.failures + 1
    return replace(
        state,
        stage=Stage.WAITING,
        waiting_reason=reason,
        waiting_message=message,
        failures=failures,
        retry_at=now + restart_delay_s(failures),
    )


def ended(state: ContainerState, end: Ended, *, will_restart: bool) -> ContainerState:
    """Its program is gone."""
    long_lived = end.finished_at - end.started_at >= RESET_AFTER_S
    failures = 1 if long_lived else state.failures + 1
    delay_s = restart_delay_s(failures)
    return replace(
        state,
        stage=Stage.TERMINATED,
        ended=end,
        started=False,
        ready=False,
        failures=failures,
        retry_at=end.finished_at + delay_s if will_restart else 0.0,
        # The first end shows as it is; from the second on the pod is in a crash loop.
        waiting_reason="CrashLoopBackOff" if will_restart and failures > 1 else "",
        waiting_message=f"back-off {delay_s:.0f}s restarting failed container" if will_restart else "",
    )


def will_restart(pod: PodSpec, spec: ContainerSpec, exit_code: int) -> bool:
    """Whether a run that ended so is followed by another."""
    probe = ContainerState(stage=Stage.TERMINATED, ended=Ended(exit_code, "", 0.0, 0.0))
    return not _is_final(pod, spec, probe)


def restart_delay_s(failures: int) -> float:
    """Seconds before the next start after so many failures in a row (>= 1)."""
    return float(min(RESTART_MAX_S, RESTART_MIN_S * 2.0 ** min(failures - 1, 10)))


_LASTING: Final = frozenset(["CrashLoopBackOff", "ErrImagePull", "CreateContainerConfigError"])
