"""One pod's life on this node: a loop around `core.lifecycle.decide`, and the tasks that carry its actions out.

Owns the pod's address, namespace, volumes and containers. All state changes happen in this module's event loop, so
there is one writer. The order of shutdown is the core's; this module only knows how to start, stop and watch.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from weft_common.kube.client import KubeError
from weft_common.log import get_logger

from weft_local.node.checks import run_check
from weft_local.node.container import LINGER_S, CannotStart, RunningContainer, start_container
from weft_local.node.core import lifecycle
from weft_local.node.core.environment import ReferenceMissing
from weft_local.node.core.lifecycle import ContainerState, Ended, Stage, Start, Stop
from weft_local.node.core.probing import ProbeState, after_result
from weft_local.node.core.spec import ContainerSpec, Hook, PodSpec, Probe, Role, Sleep
from weft_local.node.core.status import PodFacts, pod_status
from weft_local.node.images import ImageUnknown
from weft_local.node.ledger import Ledger
from weft_local.node.logs import ContainerLogs, last_lines
from weft_local.node.network import PodNetwork
from weft_local.node.pod_files import PodFiles
from weft_local.node.ports import Cluster
from weft_local.node.settings import NodeSettings
from weft_local.node.volume_files import VolumeUnsupported

# Until a container has been ready once it is asked this often: most are ready long before their first period ends.
EAGER_PERIOD_S: Final = 0.5
# However little of the grace period is left, a container gets this long between SIGTERM and SIGKILL.
MIN_GRACE_S: Final = 2.0
STATUS_RETRY_S: Final = 1.0

_log = get_logger(__name__)


class PodWorker:
    """Runs one pod until it is finished and gone. `update` and `wake` come from outside; everything else is inside."""

    def __init__(
        self,
        pod: PodSpec,
        ip: IPv4Address,
        settings: NodeSettings,
        network: PodNetwork,
        ledger: Ledger,
        cluster: Cluster,
    ) -> None:
        self.pod = pod
        self.ip = ip
        self._settings = settings
        self._network = network
        self._ledger = ledger
        self._cluster = cluster
        self._files = PodFiles(pod, str(ip), settings, cluster)
        self.states: dict[str, ContainerState] = {c.name: ContainerState() for c in pod.containers}
        self._running: dict[str, RunningContainer] = {}
        self._grace_override_s: dict[str, int] = {}
        self.logs = {
            c.name: ContainerLogs(settings.log_dir(pod.namespace, pod.name, pod.uid) / c.name) for c in pod.containers
        }
        self.netns: Path | None = None
        self._changed = asyncio.Event()
        self._refresh = asyncio.Event()
        self._status_changed = asyncio.Event()
        self._network_lock = asyncio.Lock()
        self._tasks: asyncio.TaskGroup | None = None
        self._stop_deadline: float | None = None
        self._failure: tuple[str, str] | None = None
        self._started_at = time.time()
        self._written: dict[str, Any] = {}
        self._evicted = False

    # --- from outside -------------------------------------------------------------------------------------------

    def update(self, pod: PodSpec) -> None:
        """The API's object changed."""
        self.pod = pod
        self._files.pod = pod
        self._changed.set()

    def references_changed(self) -> None:
        """A ConfigMap or Secret of the namespace changed: refresh volumes, and try again what waited for it."""
        for name, state in self.states.items():
            if state.stage is Stage.WAITING and state.retry_at:
                self.states[name] = replace(state, retry_at=0.0)
        self._refresh.set()
        self._changed.set()

    def evict(self) -> None:
        """Stop the pod though the API server still has it: the node is going down."""
        self._evicted = True
        self._changed.set()

    def running(self, container: str) -> RunningContainer | None:
        """The live process of a container."""
        return self._running.get(container)

    async def fail(self, error: BaseException) -> None:
        """Our own fault: show it on the pod instead of leaving its last state standing."""
        self._failure = ("NodeError", f"the node could not go on with this pod: {error!r}")
        await self._publish()

    @property
    def is_stopping(self) -> bool:
        return self.pod.deleting or self._evicted or self._failure is not None

    # --- the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live and die. Returns when nothing of the pod is left on this machine."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                keeper = tasks.create_task(self._keep_volumes(), name="volumes")
                writer = tasks.create_task(self._write_status_changes(), name="status")
                await self._live(tasks)
                keeper.cancel()
                writer.cancel()
            if not self.pod.deleting and not self._evicted:
                # Finished by itself; its object stays, with its logs, until somebody deletes it.
                await self._publish()
                await self._until_deleted()
            else:
                await self._publish()
        finally:
            await self._tear_down()
        if self.pod.deleting:
            await self._cluster.delete_finally(self.pod)

    async def _live(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._changed.clear()
            now = time.time()
            deadline = self.pod.active_deadline_s
            if deadline is not None and self._failure is None and now >= self._started_at + deadline:
                self._failure = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
            if self.is_stopping and self._stop_deadline is None:
                self._stop_deadline = now + self.pod.grace_s
            decision = lifecycle.decide(self.pod, self.states, stopping=self.is_stopping, now=now)
            if decision.finished:
                return
            for action in decision.actions:
                match action:
                    case Start(name):
                        self.states[name] = lifecycle.starting(self.states[name])
                        tasks.create_task(self._run_container(self._spec(name)), name=f"container {name}")
                    case Stop(name):
                        self.states[name] = replace(self.states[name], stage=Stage.STOPPING, ready=False)
                        tasks.create_task(self._stop_container(self._spec(name)), name=f"stop {name}")
            wait_until = [decision.look_again_at, self._started_at + deadline if deadline is not None else None]
            timeout_s = min((at - now for at in wait_until if at is not None), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if timeout_s is None else max(0.0, timeout_s)):
                    await self._changed.wait()

    def _spec(self, name: str) -> ContainerSpec:
        spec = self.pod.container(name)
        assert spec is not None, name
        return spec

    def _set(self, name: str, state: ContainerState) -> None:
        if self.states[name] != state:
            self.states[name] = state
            self._changed.set()
            self._notify()

    # --- containers ---------------------------------------------------------------------------------------------

    async def _run_container(self, spec: ContainerSpec) -> None:
        name = spec.name
        try:
            netns = await self._network_namespace()
            launch = await self._files.launch_spec(spec, netns)
            if self.states[name].runs == 0:
                self._event("Normal", "Pulled", f"Image {spec.image!r} stands for {launch.argv[0]!r} here", spec)
            self._event("Normal", "Created", f"Created container {name}", spec)
            process = await start_container(launch, self._ledger)
        except (ReferenceMissing, ValueError) as error:
            self._not_started(spec, "CreateContainerConfigError", str(error))
            return
        except ImageUnknown as error:
            self._not_started(spec, "ErrImagePull", str(error))
            return
        except (VolumeUnsupported, KubeError, OSError) as error:
            self._not_started(spec, "ContainerCreating", f"cannot prepare the container: {error}")
            return
        except CannotStart as error:
            self._start_failed(spec, str(error))
            return
        instance = f"{self.pod.uid}-{name}-{self.states[name].runs}"
        log = self.logs[name].new_run()
        self._running[name] = process
        stopping = self.states[name].stage is Stage.STOPPING
        state = lifecycle.running(self.states[name], spec, instance, time.time())
        self._set(name, replace(state, stage=Stage.STOPPING, ready=False) if stopping else state)
        self._event("Normal", "Started", f"Started container {name}", spec)
        async with asyncio.TaskGroup() as tasks:
            pump = tasks.create_task(process.pump_output(log), name=f"log {name}")
            watch = tasks.create_task(self._watch(spec, process), name=f"probes {name}")
            code = await process.wait()
            watch.cancel()
            # A program may hand its output to something that outlives it for a moment; it must not hold us forever.
            await asyncio.wait([pump], timeout=2.0)
            pump.cancel()
        log.close()
        del self._running[name]
        self._notify()
        self._ended(spec, code, last_lines(log), instance)
        # The kernel takes a tenth of a second to let go of an overlay. The next run has a place of its own.
        await asyncio.to_thread(shutil.rmtree, launch.scratch, ignore_errors=True)

    def _not_started(self, spec: ContainerSpec, reason: str, message: str) -> None:
        state = self.states[spec.name]
        if state.waiting_message != message:
            self._event("Warning", "Failed" if reason != "ContainerCreating" else "FailedMount", message, spec)
        self._set(spec.name, lifecycle.not_started(state, reason, message, time.time()))

    def _start_failed(self, spec: ContainerSpec, message: str) -> None:
        """As Kubernetes shows it: a run that ended with 128 and reason StartError."""
        self._event("Warning", "Failed", f"Error: {message}", spec)
        now = time.time()
        state = self.states[spec.name]
        end = Ended(128, "StartError", now, now, message, f"{self.pod.uid}-{spec.name}-{state.runs}")
        restarts = lifecycle.will_restart(self.pod, spec, 128)
        counted = replace(state, runs=state.runs + 1, restarts=state.runs)
        self._set(spec.name, lifecycle.ended(counted, end, will_restart=restarts))

    def _ended(self, spec: ContainerSpec, code: int, tail: str, instance: str) -> None:
        state = self.states[spec.name]
        message = self._files.termination_message(spec)
        if not message and spec.log_as_message and code != 0:
            message = tail
        now = time.time()
        reason = "Completed" if code == 0 else "Error"
        end = Ended(code, reason, state.started_at, now, message, instance)
        restarts = not self.is_stopping and lifecycle.will_restart(self.pod, spec, code)
        if restarts:
            self._event(
                "Warning" if code else "Normal", "BackOff", f"Back-off restarting failed container {spec.name}", spec
            )
        self._grace_override_s.pop(spec.name, None)
        self._set(spec.name, lifecycle.ended(state, end, will_restart=restarts))

    async def _stop_container(self, spec: ContainerSpec) -> None:
        process = self._running.get(spec.name)
        while process is None:
            # Being started; it cannot be stopped before it runs, and it may yet fail to.
            state = self.states[spec.name]
            if not state.is_up:
                return
            await self._status_changed.wait()
            process = self._running.get(spec.name)
        self._event("Normal", "Killing", f"Stopping container {spec.name}", spec)
        now = time.time()
        grace_s = float(self._grace_override_s.get(spec.name, self.pod.grace_s))
        deadline = min(now + grace_s, self._stop_deadline or now + grace_s)
        if spec.pre_stop is not None:
            detail = await self._hook(spec.pre_stop, spec, process, max(0.0, deadline - time.time()))
            if detail:
                self._event("Warning", "FailedPreStopHook", detail, spec)
        left_s = max(MIN_GRACE_S, deadline - time.time()) if self.pod.grace_s > 0 else 0.0
        if process.handles(signal.SIGTERM):
            process.send(signal.SIGTERM)
        else:
            # Open requests matter only while there is somebody to send them.
            left_s = 0.0 if self._evicted else min(left_s, LINGER_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                while self._running.get(spec.name) is process:
                    await self._status_changed.wait()
        process.send(signal.SIGKILL)

    async def _hook(self, hook: Hook, spec: ContainerSpec, process: RunningContainer, timeout_s: float) -> str:
        """What went wrong; empty for nothing."""
        if isinstance(hook, Sleep):
            await asyncio.sleep(min(hook.seconds, timeout_s))
            return ""
        result = await run_check(hook, spec, str(self.ip), process.execute, timeout_s)
        return "" if result.passed else result.detail

    # --- probes -------------------------------------------------------------------------------------------------

    async def _watch(self, spec: ContainerSpec, process: RunningContainer) -> None:
        name = spec.name
        if spec.post_start is not None:
            detail = await self._hook(spec.post_start, spec, process, 600.0)
            if detail:
                self._event("Warning", "FailedPostStartHook", detail, spec)
                self._kill(spec)
                return
        if spec.startup is not None and not await self._probe_until(spec, process, spec.startup):
            self._kill(spec)
            return
        self._set(name, replace(self.states[name], started=True, ready=spec.readiness is None and self._serves(name)))
        async with asyncio.TaskGroup() as tasks:
            if spec.readiness is not None:
                tasks.create_task(self._probe_readiness(spec, process, spec.readiness))
            if spec.liveness is not None:
                tasks.create_task(self._probe_liveness(spec, process, spec.liveness))

    def _serves(self, name: str) -> bool:
        return self.states[name].stage is Stage.RUNNING

    async def _probe_until(self, spec: ContainerSpec, process: RunningContainer, probe: Probe) -> bool:
        """A startup probe's verdict. Asks often, but counts a failure only once per period."""
        await asyncio.sleep(probe.initial_delay_s)
        state = ProbeState()
        counted_at = time.monotonic()
        while state.verdict is None:
            began = time.monotonic()
            result = await run_check(probe.check, spec, str(self.ip), process.execute, probe.timeout_s)
            if result.passed or began - counted_at >= probe.period_s:
                counted_at = began
                state = after_result(probe, state, passed=result.passed)
                if not result.passed:
                    self._event("Warning", "Unhealthy", f"Startup probe failed: {result.detail}", spec)
            if state.verdict is None:
                await asyncio.sleep(min(EAGER_PERIOD_S, probe.period_s))
        return state.verdict

    async def _probe_readiness(self, spec: ContainerSpec, process: RunningContainer, probe: Probe) -> None:
        await asyncio.sleep(probe.initial_delay_s)
        state = ProbeState()
        eager_until = time.monotonic() + 60.0
        while True:
            result = await run_check(probe.check, spec, str(self.ip), process.execute, probe.timeout_s)
            state = after_result(probe, state, passed=result.passed)
            if state.verdict is not None:
                ready = state.verdict and self._serves(spec.name)
                self._set(spec.name, replace(self.states[spec.name], ready=ready))
            ever_ready = self.states[spec.name].ready
            if not result.passed and (state.verdict is not None and state.failures % probe.failure_threshold == 0):
                self._event("Warning", "Unhealthy", f"Readiness probe failed: {result.detail}", spec)
            eager = not ever_ready and time.monotonic() < eager_until
            await asyncio.sleep(min(EAGER_PERIOD_S, probe.period_s) if eager else probe.period_s)

    async def _probe_liveness(self, spec: ContainerSpec, process: RunningContainer, probe: Probe) -> None:
        await asyncio.sleep(probe.initial_delay_s or probe.period_s)
        state = ProbeState()
        while state.verdict is not False:
            result = await run_check(probe.check, spec, str(self.ip), process.execute, probe.timeout_s)
            state = after_result(probe, state, passed=result.passed)
            if not result.passed:
                self._event("Warning", "Unhealthy", f"Liveness probe failed: {result.detail}", spec)
            if state.verdict is not False:
                await asyncio.sleep(probe.period_s)
        if probe.grace_s is not None:
            self._grace_override_s[spec.name] = int(probe.grace_s)
        self._kill(spec)

    def _kill(self, spec: ContainerSpec) -> None:
        """End a run that failed a check; the lifecycle decides whether another follows."""
        if self._serves(spec.name) and self._tasks is not None:
            self._set(spec.name, replace(self.states[spec.name], stage=Stage.STOPPING, ready=False))
            self._tasks.create_task(self._stop_container(spec), name=f"kill {spec.name}")

    # --- status, volumes, network -------------------------------------------------------------------------------

    def _notify(self) -> None:
        """Wake everyone who waits for a state to change."""
        event, self._status_changed = self._status_changed, asyncio.Event()
        event.set()

    async def _write_status_changes(self) -> None:
        while True:
            changed = self._status_changed
            if not await self._publish():
                with suppress(TimeoutError):
                    async with asyncio.timeout(STATUS_RETRY_S):
                        await changed.wait()
                continue
            await changed.wait()

    async def _publish(self) -> bool:
        """Write the status if it differs from the last one written. False when it could not be written."""
        facts = PodFacts(
            pod_ip=str(self.ip) if self.netns is not None else "",
            host_ip=str(self._settings.gateway_ip),
            started_at=self._started_at,
            failure=self._failure,
        )
        # Conditions that others wrote (readiness gates) are in the API's object, ours in what we wrote last.
        theirs = {c["type"]: c for c in (self.pod.raw.get("status") or {}).get("conditions") or ()}
        ours = {c["type"]: c for c in self._written.get("conditions") or ()}
        previous = {**(self.pod.raw.get("status") or {}), "conditions": list({**theirs, **ours}.values())}
        status = pod_status(self.pod, self.states, facts, time.time(), previous)
        if status == self._written:
            return True
        if not await self._cluster.write_status(self.pod, status):
            return False
        self._written = status
        return True

    async def _keep_volumes(self) -> None:
        """Refresh what volumes show when its source changes or a token grows old."""
        while True:
            try:
                renew_in_s = await self._files.refresh()
            except (ReferenceMissing, ValueError, KubeError, OSError) as error:
                _log.warning("volume not refreshed", pod=f"{self.pod.namespace}/{self.pod.name}", error=str(error))
                renew_in_s = 10.0
            with suppress(TimeoutError):
                async with asyncio.timeout(renew_in_s):
                    await self._refresh.wait()
            self._refresh.clear()

    async def _network_namespace(self) -> Path:
        async with self._network_lock:
            if self.netns is None:
                self.netns = await self._network.add_pod(self.pod.uid, self.ip)
                self._notify()
            return self.netns

    async def _until_deleted(self) -> None:
        while not (self.pod.deleting or self._evicted):
            self._changed.clear()
            await self._changed.wait()

    async def _tear_down(self) -> None:
        for process in self._running.values():
            process.send(signal.SIGKILL)
        await self._network.remove_pod(self.pod.uid)
        self._files.remove()
        if self.pod.deleting:
            shutil.rmtree(self._settings.log_dir(self.pod.namespace, self.pod.name, self.pod.uid), ignore_errors=True)

    def _event(self, kind: str, reason: str, message: str, spec: ContainerSpec) -> None:
        group = "containers" if spec.role is Role.APP else "initContainers"
        self._cluster.event(self.pod, kind, reason, message, f"spec.{group}{{{spec.name}}}")
