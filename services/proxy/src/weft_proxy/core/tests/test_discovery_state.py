from ipaddress import ip_address, ip_network

import pytest
from weft_proto.linkerd import destination_pb2, net_pb2, outbound_pb2
from weft_proto.weft import engine_pb2
from weft_proxy.core.addresses import (
    ip_from_message,
    ip_to_message,
    socket_addr_from_message,
    socket_addr_to_message,
    wants_profile,
)
from weft_proxy.core.endpoints import EndpointStream
from weft_proxy.core.settings import DiscoverySettings, StreamLimits
from weft_proxy.core.stream import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    OK,
    UNIMPLEMENTED,
    UNKNOWN,
    End,
    Method,
    end_of_stream,
)
from weft_proxy.core.target import Answer, Target, TargetState, target_of
from weft_proxy.core.values import parse_socket_addr

DST = socket_addr_to_message(parse_socket_addr("10.1.2.3:80"))
ASKED = engine_pb2.DiscoverTarget(original_dst=DST)
ADD = destination_pb2.Update(add=destination_pb2.WeightedAddrSet(addrs=[destination_pb2.WeightedAddr(addr=DST)]))
REMOVE = destination_pb2.Update(remove=destination_pb2.AddrSet(addrs=[DST]))
NONE = destination_pb2.Update(no_endpoints=destination_pb2.NoEndpoints(exists=True))


@pytest.mark.parametrize("text", ["10.1.2.3:80", "[fd00::1234]:443", "[::]:1"])
def test_addresses_survive_the_wire(text: str) -> None:
    assert socket_addr_from_message(socket_addr_to_message(parse_socket_addr(text))) == parse_socket_addr(text)


def test_message_without_an_address_is_none() -> None:
    assert ip_from_message(net_pb2.IPAddress()) is None
    assert socket_addr_from_message(net_pb2.TcpAddress(port=1)) is None


def test_ipv6_halves_are_in_network_order() -> None:
    message = ip_to_message(ip_address("fd00::1"))
    assert (message.ipv6.first, message.ipv6.last) == (0xFD00 << 48, 1)


def test_profiles_are_wanted_inside_the_networks_only() -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert wants_profile(ip_address("10.9.9.9"), networks)
    assert wants_profile(ip_address("fd00::1"), networks)
    assert not wants_profile(ip_address("192.0.2.1"), networks)
    assert not wants_profile(ip_address("10.0.0.1"), ())


def test_first_add_replaces_and_later_adds_merge() -> None:
    stream = EndpointStream("a:80")
    commands = [stream.command(update) for update in (ADD, ADD, REMOVE)]
    assert [c.set_endpoints.first_of_stream for c in commands if c] == [True, False, False]


def test_first_add_after_a_reconnect_replaces_again() -> None:
    stream = EndpointStream("a:80")
    stream.command(ADD)
    stream.reconnected()
    command = stream.command(ADD)
    assert command is not None
    assert command.set_endpoints.first_of_stream


def test_remove_that_opens_a_stream_is_ignored_and_the_add_after_it_replaces() -> None:
    stream = EndpointStream("a:80")
    assert stream.command(REMOVE) is None
    command = stream.command(ADD)
    assert command is not None
    assert command.set_endpoints.first_of_stream


def test_no_endpoints_opens_a_stream_and_unknown_updates_do_not() -> None:
    stream = EndpointStream("a:80")
    assert stream.command(destination_pb2.Update()) is None
    command = stream.command(NONE)
    assert command is not None
    assert command.set_endpoints.first_of_stream


def test_target_is_told_once_both_answers_are_there() -> None:
    state = TargetState(ASKED)
    state.policy = outbound_pb2.OutboundPolicy()
    assert state.command() is None
    state.profile = destination_pb2.DestinationProfile(fully_qualified_name="a")
    command = state.command()
    assert command is not None
    assert command.set_outbound_target.HasField("policy")
    assert command.set_outbound_target.profile.fully_qualified_name == "a"


def test_target_without_policy_and_profile_is_told_without_them() -> None:
    command = TargetState(ASKED, Answer.ABSENT, Answer.ABSENT).command()
    assert command is not None
    assert not command.set_outbound_target.HasField("policy")
    assert not command.set_outbound_target.HasField("profile")


def test_an_answer_says_what_was_asked_for() -> None:
    for asked in (ASKED, engine_pb2.DiscoverTarget(authority="web.shop:80")):
        command = TargetState(asked, Answer.ABSENT, Answer.ABSENT).command()
        assert command is not None
        told = command.set_outbound_target
        assert (told.original_dst, told.authority) == (asked.original_dst, asked.authority)


def test_targets_are_named_as_discovery_asks_for_them() -> None:
    assert target_of(engine_pb2.DiscoverTarget()) is None
    address, name = target_of(ASKED), target_of(engine_pb2.ReleaseTarget(authority="web.shop.:80"))
    assert address is not None
    assert name is not None
    assert (address.path, name.path) == ("10.1.2.3:80", "web.shop:80")


@pytest.mark.parametrize(
    ("name", "suffix", "wanted"),
    [
        ("web.shop.svc.cluster.local", "svc.cluster.local.", True),
        ("web.shop.svc.cluster.local.", "svc.cluster.local", True),
        ("web.notsvc.cluster.local", "svc.cluster.local.", False),
        ("web.shop.svc.cluster.local", "", False),
    ],
)
def test_names_want_a_profile_under_the_suffixes_only(name: str, suffix: str, wanted: bool) -> None:
    settings = DiscoverySettings(
        workload="",
        context="",
        profile_networks=(),
        profile_suffixes=(suffix,) if suffix else (),
        inbound_profile_wait_ms=500,
        stream_limits=StreamLimits(None, None, None),
    )
    assert Target(f"{name}:80").wants_profile(settings) is wanted


def test_refusal_does_not_wait_for_the_profile() -> None:
    command = TargetState(ASKED, refusal="no").command()
    assert command is not None
    assert command.set_outbound_target.refusal == "no"


R, M, A, F = End.RETRY, End.MISSING, End.ABSENT, End.REFUSED


@pytest.mark.parametrize(
    ("method", "unknown", "invalid", "precondition", "not_found", "unimplemented"),
    [
        (Method.GET, R, F, F, R, R),
        (Method.GET_PROFILE, M, A, A, M, R),
        (Method.WATCH_OUTBOUND, R, F, F, A, A),
        (Method.WATCH_OUTBOUND_NAME, R, F, F, M, A),
        (Method.WATCH_PORT, R, A, A, R, R),
    ],
)
def test_codes_end_streams_as_the_contract_says(
    method: Method, unknown: End, invalid: End, precondition: End, not_found: End, unimplemented: End
) -> None:
    codes = (UNKNOWN, INVALID_ARGUMENT, FAILED_PRECONDITION, NOT_FOUND, UNIMPLEMENTED)
    ends = (unknown, invalid, precondition, not_found, unimplemented)
    assert tuple(end_of_stream(method, c) for c in codes) == ends
    assert all(end_of_stream(method, c) is R for c in range(17) if c not in codes)
    assert end_of_stream(method, OK) is R
