from ipaddress import ip_address, ip_network

import pytest
from weft_proxy.core import values as v


@pytest.mark.parametrize(
    ("text", "ms"),
    [("0", 0), ("250ms", 250), ("3s", 3000), ("5m", 300_000), ("1h", 3_600_000), ("365d", 31_536_000_000)],
)
def test_duration_is_read_in_milliseconds(text: str, ms: int) -> None:
    assert v.parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "10", "-1s", "1.5s", "1s 2s", "ms", "1S"])
def test_malformed_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        v.parse_duration_ms(text)


def test_socket_address_round_trips_in_both_families() -> None:
    assert str(v.parse_socket_addr("[::]:4143")) == "[::]:4143"
    assert str(v.parse_socket_addr("0.0.0.0:4143")) == "0.0.0.0:4143"


@pytest.mark.parametrize("text", ["4143", "localhost:1", "::1:80", "[1.2.3.4]:1", "1.2.3.4:70000", "1.2.3.4:"])
def test_malformed_socket_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        v.parse_socket_addr(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("localhost.:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("localhost:8080", False),
        ("linkerd-dst.linkerd.svc.cluster.local.:8086", False),
    ],
)
def test_only_literals_and_the_dotted_name_are_loopback(text: str, loopback: bool) -> None:
    address = v.parse_host_port(text)
    assert address.is_loopback is loopback
    assert address.text == text


@pytest.mark.parametrize("text", ["host", "host:", ":80", "ho st:80", "host:0", "host:99999", "[zz]:80"])
def test_malformed_host_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        v.parse_host_port(text)


def test_lists_skip_blanks_and_keep_order() -> None:
    assert v.parse_ports(" 8080, ,80,8080,") == (8080, 80)
    assert v.parse_port_ranges("25,4567-4568") == (v.PortRange(25, 25), v.PortRange(4567, 4568))
    assert v.parse_ips("10.0.0.1,fd00::1") == (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert v.parse_networks("10.1.2.3/8,fd00::/8,1.2.3.4") == (
        ip_network("10.0.0.0/8"),
        ip_network("fd00::/8"),
        ip_network("1.2.3.4/32"),
    )


def test_backward_range_is_refused() -> None:
    with pytest.raises(ValueError):
        v.parse_port_range("20-10")
