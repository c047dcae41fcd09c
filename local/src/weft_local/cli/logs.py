"""`weft local logs`."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from dataclasses import dataclass

from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig, load_kube_config
from weft_common.kube.resource import PODS

from weft_local.cli.errors import BAD_INPUT, Stop
from weft_local.cli.running import require_running
from weft_local.cluster.state import StateDir, read_record, state_dir
from weft_local.cluster.streams import log_chunks

_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Whose log, and how much of it. tail: lines, negative for all."""

    pod: str
    namespace: str
    selector: str
    container: str
    follow: bool
    tail: int
    previous: bool
    cluster: bool


def logs(name: str, query: LogQuery) -> None:
    """Print to standard output. Raises Stop."""
    state = state_dir(name)
    if query.cluster:
        if read_record(state) is None:
            require_running(state)
        asyncio.run(_cluster_log(state, query))
        return
    if bool(query.pod) == bool(query.selector):
        raise Stop("name one POD, or pods by -l LABELS, or the cluster itself by --cluster", BAD_INPUT)
    require_running(state)
    asyncio.run(_pod_logs(load_kube_config(state.kubeconfig, {}), query))


async def _pod_logs(config: KubeConfig, query: LogQuery) -> None:
    pods = [query.pod]
    if query.selector:
        async with KubeClient(config) as kube:
            listed = await kube.list(PODS.path(query.namespace), {"labelSelector": query.selector})
        pods = [item["metadata"]["name"] for item in listed["items"]]
        if not pods:
            raise Stop(f"no pod in namespace {query.namespace!r} has the labels {query.selector}")
    params = {"follow": "true" if query.follow else "false", "previous": "true" if query.previous else "false"}
    if query.container:
        params["container"] = query.container
    if query.tail >= 0:
        params["tailLines"] = str(query.tail)

    async def copy(pod: str) -> None:
        prefix = f"[{pod}] ".encode() if len(pods) > 1 else b""
        pending = b""
        async for chunk in log_chunks(config, query.namespace, pod, params):
            *lines, pending = (pending + chunk).split(b"\n")
            _write(b"".join(prefix + line + b"\n" for line in lines))
        if pending:
            _write(prefix + pending + b"\n")

    if query.follow:
        await asyncio.gather(*map(copy, pods))
        return
    # One after the other, so that the lines of a pod stay together.
    for pod in pods:
        await copy(pod)


async def _cluster_log(state: StateDir, query: LogQuery) -> None:
    with state.log.open("rb") as log:
        _write(b"".join(deque(log, query.tail)) if query.tail >= 0 else log.read())
        while query.follow and (record := read_record(state)) is not None and record.is_running:
            # A file cannot be awaited; its writer is another process.
            await asyncio.sleep(_LOOK_EVERY_S)
            _write(log.read())


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
