"""A whole identity service on free ports, as tests call it: over gRPC, and over HTTP for its admin port."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import grpc
import pytest
from weft_common.kube.client import KubeClient
from weft_proto.linkerd import identity_pb2, identity_pb2_grpc

from weft_identity.app import serve
from weft_identity.config import IdentitySettings, settings_from_environ
from weft_identity.testing.pki import WEB, CertifiedKey, csr_for, key_pem, make_ca, pem


def ca_now(common_name: str, parent: CertifiedKey | None = None, hours: float = 10_000) -> CertifiedKey:
    now = datetime.now(UTC)
    return make_ca(common_name, parent, start=now - timedelta(hours=1), end=now + timedelta(hours=hours))


def write_issuer(directory: Path, issuer: CertifiedKey) -> None:
    (directory / "key.pem").write_bytes(key_pem(issuer[1]))
    (directory / "crt.pem").write_bytes(pem(issuer[0]))


async def eventually(check: Callable[[], object], within_s: float = 10) -> None:
    """Until check holds; for effects that happen beside a call and tell nobody."""
    async with asyncio.timeout(within_s):
        while True:
            found = check()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.02)


@dataclass
class Served:
    stub: identity_pb2_grpc.IdentityAsyncStub
    admin_url: str

    async def certify(self, **changes: object) -> identity_pb2.CertifyResponse:
        fields: dict[str, object] = {
            "identity": WEB,
            "token": b"secret-token",
            "certificate_signing_request": csr_for(WEB),
            **changes,
        }
        return await self.stub.Certify(identity_pb2.CertifyRequest(**fields))  # type: ignore[arg-type]

    async def certify_with(self, metadata: tuple[tuple[str, str], ...]) -> identity_pb2.CertifyResponse:
        """With headers that the proxy in front writes."""
        request = identity_pb2.CertifyRequest(
            identity=WEB, token=b"secret-token", certificate_signing_request=csr_for(WEB)
        )
        return await self.stub.Certify(request, metadata=metadata)

    async def refusal(self, **changes: object) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.certify(**changes)
        return refused.value.code(), refused.value.details() or ""

    async def is_ready(self) -> bool:
        return (await self.admin("/ready"))[0] == 200

    async def admin(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.admin_url + path) as response:
            return response.status, await response.text()


@asynccontextmanager
async def served(kube: KubeClient, directory: Path, free_ports: tuple[int, int], **more: str) -> AsyncIterator[Served]:
    settings: IdentitySettings = settings_from_environ(
        {
            "WEFT_ISSUER_DIR": str(directory),
            "WEFT_TRUST_ROOTS_FILE": str(directory / "ca-bundle.crt"),
            "WEFT_GRPC_PORT": str(free_ports[0]),
            "WEFT_ADMIN_PORT": str(free_ports[1]),
            **more,
        }
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve(settings, kube, stop))
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{free_ports[0]}") as channel:
                ready = asyncio.ensure_future(channel.channel_ready())
                done, _ = await asyncio.wait({ready, task}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
                assert ready in done, task
                stub: identity_pb2_grpc.IdentityAsyncStub = identity_pb2_grpc.IdentityStub(channel)
                yield Served(stub, f"http://127.0.0.1:{free_ports[1]}")
        finally:
            stop.set()
