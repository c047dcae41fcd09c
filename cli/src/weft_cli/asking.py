"""Requests that people write down, and the state of a cluster or a folder they are asked of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import yaml
from weft_policy.core.index import ClusterIndex
from weft_policy.core.mesh import Mesh
from weft_policy.core.objects import DefaultPolicy, Name
from weft_policy.core.ports import port_set_from_text
from weft_policy.explain import Request
from weft_policy.kube.load import index_of

from weft_cli.cluster import find_cluster, run
from weft_cli.errors import BadInput, CliError

if TYPE_CHECKING:
    from weft_common.kube.config import KubeConfig
    from weft_policy.explain import Matcher

_PORTS: Final = {"http": 80, "https": 443, "grpc": 80}
_CONFIG: Final = ("linkerd", "linkerd-config")


def request_from(
    method: str, url: str, headers: Sequence[str], account: str | None, cluster_domain: str = "cluster.local"
) -> Request:
    """headers: `name:value`. account: `namespace/name`. A bare Service name is looked for beside the account."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError as error:
        raise BadInput(f"{url!r}: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadInput(f"{url!r} is no URL of a Service", hint="for example: http://web.shop:8080/path")
    client = _account(account) if account else None
    return Request(
        method=method.upper(),
        authority=parts.netloc,
        service=_service(parts.hostname, client, cluster_domain),
        port=port or _PORTS[parts.scheme],
        target=f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}",
        headers=tuple(map(_header, headers)),
        account=client,
    )


def _service(host: str, client: Name | None, cluster_domain: str) -> Name:
    labels = host.removesuffix(".").removesuffix(f".svc.{cluster_domain}").removesuffix(".svc").split(".")
    if len(labels) == 1 and client is not None:
        return Name(client.namespace, labels[0])
    if len(labels) != 2 or not all(labels):
        raise BadInput(
            f"{host!r} names no Service of the cluster", hint="write SERVICE.NAMESPACE, or pass --as NS/SA too"
        )
    return Name(labels[1], labels[0])


def _account(text: str) -> Name:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise BadInput(f"--as {text!r}: expected NAMESPACE/SERVICEACCOUNT")
    return Name(namespace, name)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise BadInput(f"header {text!r}: expected NAME:VALUE")
    return name.strip(), value.strip()


def matcher() -> Matcher:
    """The data path's own matching."""
    try:
        import weft_engine
    except ImportError as error:
        raise CliError("the engine is not installed, and its matching is needed", hint="install weft-engine") from error
    # The binding is a module; its functions are the port.
    return cast("Matcher", weft_engine)


@dataclass(frozen=True, slots=True)
class World:
    """What requests are asked of. unread: a line for each object that could not be read."""

    index: ClusterIndex
    mesh: Mesh
    unread: Sequence[str] = ()


def world_of_files(paths: Sequence[Path]) -> World:
    """What manifests say, with what a cluster would add, in a mesh of default settings. Raises BadInput."""
    from weft_local.manifests.documents import load
    from weft_local.manifests.problems import BadManifests
    from weft_policy.kube.imagine import imagined

    try:
        documents = load(paths)
    except BadManifests as bad:
        raise BadInput("\n       ".join(map(str, bad.problems))) from bad
    for document in documents:
        if not (document.kind and document.name):
            raise BadInput(str(document.problem("", "an object needs kind and metadata.name")))
    index, unread = index_of(imagined(document.obj for document in documents))
    return World(index, Mesh(), unread)


async def world_of_cluster(config: KubeConfig) -> World:
    """What the cluster says now. Raises KubeError, CliError."""
    from weft_common.kube.client import KubeClient, KubeError
    from weft_common.kube.resource import CONFIG_MAPS
    from weft_policy.kube.kinds import KINDS

    objects: list[dict[str, Any]] = []
    async with KubeClient(config) as kube:
        values = await kube.get(CONFIG_MAPS.path(*_CONFIG))
        for kind in KINDS:
            try:
                listed = await kube.list(kind.resource.path())
            except KubeError as error:
                if error.status != 404 or kind.is_builtin:
                    raise
                continue
            named = {"apiVersion": kind.resource.api_version, "kind": kind.resource.kind}
            objects += [{**named, **item} for item in listed["items"]]
    index, unread = index_of(objects)
    return World(index, mesh_from_values(yaml.safe_load(values["data"]["values"]) or {}), unread)


def mesh_from_values(values: Mapping[str, Any]) -> Mesh:
    """The settings that answers depend on, as the charts give them to destination. Raises CliError."""
    proxy, domain = values.get("proxy") or {}, str(values.get("clusterDomain") or "cluster.local")
    controller = values.get("policyController") or {}
    known = Mesh()
    try:
        networks = tuple(
            ip_network(text.strip()) for text in str(values.get("clusterNetworks") or "").split(",") if text
        )
        return Mesh(
            cluster_domain=domain,
            trust_domain=str(values.get("identityTrustDomain") or domain),
            control_plane_namespace=str(values.get("controlPlaneNamespace") or known.control_plane_namespace),
            cluster_networks=networks or known.cluster_networks,
            probe_networks=tuple(map(ip_network, controller.get("probeNetworks") or ())) or known.probe_networks,
            requires_reference_grants=controller.get("referenceGrants", "required") == "required",
            default_opaque_ports=port_set_from_text(str(proxy["opaquePorts"]))
            if "opaquePorts" in proxy
            else known.default_opaque_ports,
            default_policy=DefaultPolicy(proxy.get("defaultInboundPolicy") or known.default_policy),
        )
    except ValueError as error:
        raise CliError(f"the mesh's settings in linkerd-config cannot be used: {error}") from error


def find_world(files: Sequence[Path] | None, kubeconfig: Path | None, context: str | None) -> World:
    """That of the files, else that of the cluster."""
    if files:
        return world_of_files(files)
    config = find_cluster(kubeconfig, context)
    return run(world_of_cluster(config), config)
