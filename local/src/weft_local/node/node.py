"""The node: turns pods of the API server into running processes, and answers for them.

`run` follows pods and owns one worker per pod. It also is the API server's `PodRuntime`: logs, commands inside
containers, connections into pods.
"""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.informer import Informer
from weft_common.kube.resource import PODS, ObjectKey
from weft_common.log import get_logger

from weft_local.apiserver.runtime import ContainerProcess, RuntimeRefused
from weft_local.node.cluster_api import KubeCluster
from weft_local.node.core.addresses import AddressPool
from weft_local.node.core.spec import PodSpec, Role, pod_from_json
from weft_local.node.ledger import Ledger
from weft_local.node.logs import RunLog, read_log
from weft_local.node.network import PodNetwork
from weft_local.node.pod import PodWorker
from weft_local.node.settings import NodeSettings
from weft_local.node.terminal import TerminalProcess

_log = get_logger(__name__)


class Node:
    """One machine of the cluster. Use: `async with KubeClient(...) as kube: await Node(settings).run(kube, stop)`."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._workers: dict[ObjectKey, PodWorker] = {}
        self._waiting: dict[ObjectKey, PodSpec] = {}
        self._addresses = AddressPool(settings.pod_cidr, reserved=2)
        self._network: PodNetwork | None = None
        self._ledger: Ledger | None = None
        self._cluster: KubeCluster | None = None
        self._kube: KubeClient | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = False
        self._emptied = asyncio.Event()
        self.ready = asyncio.Event()

    async def run(self, kube: KubeClient, stop: asyncio.Event) -> None:
        """Run pods until stop is set; then stop them all, in their order, and return when they are gone."""
        _watch_children_without_threads()
        settings = self._settings
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings.state_dir.chmod(0o700)
        self._ledger = Ledger(settings.state_dir / "processes")
        self._network = PodNetwork(settings)
        self._cluster = KubeCluster(kube, settings, self._references_changed)
        self._kube = kube
        informer = Informer(kube, PODS, pod_from_json, self)
        try:
            await self._network.setup_host()
            async with asyncio.TaskGroup() as services:
                cluster = services.create_task(self._cluster.run(), name="cluster")
                await self._cluster.synced()
                async with asyncio.TaskGroup() as pods:
                    self._tasks = pods
                    watch = services.create_task(informer.run(), name="informer pods")
                    await informer.synced.wait()
                    self.ready.set()
                    await stop.wait()
                    self._stop_all()
                # Workers are done; what they wrote last is written.
                watch.cancel()
                cluster.cancel()
        finally:
            self._network.close()

    # --- the pods' index ----------------------------------------------------------------------------------------

    def apply(self, key: ObjectKey, obj: PodSpec) -> None:
        """IndexSink: a pod is new or changed."""
        worker = self._workers.get(key)
        if worker is not None:
            if worker.pod.uid == obj.uid:
                worker.update(obj)
            else:
                # Deleted and made again while we did not look: the old one goes first.
                self._waiting[key] = obj
                worker.evict()
            return
        if obj.node_name not in ("", self._settings.node_name) or self._stopping or self._tasks is None:
            return
        assert self._network is not None
        assert self._ledger is not None
        assert self._cluster is not None
        ip = self._addresses.take()
        worker = PodWorker(obj, ip, self._settings, self._network, self._ledger, self._cluster)
        self._workers[key] = worker
        self._tasks.create_task(self._run_pod(key, worker), name=f"pod {key.namespace}/{key.name}")

    def delete(self, key: ObjectKey) -> None:
        """IndexSink: the object is gone; its processes have to follow."""
        self._waiting.pop(key, None)
        if worker := self._workers.get(key):
            worker.evict()

    def reset(self, objs: Mapping[ObjectKey, PodSpec]) -> None:
        """IndexSink."""
        for key in set(self._workers) - set(objs):
            self.delete(key)
        for key, obj in objs.items():
            self.apply(key, obj)

    async def _run_pod(self, key: ObjectKey, worker: PodWorker) -> None:
        assert self._cluster is not None
        try:
            if not worker.pod.node_name and not worker.pod.deleting:
                try:
                    await self._cluster.bind(worker.pod)
                except KubeError as error:
                    _log.warning("pod not bound", pod=f"{key.namespace}/{key.name}", error=error.message)
                else:
                    self._cluster.event(
                        worker.pod, "Normal", "Scheduled", f"Successfully assigned {key.namespace}/{key.name}"
                    )
            await worker.run()
        except Exception as error:
            # One pod's trouble must not take the others down; what is left of it was torn down on the way.
            _log.exception("pod failed", pod=f"{key.namespace}/{key.name}")
            await worker.fail(error)
        finally:
            self._addresses.give_back(worker.ip)
            del self._workers[key]
        if (successor := self._waiting.pop(key, None)) is not None:
            self.apply(key, successor)

    def _stop_all(self) -> None:
        self._stopping = True
        for worker in self._workers.values():
            worker.evict()

    def _references_changed(self, namespace: str) -> None:
        for key, worker in self._workers.items():
            if key.namespace == namespace:
                worker.references_changed()

    # --- PodRuntime ---------------------------------------------------------------------------------------------

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool,
        tail_lines: int | None,
        since_s: float | None,
        timestamps: bool,
        previous: bool,
    ) -> AsyncIterator[bytes]:
        """PodRuntime."""
        worker = self._worker(namespace, pod)
        name = self._container_name(worker, container)
        log: RunLog | None = worker.logs[name].run(previous=previous)
        if log is None:
            what = "previous terminated container" if previous else "container"
            state = worker.states[name]
            why = state.waiting_message or state.waiting_reason
            raise RuntimeRefused(f"{what} {name!r} in pod {pod!r} has no logs yet" + (f": {why}" if why else ""))
        since_ns = None if since_s is None else int((time.time() - since_s) * 1e9)
        return read_log(log, follow=follow, tail_lines=tail_lines, since_ns=since_ns, timestamps=timestamps)

    async def exec(self, namespace: str, pod: str, container: str, argv: Sequence[str], tty: bool) -> ContainerProcess:
        """PodRuntime."""
        worker = self._worker(namespace, pod)
        name = self._container_name(worker, container)
        running = worker.running(name)
        if running is None:
            reason = worker.states[name].waiting_reason or worker.states[name].stage.value
            raise RuntimeRefused(f"container {name!r} in pod {pod!r} is not running: {reason}")
        if not tty:
            return await running.execute(argv, stdin=asyncio.subprocess.PIPE)
        ours, theirs = pty.openpty()
        try:
            process = await running.execute(argv, stdin=theirs, stdout=theirs, stderr=theirs, tty=True)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return await TerminalProcess.attach(process, ours)

    async def dial(self, namespace: str, pod: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """PodRuntime."""
        worker = self._worker(namespace, pod)
        if worker.netns is None or self._network is None:
            raise RuntimeRefused(f"pod {pod!r} has no network yet")
        try:
            sock = await self._network.connect(worker.netns, ("127.0.0.1", port))
        except OSError as error:
            raise RuntimeRefused(f"cannot connect to port {port} in pod {pod!r}: {error.strerror or error}") from error
        return await asyncio.open_connection(sock=sock)

    def _worker(self, namespace: str, pod: str) -> PodWorker:
        worker = self._workers.get(ObjectKey(namespace, pod))
        if worker is None:
            raise RuntimeRefused(f"pod {pod!r} in namespace {namespace!r} is not on this node (yet)")
        return worker

    def _container_name(self, worker: PodWorker, name: str) -> str:
        if name in worker.states:
            return name
        if name:
            known = ", ".join(worker.states)
            raise RuntimeRefused(f"pod {worker.pod.name!r} has no container {name!r}; it has {known}")
        annotated = (worker.pod.metadata.get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
        if annotated in worker.states:
            return str(annotated)
        return worker.pod.of_role(Role.APP)[0].name


def _watch_children_without_threads() -> None:
    """Before Python 3.12 asyncio spends a thread on every child; Linux can do without."""
    if sys.version_info < (3, 12):
        with suppress(NotImplementedError, OSError):
            watcher = asyncio.PidfdChildWatcher()
            watcher.attach_loop(asyncio.get_running_loop())
            asyncio.set_child_watcher(watcher)
