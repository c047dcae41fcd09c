"""Endpoints and profiles as messages of io.linkerd.proxy.destination."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never

from weft_proto.linkerd import destination_pb2 as pb

from weft_policy.core.diff import EndpointDiff, diff_endpoints
from weft_policy.core.endpoints import BARE_ENDPOINT, DEFAULT_WEIGHT, Address, Endpoint, EndpointSet, ProtocolHint
from weft_policy.core.objects import Name
from weft_policy.core.profile import EndpointProfileAnswer, ServiceProfileAnswer, UndefinedPort
from weft_policy.core.service_profiles import DEFAULT_RETRY_BUDGET
from weft_policy.wire.encode_common import ip_from_message, milliseconds, service_metadata, tcp_address
from weft_policy.wire.encode_profile import retry_budget, service_profile

# What clients of meshed endpoints use; the chart's meshedHttp2ClientProtobuf.
_HTTP2_PARAMS: Final = pb.Http2ClientParams(
    keep_alive=pb.Http2ClientParams.KeepAlive(
        interval=milliseconds(10_000), timeout=milliseconds(3_000), while_idle=True
    )
)
_RETRY_BUDGET: Final = retry_budget(DEFAULT_RETRY_BUDGET)


def updates_between(old: EndpointSet | None, new: EndpointSet) -> list[pb.Update]:
    """What to send to a stream that has old; None for a stream that has nothing.

    A first message is always the full set, or the word that there is none.
    """
    if old is None or (not old.endpoints and not new.endpoints):
        if old is not None and old.exists == new.exists:
            return []
        return [_add(new.service, new.endpoints)] if new.endpoints else [_no_endpoints(new)]
    diff = diff_endpoints(old.endpoints, new.endpoints)
    return _messages(new.service, diff)


def full_update(endpoints: EndpointSet) -> pb.Update:
    """The whole set in one message."""
    return _add(endpoints.service, endpoints.endpoints)


def known_from_update(service: Name, data: bytes) -> EndpointSet:
    """What a client has after a stored full update: its addresses, described as unlike anything we would send."""
    update = pb.Update.FromString(data)
    addresses = [
        Address(ip, found.addr.port) for found in update.add.addrs if (ip := ip_from_message(found.addr.ip)) is not None
    ]
    return EndpointSet(service, exists=True, endpoints=dict.fromkeys(addresses, _OUTDATED))


_OUTDATED: Final = Endpoint(labels=(("", "outdated"),))


def profile_message(
    answer: ServiceProfileAnswer | EndpointProfileAnswer | UndefinedPort,
) -> pb.DestinationProfile:
    """A profile answer as it is sent."""
    match answer:
        case ServiceProfileAnswer():
            message = service_profile(answer.profile, answer.port) if answer.profile else pb.DestinationProfile()
            if answer.profile is None:
                message.retry_budget.CopyFrom(_RETRY_BUDGET)
            message.fully_qualified_name = answer.authority
            message.opaque_protocol = answer.is_opaque
            message.parent_ref.CopyFrom(service_metadata(answer.service, answer.port))
            return message
        case EndpointProfileAnswer():
            return pb.DestinationProfile(
                endpoint=weighted_addr(answer.address, answer.endpoint),
                opaque_protocol=answer.is_opaque,
                retry_budget=_RETRY_BUDGET,
            )
        case UndefinedPort():
            return pb.DestinationProfile()
        case _:
            assert_never(answer)


def weighted_addr(address: Address, endpoint: Endpoint = BARE_ENDPOINT) -> pb.WeightedAddr:
    """One endpoint."""
    message = pb.WeightedAddr(addr=tcp_address(*address), weight=DEFAULT_WEIGHT, metric_labels=dict(endpoint.labels))
    if endpoint.identity:
        message.tls_identity.CopyFrom(_tls_identity(endpoint.identity, endpoint.server_name or endpoint.identity))
    if endpoint.hint is ProtocolHint.H2:
        message.protocol_hint.h2.SetInParent()
    elif endpoint.hint is ProtocolHint.OPAQUE:
        message.protocol_hint.opaque.SetInParent()
    if endpoint.inbound_port is not None:
        message.protocol_hint.opaque_transport.inbound_port = endpoint.inbound_port
    if endpoint.is_meshed:
        message.http2.CopyFrom(_HTTP2_PARAMS)
    return message


def _tls_identity(identity: str, server_name: str) -> pb.TlsIdentity:
    of = pb.TlsIdentity
    name = of.DnsLikeIdentity(name=server_name)
    if identity.startswith("spiffe://"):
        return of(uri_like_identity=of.UriLikeIdentity(uri=identity), server_name=name)
    return of(dns_like_identity=of.DnsLikeIdentity(name=identity), server_name=name)


def _messages(service: Name, diff: EndpointDiff) -> list[pb.Update]:
    # Additions first: a client that is told to remove its last endpoint would fail requests until the next message.
    messages = [_add(service, diff.add)] if diff.add else []
    if diff.remove:
        addresses = [tcp_address(*address) for address in diff.remove]
        messages.append(pb.Update(remove=pb.AddrSet(addrs=addresses)))
    return messages


def _add(service: Name, endpoints: Mapping[Address, Endpoint]) -> pb.Update:
    return pb.Update(
        add=pb.WeightedAddrSet(
            addrs=[weighted_addr(address, endpoint) for address, endpoint in endpoints.items()],
            metric_labels={"service": service.name, "namespace": service.namespace},
        )
    )


def _no_endpoints(endpoints: EndpointSet) -> pb.Update:
    return pb.Update(no_endpoints=pb.NoEndpoints(exists=endpoints.exists))
