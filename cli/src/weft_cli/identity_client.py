"""Asks the identity service for what it knows of certificates (weft.identity.v1.Certificates)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import grpc
from weft_common.kube.client import KubeClient
from weft_proto.weft import identity_pb2 as pb
from weft_proto.weft import identity_pb2_grpc

from weft_cli.errors import CliError
from weft_cli.reaching import Reachable, find_address

T = TypeVar("T")

SERVICE: Final = "linkerd-identity"
PORT: Final = 8080
CALL_TIMEOUT_S: Final = 15.0
# 100,000 certificates; gRPC's own limit of 4 MiB ends at 8,000.
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024


class IdentityClient:
    """weft.identity.v1.Certificates at one address."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self._address = address
        self._stub: identity_pb2_grpc.CertificatesAsyncStub = identity_pb2_grpc.CertificatesStub(channel)

    async def list(self, namespace: str = "", pod: str = "") -> pb.ListResponse:
        """The first to expire first. Raises CliError."""
        return await self._call(self._stub.List(pb.ListRequest(namespace=namespace, pod=pod), timeout=CALL_TIMEOUT_S))

    async def trust(self) -> pb.TrustState:
        """Anchors and issuer in use. Raises CliError."""
        return await self._call(self._stub.GetTrust(pb.GetTrustRequest(), timeout=CALL_TIMEOUT_S))

    async def _call(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            details = error.details() or error.code().name
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise CliError(
                    f"identity at {self._address} does not answer: {details}", hint="see why:  weft check"
                ) from error
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise CliError(
                    f"the identity service at {self._address} is not Weft's: it keeps no list of certificates"
                ) from error
            raise CliError(f"identity at {self._address} failed: {details} ({error.code().name})") from error


@asynccontextmanager
async def identity_client(
    kube: KubeClient | None, namespace: str, api_addr: str | None
) -> AsyncIterator[IdentityClient]:
    """A client for the block. kube may be None only when api_addr is given. Raises CliError."""
    if api_addr is None:
        if kube is None:
            raise TypeError("a cluster or an address is needed")
        wanted = Reachable(namespace, SERVICE, PORT, "install it with its chart, weft-identity")
        api_addr = await find_address(kube, wanted)
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    async with grpc.aio.insecure_channel(api_addr, options=options) as channel:
        yield IdentityClient(api_addr, channel)
