"""Inbound servers as messages of io.linkerd.proxy.inbound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from weft_proto.linkerd import http_route_pb2, http_types_pb2, net_pb2
from weft_proto.linkerd import inbound_pb2 as pb

from weft_destination.core.inbound import InboundServer
from weft_destination.core.mesh import IpNetwork
from weft_destination.core.objects import GRPC_HEALTH_PATH
from weft_destination.rpc.encode_common import default_metadata, ip_message, milliseconds

_DETECT_TIMEOUT: Final = milliseconds(10_000)


def inbound_message(server: InboundServer, probe_networks: Iterable[IpNetwork]) -> pb.Server:
    """A server as it is sent."""
    policy = server.policy.value
    message = pb.Server(
        protocol=_protocol(server, probe_networks), labels={"group": "", "kind": "default", "name": policy}
    )
    if server.authorization is not None:
        message.authorizations.append(
            pb.Authz(
                networks=_networks(server.authorization.networks),
                authentication=_any_identity() if server.authorization.needs_identity else _anybody(),
                labels={"group": "", "kind": "default", "name": policy},
                metadata=default_metadata(policy),
            )
        )
    return message


def _protocol(server: InboundServer, probe_networks: Iterable[IpNetwork]) -> pb.ProxyProtocol:
    if server.is_opaque:
        return pb.ProxyProtocol(opaque=pb.ProxyProtocol.Opaque())
    routes = [_default_route()]
    networks = list(probe_networks)
    if server.probe_paths and networks:
        routes.append(_probe_route(server.probe_paths, networks))
    return pb.ProxyProtocol(detect=pb.ProxyProtocol.Detect(timeout=_DETECT_TIMEOUT, http_routes=routes))


def _default_route() -> pb.HttpRoute:
    match = http_route_pb2.HttpRouteMatch(path=http_route_pb2.PathMatch(prefix="/"))
    return pb.HttpRoute(metadata=default_metadata("default"), rules=[pb.HttpRoute.Rule(matches=[match])])


def _probe_route(paths: Iterable[str], networks: Iterable[IpNetwork]) -> pb.HttpRoute:
    matches = [_probe_match(path) for path in paths]
    anyone = pb.Authz(
        networks=_networks(networks),
        authentication=_anybody(),
        labels={"group": "", "kind": "default", "name": "probe"},
        metadata=default_metadata("probe"),
    )
    return pb.HttpRoute(
        metadata=default_metadata("probe"), authorizations=[anyone], rules=[pb.HttpRoute.Rule(matches=matches)]
    )


def _probe_match(path: str) -> http_route_pb2.HttpRouteMatch:
    methods = http_types_pb2.HttpMethod
    method = methods(registered=methods.POST if path == GRPC_HEALTH_PATH else methods.GET)
    return http_route_pb2.HttpRouteMatch(path=http_route_pb2.PathMatch(exact=path), method=method)


def _networks(networks: Iterable[IpNetwork]) -> list[pb.Network]:
    return [
        pb.Network(net=net_pb2.IPNetwork(ip=ip_message(str(network.network_address)), prefix_len=network.prefixlen))
        for network in networks
    ]


def _anybody() -> pb.Authn:
    return pb.Authn(unauthenticated=pb.Authn.PermitUnauthenticated())


def _any_identity() -> pb.Authn:
    # A suffix without parts is how the schema says "whatever the name, as long as it is verified".
    clients = pb.Authn.PermitMeshTLS.PermitClientIdentities(suffixes=[pb.IdentitySuffix(parts=[])])
    return pb.Authn(meshTLS=pb.Authn.PermitMeshTLS(identities=clients))
