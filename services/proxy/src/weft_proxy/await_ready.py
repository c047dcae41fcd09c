"""weft-await: wait until the proxy beside this container is ready (the postStart hook).

Asks http://localhost:<port>/ready until it answers 200. Exit code 0 when ready, 1 when the time is up.
"""

import argparse
import re
import sys
import time
from http.client import HTTPConnection, HTTPException

DEFAULT_PORT = 4191
DEFAULT_TIMEOUT = "2m"
INTERVAL_S = 0.1
REQUEST_TIMEOUT_S = 1.0
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:(?:\d+(?:\.\d+)?)(?:ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


def duration_s(text: str) -> float:
    """Seconds of `2m`, `1m30s`, `500ms`."""
    if not _DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 2m, 90s or 1m30s")
    return sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))


def is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def wait_until_ready(port: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not is_ready(port):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        time.sleep(min(INTERVAL_S, remaining))
    return True


def main(argv: list[str] | None = None) -> int:
    from weft_proxy import VERSION

    parser = argparse.ArgumentParser(prog="weft-await", description="Wait until the proxy of this pod is ready.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="admin port of the proxy (default %(default)s)")
    parser.add_argument(
        "--timeout", type=duration_s, default=DEFAULT_TIMEOUT, help="how long to wait (default %(default)s)"
    )
    parser.add_argument("--version", action="version", version=f"weft-await {VERSION}")
    args = parser.parse_args(argv)
    if wait_until_ready(args.port, args.timeout):
        return 0
    print(f"weft-await: the proxy at port {args.port} was not ready in time; see its log", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
