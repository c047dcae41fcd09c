from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weft_proxy.core.values import PortRange, parse_port_ranges
from weft_proxy.init.core.binaries import Binaries, NoIptables, choose
from weft_proxy.init.core.plan import PORT_SLOTS_PER_RULE, Family, FirewallSettings, plan, port_groups

SETTINGS = FirewallSettings(
    incoming_proxy_port=4143,
    outgoing_proxy_port=4140,
    proxy_uid=2102,
    proxy_gid=2103,
    inbound_ports_to_ignore=parse_port_ranges("4190,4191,25"),
    outbound_ports_to_ignore=parse_port_ranges("443,4567-4568"),
    subnets_to_ignore=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
)
EXISTING = """*nat
:PREROUTING ACCEPT [0:0]
:PROXY_INIT_OUTPUT - [0:0]
:PROXY_INIT_REDIRECT - [0:0]
-A PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting" -j PROXY_INIT_REDIRECT
-A OUTPUT -m comment --comment "proxy-init/install-proxy-init-output" -j PROXY_INIT_OUTPUT
COMMIT
"""


def lines(existing: str, settings: FirewallSettings, family: Family = Family.V4) -> list[str]:
    """Commands without the table and the comment, which every rule has."""
    found = []
    for command in plan(existing, settings, family):
        words = list(command[2:])
        if "--comment" in words:
            at = words.index("--comment")
            assert words[at + 1].startswith("proxy-init/")
            del words[at - 2 : at + 2]
        found.append(" ".join(words))
    return found


def test_empty_table_gets_both_chains_inbound_first() -> None:
    assert lines("", SETTINGS) == [
        "-N PROXY_INIT_REDIRECT",
        "-A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190,4191,25 -j RETURN",
        "-A PROXY_INIT_REDIRECT -p all -s 10.0.0.0/8 -j RETURN",
        "-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-port 4143",
        "-A PREROUTING -j PROXY_INIT_REDIRECT",
        "-N PROXY_INIT_OUTPUT",
        "-A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -j RETURN",
        "-A PROXY_INIT_OUTPUT -m owner --gid-owner 2103 -j RETURN",
        "-A PROXY_INIT_OUTPUT -o lo -j RETURN",
        "-A PROXY_INIT_OUTPUT -p tcp -m multiport --dports 443,4567:4568 -j RETURN",
        "-A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-port 4140",
        "-A OUTPUT -j PROXY_INIT_OUTPUT",
    ]


def test_second_run_flushes_and_does_not_hook_again() -> None:
    again = lines(EXISTING, SETTINGS)
    assert again[0] == "-F PROXY_INIT_REDIRECT"
    assert "-F PROXY_INIT_OUTPUT" in again
    assert not [line for line in again if line.startswith(("-A PREROUTING", "-A OUTPUT"))]


def test_jump_into_another_chain_is_not_ours() -> None:
    other = EXISTING.replace("-j PROXY_INIT_OUTPUT", "-j PROXY_INIT_OUTPUT_OLD")
    assert "-A OUTPUT -j PROXY_INIT_OUTPUT" in lines(other, SETTINGS)


def test_each_family_takes_its_own_subnets() -> None:
    v6 = lines("", SETTINGS, Family.V6)
    assert "-A PROXY_INIT_REDIRECT -p all -s fd00::/8 -j RETURN" in v6
    assert not [line for line in v6 if "10.0.0.0" in line]


def test_owner_rules_need_a_positive_id() -> None:
    plain = lines("", FirewallSettings(4143, 4140, proxy_uid=0, proxy_gid=-1))
    assert not [line for line in plain if "owner" in line]


def test_listed_ports_replace_the_redirect_of_everything() -> None:
    some = lines("", FirewallSettings(4143, 4140, ports_to_redirect=parse_port_ranges("80,8000-8010")))
    assert some[1:3] == [
        "-A PROXY_INIT_REDIRECT -p tcp --dport 80 -j REDIRECT --to-port 4143",
        "-A PROXY_INIT_REDIRECT -p tcp --dport 8000:8010 -j REDIRECT --to-port 4143",
    ]


port_ranges = st.builds(
    lambda first, length: PortRange(first, min(65535, first + length)), st.integers(1, 65535), st.integers(0, 3)
)


@given(st.lists(port_ranges, max_size=60).map(tuple))
def test_groups_keep_the_order_and_fit_one_rule_each(ports: tuple[PortRange, ...]) -> None:
    groups = list(port_groups(ports))
    assert tuple(port for group in groups for port in group) == ports
    for group in groups:
        assert 0 < sum(1 if p.first == p.last else 2 for p in group) <= PORT_SLOTS_PER_RULE


def having(*names: str) -> set[str]:
    return {full for name in names for full in (name, f"{name}-save")}


def test_asked_binary_wins_when_it_exists() -> None:
    present = having("iptables-legacy", "iptables-nft")
    asked = choose("iptables-legacy", None, Family.V4, present.__contains__)
    assert asked == Binaries("iptables-legacy", "iptables-legacy-save")


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        (("iptables-nft", "iptables", "iptables-legacy"), "iptables-nft"),
        (("iptables", "iptables-legacy"), "iptables"),
        (("iptables-legacy",), "iptables-legacy"),
    ],
)
def test_missing_binary_falls_back_in_order(present: tuple[str, ...], chosen: str) -> None:
    assert choose("/opt/iptables", None, Family.V4, having(*present).__contains__).apply == chosen


def test_ipv6_uses_the_twin_of_each_binary() -> None:
    present = having("/sbin/ip6tables-nft")
    assert choose("/sbin/iptables-nft", None, Family.V6, present.__contains__).save == "/sbin/ip6tables-nft-save"


def test_no_binary_is_an_error_that_names_what_was_tried() -> None:
    with pytest.raises(NoIptables, match="ip6tables-legacy"):
        choose("iptables", None, Family.V6, lambda _name: False)
