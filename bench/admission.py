"""Injection as the API server asks for it: one injector on one core, pods at a steady rate over TLS.

The injector runs from its charts against an API server, whose namespaces and ReplicaSets it watches. The rate
is kept whatever the answers take (open loop), so a slow answer shows in its own latency and in nobody else's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from bench.report import machine, write_json
from bench.usage import cpu_us
from tests.kubernetes.api_servers import BOOT, KUBE_APISERVER
from tests.kubernetes.installation import INJECTOR_HOST, Installation, Service, new_installation

RATE: Final = 100
SECONDS: Final = 20
LIMIT_P99_MS: Final = 20.0
_INJECTOR_CORE, _REST_CORE = 1, 0
_NAMESPACE: Final = "shop"


def review() -> bytes:
    """A pod as a Deployment makes it."""
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u", "controller": True}
    pod = {
        "metadata": {"generateName": "web-1-", "labels": {"app": "web"}, "ownerReferences": [owner]},
        "spec": {
            "containers": [
                {"name": name, "image": f"shop/{name}", "ports": [{"containerPort": port, "name": name}]}
                for name, port in (("web", 8080), ("cache", 6379))
            ]
        },
    }
    request = {"uid": "r", "kind": {"kind": "Pod"}, "namespace": _NAMESPACE, "object": pod}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


async def ask(url: str, tls: ssl.SSLContext, seconds: int) -> list[float]:
    """Milliseconds of each answer. Raises AssertionError for one that does not inject."""
    body, loop = review(), asyncio.get_running_loop()
    taken: list[float] = []

    async def once(session: aiohttp.ClientSession) -> None:
        began = loop.time()
        async with session.post(url, data=body, server_hostname=INJECTOR_HOST) as answer:
            response = (await answer.json())["response"]
        taken.append((loop.time() - began) * 1000)
        assert response["allowed"], response
        assert "patch" in response, response

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=0)) as session:
        await once(session)
        taken.clear()
        async with asyncio.TaskGroup() as group:
            first = loop.time()
            for number in range(RATE * seconds):
                await asyncio.sleep(max(0, first + number / RATE - loop.time()))
                group.create_task(once(session))
    return taken


def _prepare(mesh: Installation) -> None:
    for chart in ("weft-crds", "weft-identity", "weft-injector"):
        mesh.install(chart)
    namespace = {"metadata": {"name": _NAMESPACE, "annotations": {"linkerd.io/inject": "enabled"}}}
    mesh.apply({"apiVersion": "v1", "kind": "Namespace", **namespace})
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "shop/web"}]}}
    mesh.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": "web-1", "namespace": _NAMESPACE},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        }
    )


def _measure(mesh: Installation, injector: Service, seconds: int) -> dict[str, Any]:
    pid = injector.program.process.pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {_INJECTOR_CORE})
    values = yaml.safe_load(mesh.values.read_text())["global"]
    tls = ssl.create_default_context(cadata=values["proxyInjector"]["caBundle"])
    used, began = cpu_us(pid), time.monotonic()
    taken = asyncio.run(ask(f"https://127.0.0.1:{injector.ports['proxy-injector']}/", tls, seconds))
    elapsed = time.monotonic() - began
    cuts = statistics.quantiles(taken, n=100)
    return {
        "rate": RATE,
        "answers": len(taken),
        "p50_ms": round(cuts[49], 2),
        "p95_ms": round(cuts[94], 2),
        "p99_ms": round(cuts[98], 2),
        "max_ms": round(max(taken), 2),
        "cpu_ms_per_answer": round((cpu_us(pid) - used) / 1000 / len(taken), 2),
        "core_share": round((cpu_us(pid) - used) / 1e6 / elapsed, 3),
    }


def run(arguments: list[str]) -> int:
    """Exit code 1 when the 99th percentile is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m bench admission", description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="how long (default %(default)s)")
    parser.add_argument("--api", choices=sorted(BOOT), default=KUBE_APISERVER, help="whose API (default %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as scratch:
        folder = Path(scratch)
        with BOOT[options.api](folder) as api:
            mesh = new_installation(api, folder)
            _prepare(mesh)
            with mesh.service("linkerd-proxy-injector") as injector:
                pinned = os.sched_getaffinity(0)
                os.sched_setaffinity(0, {_REST_CORE})
                try:
                    result = _measure(mesh, injector, options.seconds)
                finally:
                    os.sched_setaffinity(0, pinned)
    path = write_json("admission", {"machine": machine(), "api": options.api, "injection": result})
    print(json.dumps(result, indent=2))
    print(path)
    return int(result["p99_ms"] > LIMIT_P99_MS)
