"""Inbound servers as messages of io.linkerd.proxy.inbound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, assert_never

from weft_proto.linkerd import grpc_route_pb2, http_route_pb2, http_types_pb2, meta_pb2, net_pb2
from weft_proto.linkerd import inbound_pb2 as pb

from weft_policy.core.authorization import (
    POLICY_GROUP,
    Authentication,
    Authorization,
    Identities,
    Source,
    Unidentified,
    plain,
)
from weft_policy.core.inbound import InboundRoute, InboundServer, ServerRateLimit
from weft_policy.core.mesh import IpNetwork
from weft_policy.core.objects import GRPC_HEALTH_PATH
from weft_policy.core.policy_objects import ClientNetwork, ServerProtocol
from weft_policy.core.routes import Fail, Filter, GrpcMatch, HeaderChange, HttpMatch, Redirect, UrlRewrite
from weft_policy.wire.encode_common import default_metadata, ip_message, milliseconds
from weft_policy.wire.encode_routes import grpc_match, host_match, http_match, redirect, request_headers

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
            grpc_routes = [_grpc_route(route) for route in server.routes] or [_default_grpc_route()]
            return pb.ProxyProtocol(grpc=pb.ProxyProtocol.Grpc(routes=grpc_routes))
        case ServerProtocol.HTTP1 | ServerProtocol.HTTP2 | ServerProtocol.DETECT:
            routes = [_http_route(route) for route in server.routes] or _default_routes(server, probe_networks)
            limit = _rate_limit(server.rate_limit)
        case _:
            assert_never(server.protocol)
    if server.protocol is ServerProtocol.HTTP1:
        return pb.ProxyProtocol(http1=pb.ProxyProtocol.Http1(routes=routes, local_rate_limit=limit))
    if server.protocol is ServerProtocol.HTTP2:
        return pb.ProxyProtocol(http2=pb.ProxyProtocol.Http2(routes=routes, local_rate_limit=limit))
    return pb.ProxyProtocol(
        detect=pb.ProxyProtocol.Detect(timeout=_DETECT_TIMEOUT, http_routes=routes, http_local_rate_limit=limit)
    )


def _default_routes(server: InboundServer, probe_networks: Iterable[IpNetwork]) -> list[pb.HttpRoute]:
    routes = [_default_route()]
    networks = list(probe_networks)
    if server.probe_paths and networks:
        routes.append(_probe_route(server.probe_paths, networks))
    return routes


def _http_route(route: InboundRoute) -> pb.HttpRoute:
    rules = [
        pb.HttpRoute.Rule(
            matches=[http_match(match) for match in rule.matches or (HttpMatch(),) if isinstance(match, HttpMatch)],
            filters=_http_filters(rule.filters),
        )
        for rule in route.rules
    ]
    return pb.HttpRoute(
        metadata=_route_metadata(route),
        hosts=map(host_match, route.hosts),
        authorizations=map(_authorization, route.authorizations),
        rules=rules,
    )


def _http_filters(filters: Iterable[Filter]) -> Iterator[pb.HttpRoute.Filter]:
    for found in filters:
        match found:
            case HeaderChange(on_response=False):
                yield pb.HttpRoute.Filter(request_header_modifier=request_headers(found))
            case HeaderChange():
                # The inbound API has no word for it, and Linkerd leaves it out too.
                continue
            case Redirect():
                yield pb.HttpRoute.Filter(redirect=redirect(found))
            case UrlRewrite() | Fail():
                message = "a Server's route cannot rewrite" if isinstance(found, UrlRewrite) else found.message
                injector = http_route_pb2.HttpFailureInjector(status=500, message=message)
                yield pb.HttpRoute.Filter(failure_injector=injector)
            case _:
                assert_never(found)


def _grpc_route(route: InboundRoute) -> pb.GrpcRoute:
    rules = [
        pb.GrpcRoute.Rule(
            matches=[grpc_match(match) for match in rule.matches or (GrpcMatch(),) if isinstance(match, GrpcMatch)],
            filters=[
                pb.GrpcRoute.Filter(request_header_modifier=request_headers(found))
                for found in rule.filters
                if isinstance(found, HeaderChange) and not found.on_response
            ],
        )
        for rule in route.rules
    ]
    return pb.GrpcRoute(
        metadata=_route_metadata(route),
        hosts=map(host_match, route.hosts),
        authorizations=map(_authorization, route.authorizations),
        rules=rules,
    )


def _route_metadata(route: InboundRoute) -> meta_pb2.Metadata:
    group, kind, name = route.id
    return meta_pb2.Metadata(
        resource=meta_pb2.Resource(group=group, kind=kind, name=name.name, namespace=name.namespace)
    )


def _rate_limit(limit: ServerRateLimit | None) -> pb.HttpLocalRateLimit | None:
    if limit is None:
        return None

    def rate(requests_per_second: int | None) -> pb.HttpLocalRateLimit.Limit | None:
        if requests_per_second is None:
            return None
        return pb.HttpLocalRateLimit.Limit(requestsPerSecond=requests_per_second)

    of = pb.HttpLocalRateLimit.Override
    overrides = [
        of(
            limit=rate(each.requests_per_second),
            clients=of.ClientIdentities(identities=[pb.Identity(name=name) for name in each.identities]),
        )
        for each in limit.overrides
    ]
    resource = meta_pb2.Resource(
        group=POLICY_GROUP, kind="HTTPLocalRateLimitPolicy", name=limit.name.name, namespace=limit.name.namespace
    )
    return pb.HttpLocalRateLimit(
        metadata=meta_pb2.Metadata(resource=resource),
        total=rate(limit.total),
        identity=rate(limit.identity),
        overrides=overrides,
    )


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
