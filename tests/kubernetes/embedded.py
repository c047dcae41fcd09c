"""The API server of `weft local` as a program of its own: `python -m tests.kubernetes.embedded FOLDER PORT`."""

from __future__ import annotations

import asyncio
import os
import sys
from ipaddress import IPv4Network
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_common.log import configure_logging
from weft_common.tasks import run_service
from weft_local.apiserver.server import ADMIN, ApiServer, ApiServerSettings
from weft_local.cluster.bootstrap import STANDARD_NAMESPACES
from weft_local.cluster.resolve import ready_address

from tests.kubernetes.api_servers import SERVICE_CIDR


async def serve(folder: Path, port: int, token: str, stop: asyncio.Event) -> None:
    """Serve until stop is set, with the namespaces that every cluster has."""
    key = load_pem_private_key((folder / "service-accounts.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    server: ApiServer

    async def resolve(namespace: str, name: str, service_port: int) -> tuple[str, int]:
        return ready_address(server.operations, namespace, name, service_port)

    server = ApiServer(
        ApiServerSettings(
            addresses=(("127.0.0.1", port),),
            certificate=folder / "tls.crt",
            private_key=folder / "tls.key",
            token_key=key,
            service_cidr=IPv4Network(SERVICE_CIDR),
            resolve_service=resolve,
            tokens={token: ADMIN},
        )
    )
    config = KubeConfig(server=f"https://127.0.0.1:{port}", token=token, insecure_skip_tls_verify=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(stop), name="api server")
        await server.started.wait()
        async with KubeClient(config) as kube:
            for name in STANDARD_NAMESPACES:
                await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})


if __name__ == "__main__":
    configure_logging("warning", "console")
    sys.exit(run_service(lambda stop: serve(Path(sys.argv[1]), int(sys.argv[2]), os.environ["WEFT_TEST_TOKEN"], stop)))
