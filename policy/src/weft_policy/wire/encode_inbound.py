"""Inbound servers as messages of io.linkerd.proxy.inbound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, assert_never

from weft_proto.linkerd import grpc_route_pb2, http_route_pb2, http_types_pb2, meta_pb2, net_pb2
from weft_proto.linkerd import inbound_pb2 as pb

from weft_policy.core.authorization import Authentication, Authorization, Identities, Source, Unidentified, plain
from weft_policy.core.inbound import InboundServer
from weft_policy.core.mesh import IpNetwork
from weft_policy.core.objects import GRPC_HEALTH_PATH
from weft_policy.core.policy_objects import ClientNetwork, ServerProtocol
from weft_policy.wire.encode_common import default_metadata, ip_message, milliseconds

_DETECT_TIMEOUT: Final = milliseconds(10_000)


def inbound_message(server: InboundServer, probe_networks: Iterable[IpNetwork]) -> pb.Server:
    """A server as it is sent."""
    return pb.Server(
        protocol=_protocol(server, probe_networks),
        labels=_labels(server.source),
        authorizations=[_authorization(authorization) for authorization in server.authorizations],
    )


def _authorization(authorization: Authorization) -> pb.Authz:
    return pb.Authz(
        networks=[_network(network) for network in authorization.networks],
        authentication=_authentication(authorization.authentication),
        labels=_labels(authorization.source),
        metadata=_metadata(authorization.source),
    )


def _labels(source: Source) -> dict[str, str]:
    return {"group": source.group, "kind": source.kind, "name": source.name}


def _metadata(source: Source) -> meta_pb2.Metadata:
    if not source.group:
        return default_metadata(source.name)
    return meta_pb2.Metadata(resource=meta_pb2.Resource(group=source.group, kind=source.kind, name=source.name))


def _protocol(server: InboundServer, probe_networks: Iterable[IpNetwork]) -> pb.ProxyProtocol:
    match server.protocol:
        case ServerProtocol.OPAQUE:
            return pb.ProxyProtocol(opaque=pb.ProxyProtocol.Opaque())
        case ServerProtocol.TLS:
            return pb.ProxyProtocol(tls=pb.ProxyProtocol.Tls())
        case ServerProtocol.GRPC:
            return pb.ProxyProtocol(grpc=pb.ProxyProtocol.Grpc(routes=[_default_grpc_route()]))
        case ServerProtocol.HTTP1:
            return pb.ProxyProtocol(http1=pb.ProxyProtocol.Http1(routes=_http_routes(server, probe_networks)))
        case ServerProtocol.HTTP2:
            return pb.ProxyProtocol(http2=pb.ProxyProtocol.Http2(routes=_http_routes(server, probe_networks)))
        case ServerProtocol.DETECT:
            routes = _http_routes(server, probe_networks)
            return pb.ProxyProtocol(detect=pb.ProxyProtocol.Detect(timeout=_DETECT_TIMEOUT, http_routes=routes))
        case _:
            assert_never(server.protocol)


def _http_routes(server: InboundServer, probe_networks: Iterable[IpNetwork]) -> list[pb.HttpRoute]:
    routes = [_default_route()]
    networks = list(probe_networks)
    if server.probe_paths and networks:
        routes.append(_probe_route(server.probe_paths, networks))
    return routes


def _default_grpc_route() -> pb.GrpcRoute:
    match = grpc_route_pb2.GrpcRouteMatch(rpc=grpc_route_pb2.GrpcRpcMatch())
    return pb.GrpcRoute(metadata=default_metadata("default"), rules=[pb.GrpcRoute.Rule(matches=[match])])


def _default_route() -> pb.HttpRoute:
    match = http_route_pb2.HttpRouteMatch(path=http_route_pb2.PathMatch(prefix="/"))
    return pb.HttpRoute(metadata=default_metadata("default"), rules=[pb.HttpRoute.Rule(matches=[match])])


def _probe_route(paths: Iterable[str], networks: Iterable[IpNetwork]) -> pb.HttpRoute:
    matches = [_probe_match(path) for path in paths]
    anyone = pb.Authz(
        networks=[_network(network) for network in plain(networks)],
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


def _network(network: ClientNetwork) -> pb.Network:
    return pb.Network(net=_ip_network(network.net), **{"except": [_ip_network(net) for net in network.exceptions]})


def _ip_network(network: IpNetwork) -> net_pb2.IPNetwork:
    return net_pb2.IPNetwork(ip=ip_message(str(network.network_address)), prefix_len=network.prefixlen)


def _authentication(clients: Authentication) -> pb.Authn:
    tls = pb.Authn.PermitMeshTLS
    match clients:
        case Unidentified.ANYBODY:
            return _anybody()
        case Unidentified.ANY_TLS:
            return pb.Authn(meshTLS=tls(unauthenticated=pb.Authn.PermitUnauthenticated()))
        case Identities(exact, suffixes):
            identities = tls.PermitClientIdentities(
                identities=[pb.Identity(name=name) for name in exact],
                # A suffix without parts is how the schema says "whatever the name, as long as it is verified".
                suffixes=[pb.IdentitySuffix(parts=parts) for parts in suffixes],
            )
            return pb.Authn(meshTLS=tls(identities=identities))
        case _:
            assert_never(clients)


def _anybody() -> pb.Authn:
    return pb.Authn(unauthenticated=pb.Authn.PermitUnauthenticated())
