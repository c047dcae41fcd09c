"""Certificates per second: the identity service on one core, TokenReviews by the API server on another."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from weft_common.kube.client import KubeClient
from weft_local.cluster import pki
from weft_proto.linkerd import identity_pb2

from bench.control_cluster import NAMESPACE
from bench.usage import cpu_us
from tests.kubernetes.api_servers import ApiServer
from tests.kubernetes.processes import Program, free_ports, running

ACCOUNTS: Final = 50
IN_FLIGHT: Final = 64
WARM_UP_S: Final = 1.0
RUN_S: Final = 5.0
TARGET_PER_S: Final = 1_000
_CERTIFY: Final = "/io.linkerd.proxy.identity.Identity/Certify"


async def measure_certify(api: ApiServer, kube: KubeClient, folder: Path, core: int) -> dict[str, float]:
    """The rate at saturation with its CPU, and latencies at half the promised rate."""
    requests = [await _request(kube, f"account-{number}") for number in range(ACCOUNTS)]
    with identity(api, folder, core) as (program, grpc_port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            async with asyncio.timeout(60):
                await channel.channel_ready()
            certify: Any = channel.unary_unary(_CERTIFY)
            await _saturate(certify, requests, WARM_UP_S)
            # The review of each token and the caller itself share a core, which bounds the rate as well.
            beside = (*api.pids, os.getpid())
            before_us, before_beside_us = cpu_us(program.process.pid), sum(map(cpu_us, beside))
            answered = await _saturate(certify, requests, RUN_S)
            cpu = (cpu_us(program.process.pid) - before_us) / answered
            cpu_beside = (sum(map(cpu_us, beside)) - before_beside_us) / answered
            delays_ms = await _paced(certify, requests, TARGET_PER_S / 2, RUN_S)
    delays_ms.sort()
    return {
        "per_s": round(answered / RUN_S),
        "cpu_us_per_certificate": round(cpu),
        "api_server_and_client_cpu_us_per_certificate": round(cpu_beside),
        "half_rate_p50_ms": round(delays_ms[len(delays_ms) // 2], 1),
        "half_rate_p99_ms": round(delays_ms[int(len(delays_ms) * 0.99)], 1),
    }


@contextmanager
def identity(api: ApiServer, folder: Path, core: int, **environ: str) -> Iterator[tuple[Program, int]]:
    """The identity service on its core, with its gRPC port; it may not listen yet."""
    _write_issuer(folder)
    grpc_port, admin_port = free_ports(2)
    settings = {
        "KUBECONFIG": str(api.kubeconfig),
        "WEFT_GRPC_PORT": str(grpc_port),
        "WEFT_ADMIN_PORT": str(admin_port),
        "WEFT_ISSUER_DIR": str(folder / "issuer"),
        "WEFT_TRUST_ROOTS_FILE": str(folder / "issuer" / "ca-bundle.crt"),
        "WEFT_LOG_LEVEL": "warning",
        **environ,
    }
    command = ["taskset", "-c", str(core), str(Path(sys.executable).parent / "weft-identity")]
    with running("identity", command, folder, settings) as program:
        yield program, grpc_port


async def _saturate(certify: Any, requests: list[bytes], run_s: float) -> int:
    """How many were answered while a fixed number is always in flight."""
    answered = 0
    until = time.monotonic() + run_s

    async def caller(request: bytes) -> None:
        nonlocal answered
        # Sixty-four never overload the server: an error here is a fault.
        while time.monotonic() < until:
            await certify(request)
            answered += 1

    async with asyncio.TaskGroup() as group:
        for number in range(IN_FLIGHT):
            group.create_task(caller(requests[number % len(requests)]))
    return answered


async def _paced(certify: Any, requests: list[bytes], per_s: float, run_s: float) -> list[float]:
    """Milliseconds of each call, counted from when it was due: late starts count, and a refused call never ends."""
    delays_ms: list[float] = []
    started = time.monotonic() + 0.1

    async def call(due: float, request: bytes) -> None:
        try:
            await certify(request)
            delays_ms.append((time.monotonic() - due) * 1000)
        except grpc.aio.AioRpcError:
            # An overloaded server drops calls that wait.
            delays_ms.append(math.inf)

    async with asyncio.TaskGroup() as group:
        for number in range(int(per_s * run_s)):
            due = started + number / per_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(call(due, requests[number % len(requests)]))
    return delays_ms


async def _request(kube: KubeClient, account: str) -> bytes:
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    await kube.create(path, {"metadata": {"name": account}})
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["identity.l5d.io"]},
    }
    token = (await kube.create(f"{path}/{account}/token", review))["status"]["token"]
    name = f"{account}.{NAMESPACE}.serviceaccount.identity.linkerd.cluster.local"
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=False)
    csr = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return identity_pb2.CertifyRequest(
        identity=name,
        token=token.encode(),
        certificate_signing_request=csr.public_bytes(serialization.Encoding.DER),
    ).SerializeToString()


def _write_issuer(folder: Path) -> None:
    now = datetime.now(UTC)
    anchor = pki.certificate_authority("root.linkerd.cluster.local", now)
    issuer = pki.certificate_authority("identity.linkerd.cluster.local", now, anchor)
    directory = folder / "issuer"
    directory.mkdir(exist_ok=True)
    (directory / "ca-bundle.crt").write_text(anchor.certificate_pem)
    (directory / "crt.pem").write_text(issuer.certificate_pem)
    (directory / "key.pem").write_text(issuer.key_pem)
