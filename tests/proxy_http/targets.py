"""Outbound policy messages: one endpoint behind every route."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import destination_pb2, grpc_route_pb2, http_route_pb2, tls_route_pb2
from weft_proto.linkerd import outbound_pb2 as out

from .policies import built_in, socket_message

Endpoint = destination_pb2.WeightedAddr
QUEUE = out.Queue(capacity=100, failfast_timeout=Duration(seconds=3))


def endpoint(ip: str, port: int, identity: str = "", *, takes_http2: bool = False, authority: str = "") -> Endpoint:
    """identity: what it must prove to be, over mesh TLS; empty: it is dialled in clear. authority: its override."""
    found = Endpoint(addr=socket_message(ip, port), weight=1)
    if identity:
        found.tls_identity.dns_like_identity.name = identity
        found.tls_identity.server_name.name = identity
    if takes_http2:
        found.protocol_hint.h2.SetInParent()
    if authority:
        found.authority_override.authority_override = authority
    return found


def found(*endpoints: Endpoint) -> destination_pb2.Update:
    """Discovery adds them."""
    return destination_pb2.Update(add=destination_pb2.WeightedAddrSet(addrs=endpoints))


def _backend(of: Endpoint | str | None) -> out.Backend:
    """of: an endpoint, the discovery path of several, or None for a backend that did not resolve."""
    if not isinstance(of, str):
        return out.Backend(metadata=built_in("backend"), forward=of, queue=QUEUE)
    kind = out.Backend.BalanceP2c
    ewma = kind.PeakEwma(default_rtt=Duration(nanos=30_000_000), decay=Duration(seconds=10))
    discovery = out.Backend.EndpointDiscovery(dst=out.Backend.EndpointDiscovery.DestinationGet(path=of))
    return out.Backend(metadata=built_in("backend"), balancer=kind(discovery=discovery, peak_ewma=ewma), queue=QUEUE)


def http_route(of: Endpoint | str | None, *, path: str = "/", **rule: Any) -> out.HttpRoute:
    """rule: its other fields, such as timeouts and retry."""
    first = out.HttpRoute.Distribution.FirstAvailable(backends=[out.HttpRoute.RouteBackend(backend=_backend(of))])
    matches = [http_route_pb2.HttpRouteMatch(path=http_route_pb2.PathMatch(prefix=path))]
    distribution = out.HttpRoute.Distribution(first_available=first)
    return out.HttpRoute(
        metadata=built_in("http"), rules=[out.HttpRoute.Rule(matches=matches, backends=distribution, **rule)]
    )


def _opaque_route(of: Endpoint | str | None, **rule: Any) -> out.OpaqueRoute:
    first = out.OpaqueRoute.Distribution.FirstAvailable(backends=[out.OpaqueRoute.RouteBackend(backend=_backend(of))])
    distribution = out.OpaqueRoute.Distribution(first_available=first)
    return out.OpaqueRoute(metadata=built_in("opaq"), rules=[out.OpaqueRoute.Rule(backends=distribution, **rule)])


def grpc_route(of: Endpoint | str | None, *, service: str = "", method: str = "", **rule: Any) -> out.GrpcRoute:
    """Empty: any service, any method. rule: its other fields, such as filters and retry."""
    first = out.GrpcRoute.Distribution.FirstAvailable(backends=[out.GrpcRoute.RouteBackend(backend=_backend(of))])
    matches = [grpc_route_pb2.GrpcRouteMatch(rpc=grpc_route_pb2.GrpcRpcMatch(service=service, method=method))]
    distribution = out.GrpcRoute.Distribution(first_available=first)
    return out.GrpcRoute(
        metadata=built_in("grpc"), rules=[out.GrpcRoute.Rule(matches=matches, backends=distribution, **rule)]
    )


def grpc(*routes: out.GrpcRoute) -> out.OutboundPolicy:
    protocol = out.ProxyProtocol(grpc=out.ProxyProtocol.Grpc(routes=routes))
    return out.OutboundPolicy(protocol=protocol, metadata=built_in("target"))


def http1(*routes: out.HttpRoute) -> out.OutboundPolicy:
    protocol = out.ProxyProtocol(http1=out.ProxyProtocol.Http1(routes=routes))
    return out.OutboundPolicy(protocol=protocol, metadata=built_in("target"))


def http2(ip: str, port: int) -> out.OutboundPolicy:
    protocol = out.ProxyProtocol(http2=out.ProxyProtocol.Http2(routes=[http_route(endpoint(ip, port))]))
    return out.OutboundPolicy(protocol=protocol, metadata=built_in("target"))


def detect(ip: str, port: int, **rule: Any) -> out.OutboundPolicy:
    """rule: more fields of the one HTTP rule."""
    return detect_to(endpoint(ip, port), **rule)


def detect_to(of: Endpoint | str | None, **rule: Any) -> out.OutboundPolicy:
    """rule: more fields of the one HTTP rule, and the prefix of its path."""
    kind = out.ProxyProtocol.Detect(
        timeout=Duration(seconds=10),
        opaque=out.ProxyProtocol.Opaque(routes=[_opaque_route(of)]),
        http1=out.ProxyProtocol.Http1(routes=[http_route(of, **rule)]),
        http2=out.ProxyProtocol.Http2(routes=[http_route(of, **rule)]),
    )
    return out.OutboundPolicy(protocol=out.ProxyProtocol(detect=kind), metadata=built_in("target"))


def opaque(ip: str, port: int, identity: str = "") -> out.OutboundPolicy:
    return opaque_to(endpoint(ip, port, identity))


def opaque_to(of: Endpoint | str | None, **rule: Any) -> out.OutboundPolicy:
    """rule: more fields of the one rule."""
    protocol = out.ProxyProtocol(opaque=out.ProxyProtocol.Opaque(routes=[_opaque_route(of, **rule)]))
    return out.OutboundPolicy(protocol=protocol, metadata=built_in("target"))


def tls(names: Mapping[str, Endpoint | str]) -> out.OutboundPolicy:
    """names: an endpoint, or a discovery path, for each exact server name."""
    routes = []
    for name, of in names.items():
        kind = out.TlsRoute.Distribution
        first = kind.FirstAvailable(backends=[out.TlsRoute.RouteBackend(backend=_backend(of))])
        rule = out.TlsRoute.Rule(backends=kind(first_available=first))
        routes.append(out.TlsRoute(metadata=built_in(name), snis=[tls_route_pb2.SniMatch(exact=name)], rules=[rule]))
    protocol = out.ProxyProtocol(tls=out.ProxyProtocol.Tls(routes=routes))
    return out.OutboundPolicy(protocol=protocol, metadata=built_in("target"))
