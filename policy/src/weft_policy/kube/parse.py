"""Raw API objects to values. Knows field names of the Kubernetes API; decides nothing.

Every function raises KeyError, TypeError, ValueError or AttributeError for an object it cannot read; the informer then
skips that object and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from weft_common.kube.resource import Resource

from weft_policy.core.names import canonical_ip
from weft_policy.core.objects import (
    DEFAULT_INBOUND_PORT,
    GRPC_HEALTH_PATH,
    DefaultPolicy,
    ExternalWorkload,
    HostPort,
    Name,
    Namespace,
    Node,
    Owner,
    Pod,
    ProxyPorts,
    ReplicaSet,
    Service,
    ServicePort,
    Slice,
    SliceEndpoint,
)
from weft_policy.core.ports import NO_PORTS, PortSet, port_set_from_text
from weft_policy.core.resilience import ANNOTATION_PREFIXES

Raw = dict[str, Any]

EXTERNAL_WORKLOADS: Final = Resource("workload.linkerd.io", "v1beta1", "externalworkloads", "ExternalWorkload")

OPAQUE_PORTS: Final = "config.linkerd.io/opaque-ports"
SKIP_INBOUND_PORTS: Final = "config.linkerd.io/skip-inbound-ports"
REQUIRE_IDENTITY_PORTS: Final = "config.linkerd.io/proxy-require-identity-inbound-ports"
DEFAULT_POLICY: Final = "config.linkerd.io/default-inbound-policy"
CONTROL_PLANE_NAMESPACE: Final = "linkerd.io/control-plane-ns"
_POD_TEMPLATE_HASH: Final = "pod-template-hash"
_ZONE: Final = "topology.kubernetes.io/zone"
_SERVICE_NAME: Final = "kubernetes.io/service-name"
_PROXY_CONTAINER: Final = "linkerd-proxy"
_PROXY_LISTENERS: Final = {
    "LINKERD2_PROXY_INBOUND_LISTEN_ADDR": "inbound",
    "LINKERD2_PROXY_ADMIN_LISTEN_ADDR": "admin",
    "LINKERD2_PROXY_CONTROL_LISTEN_ADDR": "control",
}
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def parse_service(raw: Raw) -> Service:
    """A core/v1 Service."""
    spec, annotations = raw.get("spec") or {}, _annotations(raw)
    ports = [port for port in spec.get("ports") or [] if port.get("protocol", "TCP") == "TCP"]
    named = {port["name"]: port["port"] for port in ports if port.get("name")}
    return Service(
        name=_name(raw),
        cluster_ips=_ips(spec.get("clusterIPs") or [spec.get("clusterIP") or ""]),
        ports=tuple(ServicePort(port["port"], port.get("name") or "", port.get("appProtocol")) for port in ports),
        is_external_name=spec.get("type") == "ExternalName",
        is_node_local=spec.get("internalTrafficPolicy") == "Local",
        opaque_ports=_port_annotation(annotations, OPAQUE_PORTS, named),
        annotations=policy_annotations(raw),
    )


def parse_slice(raw: Raw) -> Slice:
    """A discovery.k8s.io/v1 EndpointSlice; only its ready endpoints. FQDN slices come out empty."""
    name = _name(raw)
    family = raw.get("addressType", "IPv4")
    is_usable = family in ("IPv4", "IPv6")
    return Slice(
        name=name,
        service=Name(name.namespace, _service_of(raw)),
        ports=tuple(
            (port.get("name") or "", port["port"])
            for port in raw.get("ports") or []
            if port.get("port") and (port.get("protocol") or "TCP") == "TCP"
        ),
        endpoints=tuple(_slice_endpoints(raw, name.namespace)) if is_usable else (),
        is_ipv6=family == "IPv6",
    )


def parse_pod(raw: Raw) -> Pod:
    """A core/v1 Pod."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    annotations, labels = _annotations(raw), metadata.get("labels") or {}
    containers = list(_long_lived_containers(spec))
    ports = [port for container in containers for port in container.get("ports") or []]
    named = {port["name"]: port["containerPort"] for port in ports if port.get("name")}
    return Pod(
        name=_name(raw),
        ips=_ips([entry.get("ip") or "" for entry in status.get("podIPs") or [{"ip": status.get("podIP")}]]),
        host_ip=canonical_ip(status.get("hostIP") or "") or "",
        is_host_network=bool(spec.get("hostNetwork")),
        is_running=status.get("phase") == "Running",
        service_account=spec.get("serviceAccountName") or "default",
        node=spec.get("nodeName") or "",
        mesh=labels.get(CONTROL_PLANE_NAMESPACE, ""),
        labels=tuple(sorted(labels.items())),
        named_ports=frozenset(
            (port["name"], port["containerPort"])
            for port in ports
            if port.get("name") and port.get("protocol", "TCP") == "TCP"
        ),
        pod_template_hash=labels.get(_POD_TEMPLATE_HASH, ""),
        owner=_controller_of(raw),
        proxy=_proxy_ports(containers),
        host_ports=tuple(
            HostPort(canonical_ip(port.get("hostIP") or "") or "", port["hostPort"], port["containerPort"])
            for port in ports
            if port.get("hostPort") and port.get("protocol", "TCP") == "TCP"
        ),
        probes=tuple(sorted(set(_probed_paths(containers, named)))),
        opaque_ports=_port_annotation(annotations, OPAQUE_PORTS, named),
        skip_inbound_ports=_port_annotation(annotations, SKIP_INBOUND_PORTS) or NO_PORTS,
        require_identity_ports=_port_annotation(annotations, REQUIRE_IDENTITY_PORTS) or NO_PORTS,
        default_policy=_default_policy(annotations),
    )


def parse_external_workload(raw: Raw) -> ExternalWorkload:
    """A workload.linkerd.io ExternalWorkload of either version."""
    metadata, spec, annotations = raw["metadata"], raw["spec"], _annotations(raw)
    tls = spec.get("meshTLS") or spec["meshTls"]
    ports = [port for port in spec.get("ports") or [] if (port.get("protocol") or "TCP") == "TCP"]
    named = {port["name"]: int(port["port"]) for port in ports if port.get("name")}
    conditions = (raw.get("status") or {}).get("conditions") or []
    return ExternalWorkload(
        name=_name(raw),
        ips=_ips([entry["ip"] for entry in spec.get("workloadIPs") or []]),
        identity=tls["identity"],
        server_name=tls["serverName"],
        ports=tuple((port.get("name") or "", int(port["port"])) for port in ports),
        inbound_port=named.get(_PROXY_CONTAINER, DEFAULT_INBOUND_PORT),
        is_ready=any(found.get("type") == "Ready" and found.get("status") == "True" for found in conditions),
        owner=_controller_of(raw),
        zone=(metadata.get("labels") or {}).get(_ZONE, ""),
        opaque_ports=_port_annotation(annotations, OPAQUE_PORTS, named),
        default_policy=_default_policy(annotations),
        labels=tuple(sorted((metadata.get("labels") or {}).items())),
    )


def parse_namespace(raw: Raw) -> Namespace:
    """A core/v1 Namespace."""
    annotations = _annotations(raw)
    return Namespace(raw["metadata"]["name"], _port_annotation(annotations, OPAQUE_PORTS), _default_policy(annotations))


def parse_node(raw: Raw) -> Node:
    """A core/v1 Node."""
    return Node(raw["metadata"]["name"], (raw["metadata"].get("labels") or {}).get(_ZONE, ""))


def parse_replica_set(raw: Raw) -> ReplicaSet:
    """An apps/v1 ReplicaSet."""
    owner = _controller_of(raw)
    return ReplicaSet(_name(raw), owner.name if owner and owner.kind == "Deployment" else "")


def _name(raw: Raw) -> Name:
    return Name(raw["metadata"].get("namespace", ""), raw["metadata"]["name"])


def _annotations(raw: Raw) -> Mapping[str, str]:
    return raw["metadata"].get("annotations") or {}


def _ips(texts: list[str]) -> tuple[str, ...]:
    # "None", of headless Services, and the empty string of pods without address are no addresses either.
    return tuple(ip for ip in map(canonical_ip, texts) if ip)


def policy_annotations(raw: Raw) -> tuple[tuple[str, str], ...]:
    """The annotations of retries, timeouts and load balancing, sorted."""
    return tuple(
        sorted((key, value) for key, value in _annotations(raw).items() if key.startswith(ANNOTATION_PREFIXES))
    )


def _port_annotation(
    annotations: Mapping[str, str], key: str, named: Mapping[str, int] | None = None
) -> PortSet | None:
    return port_set_from_text(annotations[key], named) if key in annotations else None


def _default_policy(annotations: Mapping[str, str]) -> DefaultPolicy | None:
    try:
        return DefaultPolicy(annotations[DEFAULT_POLICY])
    except (KeyError, ValueError):
        return None


def _controller_of(raw: Raw) -> Owner | None:
    owners = raw["metadata"].get("ownerReferences") or []
    # Pods of most controllers have one owner; where there are more, one is marked.
    found = next((owner for owner in owners if owner.get("controller")), owners[0] if len(owners) == 1 else None)
    return Owner(found["kind"], found["name"]) if found else None


def _service_of(raw: Raw) -> str:
    labelled = (raw["metadata"].get("labels") or {}).get(_SERVICE_NAME)
    if labelled:
        return str(labelled)
    owners = raw["metadata"].get("ownerReferences") or []
    return next((str(owner["name"]) for owner in owners if owner.get("kind") == "Service"), "")


def _slice_endpoints(raw: Raw, namespace: str) -> Iterator[SliceEndpoint]:
    for endpoint in raw.get("endpoints") or []:
        # An absent condition means ready; a terminating endpoint is reported as not ready.
        if (endpoint.get("conditions") or {}).get("ready") is False:
            continue
        target = endpoint.get("targetRef") or {}
        kind = target.get("kind")
        if target and kind not in ("Pod", "ExternalWorkload"):
            continue
        behind = Name(target.get("namespace") or namespace, target["name"]) if target else None
        hints = (endpoint.get("hints") or {}).get("forZones")
        yield SliceEndpoint(
            addresses=_ips(endpoint.get("addresses") or []),
            pod=behind if kind == "Pod" else None,
            workload=behind if kind == "ExternalWorkload" else None,
            hostname=endpoint.get("hostname") or "",
            zone=endpoint.get("zone") or "",
            zone_hints=tuple(hint["name"] for hint in hints) if hints else None,
        )


def _long_lived_containers(spec: Raw) -> Iterator[Raw]:
    """Containers, and init containers that go on running beside them."""
    yield from (c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always")
    yield from spec.get("containers") or []


def _proxy_ports(containers: list[Raw]) -> ProxyPorts | None:
    proxy = next((container for container in containers if container.get("name") == _PROXY_CONTAINER), None)
    if proxy is None:
        return None
    found: dict[str, int] = {}
    for variable in proxy.get("env") or []:
        role = _PROXY_LISTENERS.get(variable.get("name", ""))
        port = str(variable.get("value") or "").rpartition(":")[2]
        if role and port.isascii() and port.isdigit():
            found[role] = int(port)
    # 65535 is not a port that a transport header may be sent to (wire contract, 2.3).
    if not 0 < found.get("inbound", 0) < 65535:
        return None
    is_linkerds = "linkerd/proxy" in str(proxy.get("image") or "")
    return ProxyPorts(found["inbound"], found.get("admin"), found.get("control"), is_linkerds)


def _probed_paths(containers: list[Raw], named: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    for container in containers:
        for kind in _PROBES:
            probe = container.get(kind) or {}
            if request := probe.get("httpGet"):
                port = named.get(request.get("port"), request.get("port"))
                path = str(request.get("path") or "/").partition("?")[0]
                path = path if path.startswith("/") else f"/{path}"
            elif request := probe.get("grpc"):
                port, path = request.get("port"), GRPC_HEALTH_PATH
            else:
                continue
            if isinstance(port, int):
                yield port, path
