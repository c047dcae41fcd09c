"""Bringing a cluster up, step by step: its process, its control plane, the user's objects; then waiting for them.

A step that fails before anything of the user's is applied takes down what it started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.config import load_kube_config
from weft_common.kube.resource import CUSTOM_RESOURCE_DEFINITIONS, MUTATING_WEBHOOKS, NAMESPACES, SERVICE_ACCOUNTS

from weft_local.cluster import charts
from weft_local.cluster.apply import apply_all
from weft_local.cluster.daemon import Order
from weft_local.cluster.down import take_down
from weft_local.cluster.measuring import until_measured
from weft_local.cluster.ports import port_holder
from weft_local.cluster.process import spawn, until_serving
from weft_local.cluster.readiness import Pending
from weft_local.cluster.state import Record, StateDir, running
from weft_local.cluster.waiting import until_ready
from weft_local.manifests.check import DEFAULT_NAMESPACE, Surroundings, find_problems, namespaced
from weft_local.manifests.documents import Document
from weft_local.manifests.problems import BadManifests
from weft_local.manifests.rehearsal import Rehearsal
from weft_local.node.preflight import preflight
from weft_local.node.settings import DEFAULT_SERVICE_CIDR

# The injector stands after identity has given its proxy a certificate and destination answers it.
CONTROL_PLANE_S: Final = 120.0
# Two rounds of scrapes; workloads without traffic are not waited for any longer.
NUMBERS_S: Final = 8.0
INJECTOR: Final = (charts.CONTROL_PLANE, "linkerd-proxy-injector")


class CannotRunHere(Exception):
    """This machine cannot run pods. The text holds a paragraph for each reason."""


class Progress(Protocol):
    """Who is told how it goes."""

    def step(self, text: str) -> None:
        """A new step begins."""

    def waiting(self, pending: Sequence[Pending]) -> None:
        """What the step waits for now."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to bring up. documents: in the order given. parent: the process to end with, 0 to outlive it."""

    state: StateDir
    documents: Sequence[Document]
    manifests: tuple[str, ...]
    entrypoints: Mapping[str, tuple[str, ...]]
    control_plane: bool
    parent: int


async def check_manifests(wish: Wish) -> None:
    """Raises BadManifests with every problem, before anything is started or applied."""
    record = running(wish.state)
    existing: list[dict[str, Any]] = []
    if record is None and wish.control_plane and wish.documents:
        existing += charts.definitions()
    if record is not None:
        async with client(wish.state) as kube:
            for resource in (NAMESPACES, SERVICE_ACCOUNTS, CUSTOM_RESOURCE_DEFINITIONS):
                items = (await kube.list(resource.path()))["items"]
                existing += [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in items]
    around = Surroundings(existing, wish.entrypoints, port_holder)
    problems = await find_problems(wish.documents, around, Rehearsal(DEFAULT_SERVICE_CIDR))
    if problems:
        raise BadManifests(problems)


async def start(wish: Wish, progress: Progress) -> Record:
    """Start the cluster's process and its control plane. Raises CannotRunHere, StartFailed, ChartsFailed, NotReady."""
    if reasons := preflight():
        raise CannotRunHere("\n\n".join(reasons))
    state = wish.state
    found = charts.find_charts() if wish.control_plane else None
    # What a killed predecessor left would be in the way.
    await asyncio.to_thread(take_down, state, progress.step)
    progress.step("starting the cluster")
    state.root.mkdir(mode=0o700, parents=True)
    try:
        order = Order(
            name=state.name,
            state_dir=str(state.root),
            working_dir=str(Path.cwd()),
            entrypoints={name: list(words) for name, words in wish.entrypoints.items()},
            manifests=list(wish.manifests),
            parent=wish.parent,
        )
        order.write(state.order)
        process = spawn(state)
        async with asyncio.TaskGroup() as group:
            # Helm and the process start side by side; each takes about a second.
            rendering = group.create_task(_control_plane(found, state)) if found is not None else None
            serving = group.create_task(until_serving(state, process))
        if rendering is not None:
            progress.step("installing the control plane")
            async with client(state) as kube:
                await apply_all(kube, rendering.result())
    except BaseException as error:
        await asyncio.to_thread(take_down, state, progress.step)
        if isinstance(error, ExceptionGroup):
            raise error.exceptions[0] from error
        raise
    return serving.result()


async def apply_documents(wish: Wish, progress: Progress) -> int:
    """Apply the user's objects and return how many; once the injector answers, since it acts when pods are made."""
    if not wish.documents:
        return 0
    async with client(wish.state) as kube:
        if await _has_injector(kube):
            progress.step("waiting for the injector")
            await until_ready(kube, CONTROL_PLANE_S, progress.waiting, {INJECTOR})
        progress.step(f"applying {len(wish.documents)} objects")
        return await apply_all(kube, [namespaced(document) for document in wish.documents])


def client(state: StateDir) -> KubeClient:
    """A client of a running cluster."""
    return KubeClient(load_kube_config(state.kubeconfig, {}))


async def wait_for_all(state: StateDir, timeout_s: float, told: Callable[[Sequence[Pending]], None]) -> None:
    """Wait until every workload is ready. Raises NotReady."""
    async with client(state) as kube:
        await until_ready(kube, timeout_s, told)


async def wait_for_numbers(wish: Wish) -> None:
    """Wait a little until the metrics of the user's workloads have begun."""
    async with client(wish.state) as kube:
        await until_measured(kube, {document.namespace or DEFAULT_NAMESPACE for document in wish.documents}, NUMBERS_S)


async def _control_plane(found: charts.Charts, state: StateDir) -> list[dict[str, Any]]:
    charts.write_values(state)
    return await charts.render(found, state)


async def _has_injector(kube: KubeClient) -> bool:
    try:
        listed = await kube.list(MUTATING_WEBHOOKS.path())
    except KubeError:
        return False
    return any(INJECTOR[1] in item["metadata"]["name"] for item in listed["items"])
