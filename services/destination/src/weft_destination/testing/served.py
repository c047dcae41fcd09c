"""The whole service between a real API server and real gRPC channels."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import grpc
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.config import KubeConfig
from weft_common.kube.resource import (
    CUSTOM_RESOURCE_DEFINITIONS,
    ENDPOINT_SLICES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    Resource,
)
from weft_local.apiserver.server import ADMIN, ApiServer, ApiServerSettings
from weft_policy.kube.parse import EXTERNAL_WORKLOADS
from weft_policy.kube.parse_policy import (
    AUTHORIZATION_POLICIES,
    MESH_AUTHENTICATIONS,
    NETWORK_AUTHENTICATIONS,
    SERVER_AUTHORIZATIONS,
    SERVERS,
)
from weft_policy.kube.parse_routes import (
    EGRESS_NETWORKS,
    GRPC_ROUTES,
    HTTP_ROUTES,
    REFERENCE_GRANTS,
    TCP_ROUTES,
    TLS_ROUTES,
)
from weft_proto.linkerd import destination_pb2_grpc, inbound_pb2_grpc, outbound_pb2_grpc

from weft_destination.app import serve
from weft_destination.config import settings_from_environ
from weft_destination.testing.raw import Raw

_TOKEN = "test-token"  # noqa: S105 - of a server that lives for one test
_POLICY_KINDS = (
    SERVERS,
    SERVER_AUTHORIZATIONS,
    AUTHORIZATION_POLICIES,
    MESH_AUTHENTICATIONS,
    NETWORK_AUTHENTICATIONS,
)
_ROUTE_KINDS = (HTTP_ROUTES, GRPC_ROUTES, TLS_ROUTES, TCP_ROUTES, REFERENCE_GRANTS, EGRESS_NETWORKS)
_OTHER_KINDS = (SERVICES, PODS, ENDPOINT_SLICES, NAMESPACES, NODES, EXTERNAL_WORKLOADS)
_KINDS = {r.kind: r for r in (*_OTHER_KINDS, *_POLICY_KINDS, *_ROUTE_KINDS)}
_DEFINITIONS = Path(__file__).parents[5] / "charts/weft-crds/files"


@dataclass
class Cluster:
    """A real API server without controllers: tests write slices and statuses themselves."""

    kube: KubeClient

    async def put(self, raw: Raw) -> Raw:
        """Create or replace, status included."""
        resource: Resource = _KINDS[raw["kind"]]
        resource = replace(resource, version=raw.get("apiVersion", resource.api_version).rpartition("/")[2])
        namespace, name = raw["metadata"].get("namespace"), raw["metadata"]["name"]
        path = resource.path(namespace, name)
        try:
            found = await self.kube.get(path)
        except KubeError as error:
            if error.status != 404:
                raise
            found = await self.kube.create(resource.path(namespace), raw)
        else:
            merged: dict[str, Any] = {**found, **raw, "metadata": {**found["metadata"], **raw["metadata"]}}
            if resource == SERVICES:
                merged["spec"] = {**found["spec"], **raw["spec"]}
            if resource == PODS:
                merged["spec"] = found["spec"]
            found = await self.kube.update(path, merged)
        if "status" in raw:
            found = await self.kube.update(f"{path}/status", {**found, "status": raw["status"]})
        return found

    async def install_policy_kinds(self) -> None:
        """Install the definitions that the chart ships."""
        for path in sorted(_DEFINITIONS.glob("*.yaml")):
            for raw in filter(None, yaml.safe_load_all(path.read_text())):
                await self.kube.create(CUSTOM_RESOURCE_DEFINITIONS.path(), raw)

    async def remove(self, kind: str, name: str, namespace: str = "shop") -> None:
        await self.kube.delete(_KINDS[kind].path(namespace, name), {"gracePeriodSeconds": "0"})


@dataclass
class Stubs:
    """What a proxy would hold."""

    destination: destination_pb2_grpc.DestinationAsyncStub
    outbound: outbound_pb2_grpc.OutboundPoliciesAsyncStub
    inbound: inbound_pb2_grpc.InboundServerPoliciesAsyncStub
    admin_url: str
    stop: asyncio.Event


@asynccontextmanager
async def running_cluster(folder: Path) -> AsyncIterator[Cluster]:
    async with running_api_server(folder) as config, KubeClient(config) as kube:
        await kube.create("/api/v1/namespaces", {"metadata": {"name": "shop"}})
        await kube.create("/api/v1/namespaces/shop/serviceaccounts", {"metadata": {"name": "default"}})
        yield Cluster(kube)


@asynccontextmanager
async def running_api_server(folder: Path) -> AsyncIterator[KubeConfig]:
    ca_pem = _write_serving_pair(folder)
    server = ApiServer(
        ApiServerSettings(
            addresses=(("127.0.0.1", 0),),
            certificate=folder / "tls.crt",
            private_key=folder / "tls.key",
            token_key=ec.generate_private_key(ec.SECP256R1()),
            service_cidr=IPv4Network("10.251.0.0/16"),
            resolve_service=_no_webhooks,
            tokens={_TOKEN: ADMIN},
        )
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(stop), name="api-server")
        await server.started.wait()
        try:
            yield KubeConfig(server=f"https://127.0.0.1:{server.ports[0]}", ca_pem=ca_pem, token=_TOKEN)
        finally:
            stop.set()


@asynccontextmanager
async def served(kube: KubeClient, **environ: str) -> AsyncIterator[Stubs]:
    grpc_port, policy_port, admin_port = free_ports(3)
    ports = {
        "WEFT_GRPC_PORT": str(grpc_port),
        "WEFT_POLICY_PORT": str(policy_port),
        "WEFT_ADMIN_PORT": str(admin_port),
    }
    stop = asyncio.Event()
    async with (
        asyncio.TaskGroup() as group,
        grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as destination,
        grpc.aio.insecure_channel(f"127.0.0.1:{policy_port}") as policy,
    ):
        group.create_task(serve(settings_from_environ({**environ, **ports}), kube, stop))
        try:
            async with asyncio.timeout(10):
                await destination.channel_ready()
                await policy.channel_ready()
            yield Stubs(
                destination_pb2_grpc.DestinationStub(destination),
                outbound_pb2_grpc.OutboundPoliciesStub(policy),
                inbound_pb2_grpc.InboundServerPoliciesStub(policy),
                f"http://127.0.0.1:{admin_port}",
                stop,
            )
        finally:
            stop.set()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


async def _no_webhooks(namespace: str, name: str, port: int) -> tuple[str, int]:
    raise OSError(f"no service {namespace}/{name}:{port} here")


def _write_serving_pair(folder: Path) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api server of a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.crt").write_bytes(pem)
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem.decode()
