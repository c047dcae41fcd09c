"""A control plane small enough to read, for the two-proxy test: run as a process inside each pod's namespace.

Identity signs with the test's own CA. One service exists, `web.shop`, with one endpoint; its ports admit one
identity, and 8083 carries opaque bytes. The proxy benchmark runs the same plane.
Arguments: the folder with ca.crt and ca.key, the endpoint's IP, the admitted identity. Prints the port it listens on.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from google.protobuf.duration_pb2 import Duration
from weft_proto.linkerd import destination_pb2 as dst
from weft_proto.linkerd import http_route_pb2, identity_pb2, inbound_pb2, meta_pb2, net_pb2
from weft_proto.linkerd import outbound_pb2 as out
from weft_proto.linkerd.destination_pb2_grpc import DestinationServicer, add_DestinationServicer_to_server
from weft_proto.linkerd.identity_pb2_grpc import IdentityServicer, add_IdentityServicer_to_server
from weft_proto.linkerd.inbound_pb2_grpc import (
    InboundServerPoliciesServicer,
    add_InboundServerPoliciesServicer_to_server,
)
from weft_proto.linkerd.outbound_pb2_grpc import OutboundPoliciesServicer, add_OutboundPoliciesServicer_to_server

SERVICE = "web.shop.svc.cluster.local"
SERVICE_PORTS = range(8080, 8084)
OPAQUE_PORT = 8083
SERVER_IDENTITY = "web.shop.serviceaccount.identity.linkerd.cluster.local"
INBOUND_PORT = 4143
META = meta_pb2.Metadata(default="test")


def ip_message(text: str) -> net_pb2.IPAddress:
    return net_pb2.IPAddress(ipv4=int(ip_address(text)))


def seconds(count: int) -> Duration:
    return Duration(seconds=count)


class Identity(IdentityServicer):
    def __init__(self, folder: Path) -> None:
        self._issuer = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    async def Certify(self, request: identity_pb2.CertifyRequest, context: Any) -> identity_pb2.CertifyResponse:
        csr = x509.load_der_x509_csr(request.certificate_signing_request)
        sans = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert sans.get_values_for_type(x509.DNSName) == [request.identity]
        now = datetime.now(UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(self._issuer.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=20))
            .not_valid_after(now + timedelta(hours=24))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(request.identity)]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        response = identity_pb2.CertifyResponse(leaf_certificate=leaf.public_bytes(Encoding.DER))
        response.valid_until.FromDatetime(leaf.not_valid_after_utc)
        return response


class Destination(DestinationServicer):
    def __init__(self, endpoint_ip: str) -> None:
        self._ip = ip_message(endpoint_ip)

    def _endpoint(self, port: int) -> dst.WeightedAddr:
        name = dst.TlsIdentity.DnsLikeIdentity(name=SERVER_IDENTITY)
        hint = dst.ProtocolHint(opaque_transport=dst.ProtocolHint.OpaqueTransport(inbound_port=INBOUND_PORT))
        if port == OPAQUE_PORT:
            hint.opaque.SetInParent()
        else:
            hint.h2.SetInParent()
        return dst.WeightedAddr(
            addr=net_pb2.TcpAddress(ip=self._ip, port=port),
            weight=10000,
            metric_labels={"deployment": "web"},
            tls_identity=dst.TlsIdentity(dns_like_identity=name, server_name=name),
            protocol_hint=hint,
        )

    async def Get(self, request: dst.GetDestination, context: Any) -> AsyncIterator[dst.Update]:
        name, _, port = request.path.partition(":")
        assert name == SERVICE
        endpoint = self._endpoint(int(port))
        yield dst.Update(add=dst.WeightedAddrSet(addrs=[endpoint], metric_labels={"namespace": "shop"}))
        await asyncio.Event().wait()

    async def GetProfile(self, request: dst.GetDestination, context: Any) -> AsyncIterator[dst.DestinationProfile]:
        yield dst.DestinationProfile(fully_qualified_name=SERVICE)
        await asyncio.Event().wait()


def outbound_policy(port: int) -> out.OutboundPolicy:
    balancer = out.Backend.BalanceP2c(
        discovery=out.Backend.EndpointDiscovery(
            dst=out.Backend.EndpointDiscovery.DestinationGet(path=f"{SERVICE}:{port}")
        ),
        peak_ewma=out.Backend.BalanceP2c.PeakEwma(default_rtt=Duration(nanos=30_000_000), decay=seconds(10)),
    )
    queue = out.Queue(capacity=100, failfast_timeout=seconds(3))
    backend = out.Backend(metadata=META, balancer=balancer, queue=queue)
    http_backends = out.HttpRoute.Distribution(
        first_available=out.HttpRoute.Distribution.FirstAvailable(
            backends=[out.HttpRoute.RouteBackend(backend=backend)]
        )
    )
    everything = http_route_pb2.HttpRouteMatch(path=http_route_pb2.PathMatch(prefix="/"))
    http = out.HttpRoute(metadata=META, rules=[out.HttpRoute.Rule(matches=[everything], backends=http_backends)])
    tcp_backends = out.OpaqueRoute.Distribution(
        first_available=out.OpaqueRoute.Distribution.FirstAvailable(
            backends=[out.OpaqueRoute.RouteBackend(backend=backend)]
        )
    )
    tcp = out.OpaqueRoute(metadata=META, rules=[out.OpaqueRoute.Rule(backends=tcp_backends)])
    if port == OPAQUE_PORT:
        opaque = out.ProxyProtocol.Opaque(routes=[tcp])
        return out.OutboundPolicy(protocol=out.ProxyProtocol(opaque=opaque), metadata=META)
    detect = out.ProxyProtocol.Detect(
        timeout=seconds(10),
        opaque=out.ProxyProtocol.Opaque(routes=[tcp]),
        http1=out.ProxyProtocol.Http1(routes=[http]),
        http2=out.ProxyProtocol.Http2(routes=[http]),
    )
    return out.OutboundPolicy(protocol=out.ProxyProtocol(detect=detect), metadata=META)


class Outbound(OutboundPoliciesServicer):
    async def Watch(self, request: out.TrafficSpec, context: Any) -> AsyncIterator[out.OutboundPolicy]:
        yield outbound_policy(request.addr.port)
        await asyncio.Event().wait()

    async def Get(self, request: out.TrafficSpec, context: Any) -> out.OutboundPolicy:
        return outbound_policy(request.addr.port)


class Inbound(InboundServerPoliciesServicer):
    def __init__(self, admitted: str) -> None:
        self._admitted = admitted

    def _server(self, port: int) -> inbound_pb2.Server:
        permit = inbound_pb2.Authn.PermitMeshTLS
        clients = permit.PermitClientIdentities(identities=[inbound_pb2.Identity(name=self._admitted)])
        authn = inbound_pb2.Authn(meshTLS=permit(identities=clients))
        if port not in SERVICE_PORTS:
            authn = inbound_pb2.Authn(unauthenticated=inbound_pb2.Authn.PermitUnauthenticated())
        everywhere = net_pb2.IPNetwork(ip=ip_message("0.0.0.0"), prefix_len=0)
        authz = inbound_pb2.Authz(
            networks=[inbound_pb2.Network(net=everywhere)],
            authentication=authn,
            metadata=meta_pb2.Metadata(default="only"),
        )
        everything = http_route_pb2.HttpRouteMatch(path=http_route_pb2.PathMatch(prefix="/"))
        route = inbound_pb2.HttpRoute(metadata=META, rules=[inbound_pb2.HttpRoute.Rule(matches=[everything])])
        detect = inbound_pb2.ProxyProtocol.Detect(timeout=seconds(10), http_routes=[route])
        protocol = inbound_pb2.ProxyProtocol(detect=detect)
        if port == OPAQUE_PORT:
            protocol = inbound_pb2.ProxyProtocol(opaque=inbound_pb2.ProxyProtocol.Opaque())
        return inbound_pb2.Server(
            protocol=protocol,
            authorizations=[authz],
            labels={"group": "policy.linkerd.io", "kind": "server", "name": "web-http"},
        )

    async def WatchPort(self, request: inbound_pb2.PortSpec, context: Any) -> AsyncIterator[inbound_pb2.Server]:
        yield self._server(request.port)
        await asyncio.Event().wait()

    async def GetPort(self, request: inbound_pb2.PortSpec, context: Any) -> inbound_pb2.Server:
        return self._server(request.port)


async def main(folder: Path, endpoint_ip: str, admitted: str) -> None:
    server = grpc.aio.server()
    add_IdentityServicer_to_server(Identity(folder), server)
    add_DestinationServicer_to_server(Destination(endpoint_ip), server)
    add_OutboundPoliciesServicer_to_server(Outbound(), server)
    add_InboundServerPoliciesServicer_to_server(Inbound(admitted), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
