"""Expositions and pods to test with: a proxy's metrics as text, written from a few numbers."""

from __future__ import annotations

from weft_metrics_api.core.pods import Directory, OwnerRef, Phase, Pod, PodKey
from weft_metrics_api.core.resources import ResourceId

ID = "{}.shop.serviceaccount.identity.linkerd.cluster.local"


def pod(name: str, ip: str = "", *, deployment: str = "", meshed: bool = True, namespace: str = "shop") -> Pod:
    """A running pod; its ServiceAccount is named like its deployment."""
    return Pod(
        key=PodKey(namespace, name),
        uid=f"uid-{name}",
        ip=ip,
        phase=Phase.ACTIVE,
        owner=OwnerRef("replicaset", f"{deployment}-5d") if deployment else None,
        admin_port=4191 if meshed else None,
        identity=ID.format(deployment or name) if meshed else "",
        is_meshed=meshed,
    )


def directory(*pods: Pod) -> Directory:
    """Pods, and the ReplicaSets between them and their Deployments."""
    found = Directory()
    for item in pods:
        found.pods[item.key] = item
        if item.owner is not None:
            owner = ResourceId(item.key.namespace, item.owner.kind, item.owner.name)
            found.owners[owner] = OwnerRef("deployment", item.owner.name.removesuffix("-5d"))
    return found


def exchanges(answered: int = 0, unanswered: int = 0) -> str:
    """Bursts of opaque bytes that a pod got, answered within 5 ms."""
    labels = 'direction="inbound",target_addr="10.0.0.2:6379",target_ip="10.0.0.2",target_port="6379",tls="true"'
    return (
        f'weft_tcp_exchanges_total{{{labels},result="answered"}} {answered}\n'
        f'weft_tcp_exchanges_total{{{labels},result="unanswered"}} {unanswered}\n'
        f'weft_tcp_exchange_latency_ms_bucket{{{labels},le="5"}} {answered}\n'
        f'weft_tcp_exchange_latency_ms_bucket{{{labels},le="+Inf"}} {answered}\n'
    )


def inbound(
    ok: int = 0,
    failed: int = 0,
    *,
    port: int = 8080,
    tls: str = 'tls="true",client_id="cart.shop.serviceaccount.identity.linkerd.cluster.local"',
    fast: int | None = None,
    route: str = "default",
) -> str:
    """Requests a pod served; `fast` of them within 10 ms, the others within 100 ms."""
    fast = ok + failed if fast is None else fast
    labels = (
        f'direction="inbound",target_addr="10.0.0.2:{port}",target_ip="10.0.0.2",target_port="{port}",{tls},'
        f'srv_group="",srv_kind="default",srv_name="all-unauthenticated",route_group="",route_kind="default",'
        f'route_name="{route}"'
    )
    return (
        f'response_total{{{labels},status_code="200",classification="success",grpc_status="",error=""}} {ok}\n'
        f'response_total{{{labels},status_code="500",classification="failure",grpc_status="",error=""}} {failed}\n'
        f'response_latency_ms_bucket{{{labels},status_code="200",le="5"}} 0\n'
        f'response_latency_ms_bucket{{{labels},status_code="200",le="10"}} {fast}\n'
        f'response_latency_ms_bucket{{{labels},status_code="200",le="100"}} {ok + failed}\n'
        f'response_latency_ms_bucket{{{labels},status_code="200",le="+Inf"}} {ok + failed}\n'
    )


def outbound(
    ok: int = 0,
    *,
    to: str = "price",
    to_pod: str = "price-0",
    ip: str = "10.0.0.2",
    port: int = 8080,
    tls: str = 'tls="true",server_id="price.shop.serviceaccount.identity.linkerd.cluster.local"',
) -> str:
    """Requests a pod sent to one endpoint."""
    labels = (
        f'direction="outbound",target_addr="{ip}:{port}",target_ip="{ip}",target_port="{port}",{tls},'
        f'dst_service="{to}",dst_namespace="shop",dst_pod="{to_pod}",dst_deployment="{to}"'
    )
    return f'response_total{{{labels},status_code="200",classification="success"}} {ok}\n'


def connections(direction: str, peer: str, count: int, labels: str, *, port: int = 8080, read: int = 0) -> str:
    """Open connections of one side, and the bytes read on them."""
    shared = (
        f'direction="{direction}",peer="{peer}",target_addr="10.0.0.2:{port}",target_ip="10.0.0.2",'
        f'target_port="{port}",{labels}'
    )
    return f"tcp_open_connections{{{shared}}} {count}\ntcp_read_bytes_total{{{shared}}} {read}\n"
