"""The server policy that inbound ports have before the policy service answers (wire.md 3.2)."""

from ipaddress import ip_network
from typing import assert_never

from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import http_route_pb2, inbound_pb2, meta_pb2

from weft_proxy.core.addresses import network_to_message
from weft_proxy.core.values import DefaultPolicy, IpNetwork

EVERYWHERE: tuple[IpNetwork, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def default_server(
    policy: DefaultPolicy, cluster_networks: tuple[IpNetwork, ...], detect_timeout_ms: int, *, opaque: bool
) -> inbound_pb2.Server:
    """cluster_networks: used by the cluster-* policies only, and not empty for them."""
    return inbound_pb2.Server(
        protocol=_protocol(detect_timeout_ms, opaque=opaque),
        authorizations=_authorizations(policy, cluster_networks),
        labels={"group": "", "kind": "default", "name": policy.value},
    )


def _protocol(detect_timeout_ms: int, *, opaque: bool) -> inbound_pb2.ProxyProtocol:
    if opaque:
        return inbound_pb2.ProxyProtocol(opaque=inbound_pb2.ProxyProtocol.Opaque())
    timeout = Duration()
    timeout.FromMilliseconds(detect_timeout_ms)
    everything = http_route_pb2.HttpRouteMatch(path=http_route_pb2.PathMatch(prefix="/"))
    route = inbound_pb2.HttpRoute(
        metadata=meta_pb2.Metadata(default="default"), rules=[inbound_pb2.HttpRoute.Rule(matches=[everything])]
    )
    return inbound_pb2.ProxyProtocol(detect=inbound_pb2.ProxyProtocol.Detect(timeout=timeout, http_routes=[route]))


def _authorizations(policy: DefaultPolicy, cluster_networks: tuple[IpNetwork, ...]) -> list[inbound_pb2.Authz]:
    anyone = inbound_pb2.Authn(unauthenticated=inbound_pb2.Authn.PermitUnauthenticated())
    match policy:
        case DefaultPolicy.DENY:
            return []
        case DefaultPolicy.ALL_UNAUTHENTICATED | DefaultPolicy.AUDIT:
            return [_authz(policy, EVERYWHERE, anyone)]
        case DefaultPolicy.CLUSTER_UNAUTHENTICATED:
            return [_authz(policy, cluster_networks, anyone)]
        case DefaultPolicy.ALL_AUTHENTICATED:
            return [_authz(policy, EVERYWHERE, _any_identity())]
        case DefaultPolicy.CLUSTER_AUTHENTICATED:
            return [_authz(policy, cluster_networks, _any_identity())]
        case _:
            assert_never(policy)


def _any_identity() -> inbound_pb2.Authn:
    permit = inbound_pb2.Authn.PermitMeshTLS
    # A suffix of zero parts matches every authenticated identity.
    clients = permit.PermitClientIdentities(suffixes=[inbound_pb2.IdentitySuffix()])
    return inbound_pb2.Authn(meshTLS=permit(identities=clients))


def _authz(
    policy: DefaultPolicy, networks: tuple[IpNetwork, ...], authentication: inbound_pb2.Authn
) -> inbound_pb2.Authz:
    return inbound_pb2.Authz(
        networks=[inbound_pb2.Network(net=network_to_message(network)) for network in networks],
        authentication=authentication,
        metadata=meta_pb2.Metadata(default=policy.value),
    )
