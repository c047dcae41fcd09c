"""weft-network-validator: does this pod's outbound traffic reach the port its proxy will listen on?

For pods whose firewall rules a CNI plugin sets. Listens where the proxy will, connects to an address outside, and
expects to meet itself: the listener sends a random token, and the connection must read that token. Exit code 0 when it
does, 95 when not within the time (the repair controller of Linkerd's CNI plugin looks for 95), 2 on a bad flag.
"""

import argparse
import asyncio
import secrets
import sys

from weft_proxy.await_ready import duration_s
from weft_proxy.core.log_filter import Level, LogFilter
from weft_proxy.core.values import parse_socket_addr
from weft_proxy.logs import LogSink

EXIT_NOT_REDIRECTED = 95
TOKEN_BYTES = 32
_TARGET = "weft_network_validator"
_RETRY_S = 0.2


async def is_redirected(connect: tuple[str, int], listen: tuple[str, int], timeout_s: float) -> bool:
    """Whether a connection to `connect` arrives at `listen` on this machine. Raises OSError when it cannot listen."""
    token = secrets.token_hex(TOKEN_BYTES).encode()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(token)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, *listen)
    async with server:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    if (answer := await _read(connect, len(token))) is not None:
                        return answer == token
                    # A refused connection may be rules that are not in place yet.
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            return False


async def _read(connect: tuple[str, int], size: int) -> bytes | None:
    try:
        reader, writer = await asyncio.open_connection(*connect)
    except OSError:
        return None
    try:
        return await reader.readexactly(size)
    except (OSError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


def _address(text: str) -> tuple[str, int]:
    try:
        address = parse_socket_addr(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT with an IP address") from error
    return str(address.ip), address.port


def _log_filter(text: str) -> LogFilter:
    try:
        return LogFilter.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a log level") from error


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="weft-network-validator", description="Check that a CNI plugin redirects this pod's traffic to its proxy."
    )
    add = parser.add_argument
    add(
        "--connect-addr",
        type=_address,
        default="1.1.1.1:20001",
        help="address outside to connect to (default %(default)s)",
    )
    add(
        "--listen-addr", type=_address, default="0.0.0.0:4140", help="where the proxy will listen (default %(default)s)"
    )
    add("--timeout", type=duration_s, default="10s", help="how long to try (default %(default)s)")
    add("--log-format", choices=("plain", "json"), default="plain")
    add("--log-level", type=_log_filter, default="info")
    args = parser.parse_args(argv)
    sink = LogSink(args.log_level, as_json=args.log_format == "json")
    try:
        reached = asyncio.run(is_redirected(args.connect_addr, args.listen_addr, args.timeout))
    except OSError as error:
        print(f"weft-network-validator: cannot listen on {args.listen_addr}: {error.strerror}", file=sys.stderr)
        return 1
    if reached:
        sink.write(_TARGET, Level.INFO, "Outbound traffic reaches the proxy's port", {})
        return 0
    print(
        "weft-network-validator: traffic does not reach the proxy's port; is the CNI plugin installed on this node?",
        file=sys.stderr,
    )
    return EXIT_NOT_REDIRECTED


if __name__ == "__main__":
    sys.exit(main())
