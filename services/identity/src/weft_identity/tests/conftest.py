"""Real certificates, a real gRPC server, a real Redis process."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_identity.testing.cluster import ReviewApi, serving
from weft_identity.testing.pki import CertifiedKey, pem
from weft_identity.testing.served import ca_now, write_issuer


@pytest.fixture
def review_api() -> ReviewApi:
    return ReviewApi(
        status={
            "authenticated": True,
            "user": {
                "username": "system:serviceaccount:shop:web",
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["web-0"],
                    "authentication.kubernetes.io/pod-uid": ["4b1f"],
                },
            },
        }
    )


@pytest.fixture
async def kube(review_api: ReviewApi) -> AsyncIterator[KubeClient]:
    async with serving(review_api) as url, KubeClient(KubeConfig(server=url)) as client:
        yield client


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis process of our own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def free_ports() -> tuple[int, int]:
    """Two ports nobody listens on."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture
def root() -> CertifiedKey:
    return ca_now("root")


@pytest.fixture
def issuer_dir(tmp_path: Path, root: CertifiedKey) -> Path:
    (tmp_path / "ca-bundle.crt").write_bytes(pem(root[0]))
    write_issuer(tmp_path, ca_now("issuer", root))
    return tmp_path
