"""weft-proxy-init as pods run it: real iptables in a namespace of its own."""

import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest
from weft_proxy.init.__main__ import main

ARGUMENTS = [
    "--proxy-uid=2102",
    "--inbound-ports-to-ignore=4190,4191,25",
    "--outbound-ports-to-ignore",
    "443,4567-4568",
    "--subnets-to-ignore=192.0.2.0/24,fd00::/8",
    "--use-wait-flag",
]


@pytest.fixture
def netns() -> Iterator[str]:
    name = f"weft-init-{uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def inside(netns: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", "netns", "exec", netns, *command], capture_output=True, text=True, check=False)


def init(netns: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return inside(netns, sys.executable, "-m", "weft_proxy.init", *arguments)


def rules(netns: str, save: str) -> list[str]:
    return [line for line in inside(netns, save, "-t", "nat").stdout.splitlines() if not line.startswith("#")]


@pytest.mark.root
@pytest.mark.parametrize("binary", ["iptables-nft", "iptables-legacy"])
def test_second_run_changes_nothing(netns: str, binary: str) -> None:
    first = init(netns, "--firewall-bin-path", binary, *ARGUMENTS)
    assert first.returncode == 0, first.stderr
    v4, v6 = rules(netns, f"{binary}-save"), rules(netns, f"{binary.replace('ip', 'ip6', 1)}-save")
    assert "-A PROXY_INIT_OUTPUT -m owner --uid-owner 2102" in "\n".join(v4)
    assert [line for line in v4 if "192.0.2.0/24" in line]
    assert [line for line in v6 if "fd00::/8" in line]
    assert init(netns, "--firewall-bin-path", binary, *ARGUMENTS).returncode == 0
    assert rules(netns, f"{binary}-save") == v4
    assert rules(netns, f"{binary.replace('ip', 'ip6', 1)}-save") == v6


@pytest.mark.root
def test_later_run_replaces_the_rules_of_an_earlier_one(netns: str) -> None:
    assert init(netns, "--ipv6=false", *ARGUMENTS).returncode == 0
    assert init(netns, "--ipv6=false", "--outgoing-proxy-port=5140").returncode == 0
    text = "\n".join(rules(netns, "iptables-nft-save"))
    assert "--to-ports 5140" in text
    assert "4140" not in text
    assert text.count("-A OUTPUT") == 1
    assert not [line for line in rules(netns, "ip6tables-nft-save") if "PROXY_INIT" in line]


@pytest.mark.root
def test_failing_command_is_named_with_what_it_said(netns: str) -> None:
    failed = init(netns, "--netns", "/run/netns/absent")
    assert failed.returncode == 1
    assert "nsenter --net=/run/netns/absent" in failed.stderr
    assert "No such file" in failed.stderr


def test_simulation_prints_commands_and_runs_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "--ipv6=false", "-p", "1143", "-o", "1140"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "iptables-nft-save -t nat"
    assert all(line.startswith("iptables-nft") for line in printed)
    assert [line for line in printed if "--to-port 1143" in line]


@pytest.mark.parametrize(
    "bad", [["--inbound-ports-to-ignore=x"], ["--subnets-to-ignore=10"], ["--ipv6=maybe"], ["-p0"]]
)
def test_unreadable_flag_is_refused(bad: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(bad)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
