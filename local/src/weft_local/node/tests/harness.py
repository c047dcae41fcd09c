"""A real API server, node, DNS and service rules in this process, for tests: everything but controllers and mesh."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.config import KubeConfig
from weft_common.kube.resource import NAMESPACES, PODS, SERVICE_ACCOUNTS
from weft_local.apiserver.server import ApiServer, ApiServerSettings
from weft_local.apiserver.tokens import User
from weft_local.cluster.pki import certificate_authority, server_certificate
from weft_local.dns.server import DnsServer
from weft_local.node.cleanup import cleanup
from weft_local.node.node import Node
from weft_local.node.settings import NodeSettings
from weft_local.services.rules import ServiceRules

NAMESPACE = "default"


@dataclass
class TestCluster:
    """What a test talks to."""

    __test__ = False

    settings: NodeSettings
    kube: KubeClient
    node: Node
    server: ApiServer
    stop: asyncio.Event

    async def create_pod(self, name: str, spec: dict[str, Any], **metadata: Any) -> None:
        """POST a pod; a service-account token is mounted only where a test asks for it."""
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **metadata},
            "spec": {"terminationGracePeriodSeconds": 5, "automountServiceAccountToken": False, **spec},
        }
        await self.kube.create(PODS.path(NAMESPACE), body)

    async def pod_where(
        self, name: str, holds: Callable[[dict[str, Any]], bool], patience_s: float = 20.0
    ) -> dict[str, Any]:
        """The pod at the first moment at which something holds; TimeoutError shows the last status."""
        last: dict[str, Any] = {}
        try:
            async with asyncio.timeout(patience_s):
                page = await self.kube.list(PODS.path(NAMESPACE), {"fieldSelector": f"metadata.name={name}"})
                for last in page["items"]:
                    if holds(last):
                        return last
                version = page["metadata"]["resourceVersion"]
                async for event in self.kube.watch(
                    PODS.path(NAMESPACE), version, {"fieldSelector": f"metadata.name={name}"}
                ):
                    if event.type != "BOOKMARK":
                        last = event.object
                        if holds(last):
                            return last
        except TimeoutError:
            raise AssertionError(f"pod {name}: condition never held; last status: {last.get('status')}") from None
        raise AssertionError("the watch ended")

    async def gone(self, name: str, patience_s: float = 20.0) -> None:
        """Return when the object is deleted."""
        async with asyncio.timeout(patience_s):
            while True:
                try:
                    await self.kube.get(PODS.path(NAMESPACE, name))
                except KubeError as error:
                    if error.status == 404:
                        return
                    raise
                await asyncio.sleep(0.05)

    async def log(self, name: str, container: str = "", *, previous: bool = False) -> str:
        """Everything a container printed."""
        chunks = self.node.logs(
            NAMESPACE,
            name,
            container,
            follow=False,
            tail_lines=None,
            since_s=None,
            timestamps=False,
            previous=previous,
        )
        return b"".join([chunk async for chunk in chunks]).decode()

    async def exec(self, name: str, *argv: str, container: str = "") -> tuple[int, str]:
        """Exit code and output of a command in a container."""
        process = await self.node.exec(NAMESPACE, name, container, argv, False)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.close()
        out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
        return await process.wait(), (out + err).decode()


def is_ready(pod: dict[str, Any]) -> bool:
    """Its Ready condition holds."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def machine_state(settings: NodeSettings) -> dict[str, str]:
    """What must be equal before and after, as the administrator's tools show it, limited to what carries our names."""
    commands = {
        "namespaces": "ip netns list",
        "links": "ip -o link show",
        "routes": "ip route show",
        "tables": "nft list tables",
        "mounts": f"grep ' {settings.state_dir}' /proc/self/mountinfo",
        "forwarding": "cat /proc/sys/net/ipv4/ip_forward",
    }
    ours = ("weft-" + settings.name, settings.veth_prefix, settings.gateway_link, str(settings.state_dir))
    state = {}
    for what, command in commands.items():
        text = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False).stdout
        lines = (
            text.splitlines() if what == "forwarding" else [x for x in text.splitlines() if any(o in x for o in ours)]
        )
        state[what] = "\n".join(sorted(lines))
    return state


@asynccontextmanager
async def running_cluster(name: str, state_dir: Path, octet: int, **extra: Any) -> AsyncIterator[TestCluster]:
    """A cluster of its own address range: several test processes may run at once."""
    settings = NodeSettings(
        name,
        state_dir,
        pod_cidr=IPv4Network(f"10.{octet}.0.0/17"),
        service_cidr=IPv4Network(f"10.{octet}.128.0/17"),
        **extra,
    )
    await asyncio.to_thread(state_dir.mkdir, parents=True, exist_ok=True)
    now = datetime.now(UTC)
    authority = certificate_authority("test", now)
    issued = server_certificate(authority, ["localhost"], ["127.0.0.1"], now)
    (state_dir / "tls.crt").write_text(issued.certificate_pem)
    (state_dir / "tls.key").write_text(issued.key_pem)
    server = ApiServer(
        ApiServerSettings(
            addresses=(("127.0.0.1", 16443 + octet),),
            certificate=state_dir / "tls.crt",
            private_key=state_dir / "tls.key",
            token_key=ec.generate_private_key(ec.SECP256R1()),
            service_cidr=settings.service_cidr,
            resolve_service=_no_webhooks,
            tokens={"admin-token": User("admin", ("system:masters",))},
        )
    )
    stop_node, stop_server = asyncio.Event(), asyncio.Event()
    node = Node(settings)
    server.runtime = node
    config = KubeConfig(
        server=f"https://127.0.0.1:{16443 + octet}", ca_pem=authority.certificate_pem, token="admin-token"
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(stop_server))
            await server.started.wait()
            async with KubeClient(config) as kube:
                await _prepare(kube)
                running = tasks.create_task(node.run(kube, stop_node))
                await node.ready.wait()
                dns = DnsServer(str(settings.dns_ip))
                rules = ServiceRules(settings)
                others = [tasks.create_task(dns.run(kube)), tasks.create_task(rules.run(kube))]
                await dns.ready.wait()
                await rules.ready.wait()
                try:
                    yield TestCluster(settings, kube, node, server, stop_node)
                finally:
                    stop_node.set()
                    await running
                    for task in others:
                        task.cancel()
            stop_server.set()
    finally:
        await asyncio.to_thread(cleanup, settings)


async def _prepare(kube: KubeClient) -> None:
    for path, body in (
        (NAMESPACES.path(), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        (
            SERVICE_ACCOUNTS.path(NAMESPACE),
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}},
        ),
    ):
        try:
            await kube.create(path, body)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise


async def _no_webhooks(namespace: str, name: str, port: int) -> tuple[str, int]:
    raise LookupError(f"no service {namespace}/{name}:{port} in this test")
