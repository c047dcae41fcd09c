"""Outbound policy messages: one endpoint behind every route."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import destination_pb2, http_route_pb2
from weft_proto.linkerd import outbound_pb2 as out

from .policies import built_in, socket_message


def _backend(ip: str, port: int, identity: str = "") -> out.Backend:
    queue = out.Queue(capacity=100, failfast_timeout=Duration(seconds=3))
    forward = destination_pb2.WeightedAddr(addr=socket_message(ip, port), weight=1)
    if identity:
        forward.tls_identity.dns_like_identity.name = identity
        forward.tls_identity.server_name.name = identity
    return out.Backend(metadata=built_in("backend"), forward=forward, queue=queue)


def _http_route(ip: str, port: int, **rule: Any) -> out.HttpRoute:
    """rule: its other fields, such as timeouts and retry."""
    first = out.HttpRoute.Distribution.FirstAvailable(backends=[out.HttpRoute.RouteBackend(backend=_backend(ip, port))])
    everything = http_route_pb2.HttpRouteMatch(path=http_route_pb2.PathMatch(prefix="/"))
    distribution = out.HttpRoute.Distribution(first_available=first)
    return out.HttpRoute(
        metadata=built_in("http"), rules=[out.HttpRoute.Rule(matches=[everything], backends=distribution, **rule)]
    )


def _opaque_route(ip: str, port: int, identity: str = "") -> out.OpaqueRoute:
    first = out.OpaqueRoute.Distribution.FirstAvailable(
        backends=[out.OpaqueRoute.RouteBackend(backend=_backend(ip, port, identity))]
    )
    distribution = out.OpaqueRoute.Distribution(first_available=first)
    return out.OpaqueRoute(metadata=built_in("opaq"), rules=[out.OpaqueRoute.Rule(backends=distribution)])


def http2(ip: str, port: int) -> out.OutboundPolicy:
    protocol = out.ProxyProtocol(http2=out.ProxyProtocol.Http2(routes=[_http_route(ip, port)]))
    return out.OutboundPolicy(protocol=protocol, metadata=built_in("target"))


def detect(ip: str, port: int, **rule: Any) -> out.OutboundPolicy:
    """rule: more fields of the one HTTP rule."""
    kind = out.ProxyProtocol.Detect(
        timeout=Duration(seconds=10),
        opaque=out.ProxyProtocol.Opaque(routes=[_opaque_route(ip, port)]),
        http1=out.ProxyProtocol.Http1(routes=[_http_route(ip, port, **rule)]),
        http2=out.ProxyProtocol.Http2(routes=[_http_route(ip, port, **rule)]),
    )
    return out.OutboundPolicy(protocol=out.ProxyProtocol(detect=kind), metadata=built_in("target"))


def opaque(ip: str, port: int, identity: str = "") -> out.OutboundPolicy:
    """identity: what the endpoint must prove to be, over mesh TLS; without one it is dialled in clear."""
    protocol = out.ProxyProtocol(opaque=out.ProxyProtocol.Opaque(routes=[_opaque_route(ip, port, identity)]))
    return out.OutboundPolicy(protocol=protocol, metadata=built_in("target"))
