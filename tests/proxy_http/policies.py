"""Inbound policy messages in as few words as a test needs."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import grpc_route_pb2, http_route_pb2, http_types_pb2, inbound_pb2, meta_pb2, net_pb2

Server = inbound_pb2.Server
HttpRoute = inbound_pb2.HttpRoute
EVERYWHERE = ("0.0.0.0/0", "::/0")


def ip_message(text: str) -> net_pb2.IPAddress:
    address = ip_address(text)
    if address.version == 4:
        return net_pb2.IPAddress(ipv4=int(address))
    bits = int(address)
    return net_pb2.IPAddress(ipv6=net_pb2.IPv6(first=bits >> 64, last=bits & (2**64 - 1)))


def socket_message(ip: str, port: int) -> net_pb2.TcpAddress:
    return net_pb2.TcpAddress(ip=ip_message(ip), port=port)


def resource(kind: str, name: str) -> meta_pb2.Metadata:
    return meta_pb2.Metadata(resource=meta_pb2.Resource(group="policy.linkerd.io", kind=kind, name=name))


def built_in(name: str) -> meta_pb2.Metadata:
    return meta_pb2.Metadata(default=name)


def _network(text: str, but: Iterable[str] = ()) -> inbound_pb2.Network:
    def message(text: str) -> net_pb2.IPNetwork:
        net = ip_network(text)
        return net_pb2.IPNetwork(ip=ip_message(str(net.network_address)), prefix_len=net.prefixlen)

    return inbound_pb2.Network(net=message(text), **{"except": [message(net) for net in but]})


def anyone(
    networks: Iterable[str] = EVERYWHERE, *, but: Iterable[str] = (), meta: meta_pb2.Metadata | None = None
) -> inbound_pb2.Authz:
    authn = inbound_pb2.Authn(unauthenticated=inbound_pb2.Authn.PermitUnauthenticated())
    admitted = [_network(net, but if ip_network(net).version == 4 else ()) for net in networks]
    return inbound_pb2.Authz(networks=admitted, authentication=authn, metadata=meta or built_in("anyone"))


def meshed(*names: str, suffixes: Iterable[str] = ()) -> inbound_pb2.Authz:
    """Without names or suffixes: anyone who speaks mesh TLS, with or without an identity."""
    permit = inbound_pb2.Authn.PermitMeshTLS
    suffix_messages = [inbound_pb2.IdentitySuffix(parts=suffix.split(".") if suffix else []) for suffix in suffixes]
    if names or suffix_messages:
        identities = [inbound_pb2.Identity(name=name) for name in names]
        tls = permit(identities=permit.PermitClientIdentities(identities=identities, suffixes=suffix_messages))
    else:
        tls = permit(unauthenticated=inbound_pb2.Authn.PermitUnauthenticated())
    return inbound_pb2.Authz(
        networks=[_network(net) for net in EVERYWHERE],
        authentication=inbound_pb2.Authn(meshTLS=tls),
        metadata=resource("authorizationpolicy", "meshed-only"),
    )


def path(prefix: str = "/", *, method: str = "") -> http_route_pb2.HttpRouteMatch:
    match = http_route_pb2.HttpRouteMatch(path=http_route_pb2.PathMatch(prefix=prefix))
    if method:
        match.method.registered = http_types_pb2.HttpMethod.Registered.Value(method)
    return match


def route(
    match: http_route_pb2.HttpRouteMatch | None = None,
    *,
    name: str = "default",
    authorizations: Iterable[inbound_pb2.Authz] = (),
    filters: Iterable[HttpRoute.Filter] = (),
) -> HttpRoute:
    meta = built_in(name) if name == "default" else resource("HTTPRoute", name)
    rule = HttpRoute.Rule(matches=[match or path()], filters=filters)
    return HttpRoute(metadata=meta, authorizations=authorizations, rules=[rule])


def _labels(name: str) -> dict[str, str]:
    return {"group": "policy.linkerd.io", "kind": "server", "name": name}


def detect(
    *routes: HttpRoute,
    authorizations: Iterable[inbound_pb2.Authz] = (anyone(),),
    timeout_ms: int = 10_000,
    rate_limit: inbound_pb2.HttpLocalRateLimit | None = None,
) -> Server:
    timeout = Duration()
    timeout.FromMilliseconds(timeout_ms)
    kind = inbound_pb2.ProxyProtocol.Detect(
        timeout=timeout, http_routes=routes or [route()], http_local_rate_limit=rate_limit
    )
    protocol = inbound_pb2.ProxyProtocol(detect=kind)
    return Server(protocol=protocol, authorizations=authorizations, labels=_labels("web"))


def http1(*routes: HttpRoute) -> Server:
    kind = inbound_pb2.ProxyProtocol.Http1(routes=routes or [route()])
    return Server(protocol=inbound_pb2.ProxyProtocol(http1=kind), authorizations=[anyone()], labels=_labels("web"))


def http2(*routes: HttpRoute) -> Server:
    kind = inbound_pb2.ProxyProtocol.Http2(routes=routes or [route()])
    return Server(protocol=inbound_pb2.ProxyProtocol(http2=kind), authorizations=[anyone()], labels=_labels("web"))


def grpc(*services: str) -> Server:
    """One route to each service; to all when none is named."""
    matches = [
        grpc_route_pb2.GrpcRouteMatch(rpc=grpc_route_pb2.GrpcRpcMatch(service=service)) for service in services or ("",)
    ]
    rule = inbound_pb2.GrpcRoute.Rule(matches=matches)
    kind = inbound_pb2.ProxyProtocol.Grpc(routes=[inbound_pb2.GrpcRoute(metadata=built_in("default"), rules=[rule])])
    return Server(protocol=inbound_pb2.ProxyProtocol(grpc=kind), authorizations=[anyone()], labels=_labels("web"))


def opaque(*authorizations: inbound_pb2.Authz) -> Server:
    protocol = inbound_pb2.ProxyProtocol(opaque=inbound_pb2.ProxyProtocol.Opaque())
    return Server(protocol=protocol, authorizations=authorizations or [anyone()], labels=_labels("web"))


def tls(*authorizations: inbound_pb2.Authz) -> Server:
    protocol = inbound_pb2.ProxyProtocol(tls=inbound_pb2.ProxyProtocol.Tls())
    return Server(protocol=protocol, authorizations=authorizations or [anyone()], labels=_labels("web"))


def default(name: str, *authorizations: inbound_pb2.Authz) -> Server:
    """A default policy, as the proxy has it before the control plane answers."""
    server = detect(authorizations=authorizations)
    server.labels.clear()
    server.labels.update({"group": "", "kind": "default", "name": name})
    return server


def rate_limit(
    *, total: int = 0, identity: int = 0, overrides: dict[str, int] | None = None
) -> inbound_pb2.HttpLocalRateLimit:
    kind = inbound_pb2.HttpLocalRateLimit
    limit = kind(metadata=resource("httplocalratelimitpolicy", "slowly"))
    if total:
        limit.total.requestsPerSecond = total
    if identity:
        limit.identity.requestsPerSecond = identity
    for client, rate in (overrides or {}).items():
        clients = kind.Override.ClientIdentities(identities=[inbound_pb2.Identity(name=client)])
        limit.overrides.append(kind.Override(limit=kind.Limit(requestsPerSecond=rate), clients=clients))
    return limit
