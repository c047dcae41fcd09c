"""weft-proxy-init: flags of kubernetes.md 1.10 to firewall rules. Exit code 0, or 1 with the command that failed."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from weft_proxy import VERSION
from weft_proxy.core.log_filter import Level, LogFilter
from weft_proxy.core.values import IpNetwork, PortRange, parse_network, parse_port, parse_port_range
from weft_proxy.init.core.binaries import MODES, NoIptables
from weft_proxy.init.core.plan import Family, FirewallSettings
from weft_proxy.init.runner import CommandFailed, Runner
from weft_proxy.logs import LogSink

T = TypeVar("T")
DEFAULT_INCOMING_PORT = 4143
DEFAULT_OUTGOING_PORT = 4140
_TARGET = "weft_proxy_init"
_LOG_LEVELS = {"panic": "error", "fatal": "error", "warning": "warn"}
"""Spellings of other loggers that charts may pass."""


def _list_of(parse: Callable[[str], T], what: str) -> Callable[[str], tuple[T, ...]]:
    def parse_list(text: str) -> tuple[T, ...]:
        try:
            return tuple(parse(item.strip()) for item in text.split(",") if item.strip())
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of {what}") from error

    return parse_list


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _log_filter(text: str) -> LogFilter:
    try:
        return LogFilter.parse(_LOG_LEVELS.get(text.lower(), text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a log level") from error


def _port(text: str) -> int:
    try:
        return parse_port(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port") from error


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weft-proxy-init", description="Send this pod's TCP traffic through its proxy (nat table only)."
    )
    add = parser.add_argument

    def flag(*names: str, default: bool, help_: str) -> None:
        add(*names, type=_boolean, nargs="?", const=True, default=default, help=f"{help_} (default {default})")

    def listed(name: str, parse: Callable[[str], object], what: str, help_: str) -> None:
        add(name, type=_list_of(parse, what), action="extend", default=[], metavar="LIST", help=help_)

    add("--incoming-proxy-port", "-p", type=_port, default=DEFAULT_INCOMING_PORT, help="inbound proxy port")
    add("--outgoing-proxy-port", "-o", type=_port, default=DEFAULT_OUTGOING_PORT, help="outbound proxy port")
    add("--proxy-uid", "-u", type=int, default=-1, help="user whose traffic is left alone")
    add("--proxy-gid", "-g", type=int, default=-1, help="group whose traffic is left alone")
    listed("--ports-to-redirect", parse_port_range, "ports", "redirect these inbound ports only")
    listed("--inbound-ports-to-ignore", parse_port_range, "ports and ranges", "inbound ports left alone")
    listed("--outbound-ports-to-ignore", parse_port_range, "ports and ranges", "outbound ports left alone")
    listed("--subnets-to-ignore", parse_network, "CIDRs", "sources left alone on the inbound side")
    flag("--ipv6", default=True, help_="install the IPv6 rules too")
    add("--iptables-mode", choices=sorted(MODES), help="which iptables to prefer, when no path is given")
    add("--firewall-bin-path", help="iptables binary (default iptables-nft)")
    add("--firewall-save-bin-path", help="its -save binary (default: derived)")
    flag("--use-wait-flag", "-w", default=False, help_="wait for the xtables lock")
    add("--netns", help="network namespace to work in, as a path")
    add("--timeout-close-wait-secs", type=int, default=0, help="conntrack CLOSE_WAIT timeout; 0 leaves it")
    flag("--simulate", "--dry-run", default=False, help_="print the commands and run none")
    add("--log-format", choices=("plain", "json"), default="plain")
    add("--log-level", type=_log_filter, default="info")
    add("--version", action="version", version=f"weft-proxy-init {VERSION}")
    return parser


def firewall_settings(args: argparse.Namespace) -> FirewallSettings:
    ports: Callable[[Sequence[PortRange]], tuple[PortRange, ...]] = tuple
    subnets: tuple[IpNetwork, ...] = tuple(args.subnets_to_ignore)
    return FirewallSettings(
        incoming_proxy_port=args.incoming_proxy_port,
        outgoing_proxy_port=args.outgoing_proxy_port,
        proxy_uid=args.proxy_uid,
        proxy_gid=args.proxy_gid,
        ports_to_redirect=ports(args.ports_to_redirect),
        inbound_ports_to_ignore=ports(args.inbound_ports_to_ignore),
        outbound_ports_to_ignore=ports(args.outbound_ports_to_ignore),
        subnets_to_ignore=subnets,
    )


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    sink = LogSink(args.log_level, as_json=args.log_format == "json")

    def report(command: str) -> None:
        if args.simulate:
            print(command)
        else:
            sink.write(_TARGET, Level.INFO, command, {})

    runner = Runner(netns=args.netns, simulate=args.simulate, wait=args.use_wait_flag, report=report)
    binary = args.firewall_bin_path or MODES[args.iptables_mode or "nft"]
    settings = firewall_settings(args)
    try:
        if args.timeout_close_wait_secs > 0:
            runner.set_close_wait(args.timeout_close_wait_secs)
        for family in (Family.V4, Family.V6) if args.ipv6 else (Family.V4,):
            runner.install(settings, family, binary, args.firewall_save_bin_path)
    except (CommandFailed, NoIptables) as error:
        print(f"weft-proxy-init: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
