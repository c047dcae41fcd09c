"""`weft local status`: the cluster, its pods, and for those in trouble the reason and their last log lines."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import typer
from weft_common.kube.resource import PODS

from weft_local.apiserver.tables import age, pod_ready, pod_status
from weft_local.cli.running import require_running
from weft_local.cluster.readiness import pod_trouble
from weft_local.cluster.state import Record, StateDir, state_dir
from weft_local.cluster.up import client
from weft_local.cluster.waiting import last_words


@dataclass(frozen=True, slots=True)
class PodRow:
    """One pod. why and log: empty when nothing is wrong."""

    namespace: str
    name: str
    ready: str
    status: str
    restarts: int
    ip: str
    age: str
    why: str
    log: list[str]


def status(name: str, *, as_json: bool) -> None:
    """Print it."""
    state = state_dir(name)
    record = require_running(state)
    rows = asyncio.run(_rows(state))
    if as_json:
        typer.echo(json.dumps(as_object(record, state, rows, time.time()), indent=2))
    else:
        _print(record, state, rows)


def as_object(record: Record, state: StateDir, rows: list[PodRow], now: float) -> dict[str, Any]:
    """The JSON form."""
    return {
        "name": record.name,
        "pid": record.pid,
        "uptime_s": round(now - record.started_at, 1),
        "api": record.api,
        "web": record.web,
        "kubeconfig": str(state.kubeconfig),
        "log": str(state.log),
        "manifests": list(record.manifests),
        "pods": [{field: getattr(row, field) for field in PodRow.__slots__} for row in rows],
    }


async def _rows(state: StateDir) -> list[PodRow]:
    rows = []
    async with client(state) as kube:
        for pod in (await kube.list(PODS.path()))["items"]:
            trouble = pod_trouble(pod)
            log = await last_words(kube, trouble) if trouble is not None and trouble.is_crashing else []
            rows.append(row_from_pod(pod, trouble.why if trouble is not None else "", log, time.time()))
    return rows


def row_from_pod(pod: dict[str, Any], why: str, log: list[str], now: float) -> PodRow:
    """What to show of a pod."""
    metadata, state = pod["metadata"], pod.get("status") or {}
    statuses = [*(state.get("initContainerStatuses") or ()), *(state.get("containerStatuses") or ())]
    return PodRow(
        namespace=metadata["namespace"],
        name=metadata["name"],
        ready=pod_ready(pod),
        status=pod_status(pod),
        restarts=sum(int(one.get("restartCount", 0)) for one in statuses),
        ip=str(state.get("podIP") or ""),
        age=age(metadata.get("creationTimestamp"), now),
        why=why,
        log=log,
    )


def _print(record: Record, state: StateDir, rows: list[PodRow]) -> None:
    minutes, seconds = divmod(int(time.time() - record.started_at), 60)
    typer.echo(f"cluster      {record.name}, up {minutes}m{seconds}s, pid {record.pid}")
    typer.echo(f"web UI       {record.web}")
    typer.echo(f"API          {record.api}")
    typer.echo(f"kubeconfig   {state.kubeconfig}\n")
    heads = ("NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "IP", "AGE")
    cells = [(r.namespace, r.name, r.ready, r.status, str(r.restarts), r.ip, r.age) for r in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for line in (heads, *cells):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        if row.log or row.status == "CrashLoopBackOff":
            typer.echo(f"\n{row.namespace}/{row.name}: {row.why}")
            for text in row.log:
                typer.echo(f"  | {text}")
