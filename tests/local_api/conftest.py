"""An API server of its own for each test, served over HTTPS, with the two objects that controllers would make."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_local.apiserver.server import ADMIN, ApiServer, ApiServerSettings

from .certificates import Authority
from .processes import LocalProcesses

TOKEN = "an-admin-token"


@dataclass(slots=True)
class Cluster:
    """A running API server and the two clients the tests use."""

    server: ApiServer
    kube: KubeClient
    authority: Authority
    kubeconfig: Path
    # Where webhook Services are reached, by namespace and name.
    services: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)

    async def start_kubectl(self, *args: str, anonymous: bool = False) -> asyncio.subprocess.Process:
        """The real kubectl with its own cache, so that no test sees another's discovery."""
        kubectl = shutil.which("kubectl")
        assert kubectl, "kubectl is not on PATH"
        cluster = self.kubeconfig.with_name("anonymous") if anonymous else self.kubeconfig
        cache = str(self.kubeconfig.with_name("cache"))
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            kubectl, "--kubeconfig", str(cluster), "--cache-dir", cache, *args, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def kubectl(self, *args: str, stdin: str | None = None, fails: bool = False, anonymous: bool = False) -> str:
        """Standard output; with fails, standard error of a command that must not succeed."""
        process = await self.start_kubectl(*args, anonymous=anonymous)
        out, err = await asyncio.wait_for(process.communicate(stdin.encode() if stdin else None), 60)
        assert (process.returncode != 0) is fails, f"kubectl {' '.join(args)}: {process.returncode}\n{out!r}\n{err!r}"
        return (err if fails else out).decode()

    async def kubectl_json(self, *args: str) -> Any:
        return json.loads(await self.kubectl(*args, "-o", "json"))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running_cluster(tmp_path) as running:
        yield running


@asynccontextmanager
async def running_cluster(folder: Path) -> AsyncIterator[Cluster]:
    authority = Authority.new()
    certificate, key = authority.serving("127.0.0.1", "kubernetes.default.svc")
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)
    port = _free_port()
    services: dict[tuple[str, str], tuple[str, int]] = {}

    async def resolve(namespace: str, name: str, wanted_port: int) -> tuple[str, int]:
        try:
            return services[namespace, name]
        except KeyError:
            raise OSError(f"service {namespace}/{name} has no endpoints") from None

    server = ApiServer(
        ApiServerSettings(
            addresses=(("127.0.0.1", port),),
            certificate=folder / "tls.crt",
            private_key=folder / "tls.key",
            token_key=ec.generate_private_key(ec.SECP256R1()),
            service_cidr=IPv4Network("10.251.0.0/16"),
            resolve_service=resolve,
            tokens={TOKEN: ADMIN},
        )
    )
    server.runtime = LocalProcesses()
    config = KubeConfig(server=f"https://127.0.0.1:{port}", ca_pem=authority.pem.decode(), token=TOKEN)
    kubeconfig = _write_kubeconfig(folder / "kubeconfig", config, TOKEN)
    _write_kubeconfig(folder / "anonymous", config, None)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(stop), name="api-server")
        await server.started.wait()
        try:
            async with KubeClient(config) as kube:
                for namespace in ("default", "x"):
                    body: dict[str, Any] = {"metadata": {"name": namespace}}
                    await kube.create("/api/v1/namespaces", body)
                    account = {"metadata": {"name": "default"}}
                    await kube.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
                yield Cluster(server, kube, authority, kubeconfig, services)
        finally:
            stop.set()


def _write_kubeconfig(path: Path, config: KubeConfig, token: str | None) -> Path:
    ca_file = path.with_name("ca.crt")
    ca_file.write_text(config.ca_pem or "")
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": config.server, "certificate-authority": str(ca_file)}}],
        "users": [{"name": "u", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
