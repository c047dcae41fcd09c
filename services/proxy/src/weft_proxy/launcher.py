"""weft-proxy-identity: what a proxy that makes no key of its own needs before it starts.

Linkerd's proxy reads `key.p8` and `csr.der` and never writes them. This puts them in its identity folder and then
becomes the given command, so that such a proxy can stand in for ours in an injected pod.
"""

import argparse
import os
import sys
from pathlib import Path

from weft_proxy import VERSION

EXIT_CONFIG = 64
EXIT_CANNOT_RUN = 126
DIRECTORY = "LINKERD2_PROXY_IDENTITY_DIR"
LOCAL_NAME = "LINKERD2_PROXY_IDENTITY_LOCAL_NAME"


def main(argv: list[str] | None = None) -> int:
    """Does not return when the command starts. 64: a variable is missing; 1: no key; 126: no such command."""
    parser = argparse.ArgumentParser(
        prog="weft-proxy-identity",
        description="Write the key and signing request a proxy reads from its identity folder, then become that proxy.",
        epilog=f"Reads {DIRECTORY} and {LOCAL_NAME}. Example, another proxy in every pod: "
        "weft local up --image cr.l5d.io/linkerd/proxy='weft-proxy-identity linkerd2-proxy' -f app/, "
        "with the annotation config.linkerd.io/proxy-image: cr.l5d.io/linkerd/proxy.",
    )
    parser.add_argument("--version", action="version", version=f"weft-proxy-identity {VERSION}")
    parser.add_argument("command", metavar="COMMAND", help="the proxy's program")
    parser.add_argument("arguments", metavar="ARG", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    directory, name = os.environ.get(DIRECTORY), os.environ.get(LOCAL_NAME)
    if not directory or not name:
        missing = ", ".join(key for key, value in ((DIRECTORY, directory), (LOCAL_NAME, name)) if not value)
        print(f"weft-proxy-identity: set {missing}; an injected pod has it", file=sys.stderr)
        return EXIT_CONFIG

    from weft_proxy.engine import NativeCryptography
    from weft_proxy.key_files import ensure_key_files

    try:
        ensure_key_files(Path(directory), name, NativeCryptography())
    except (OSError, ValueError) as error:
        print(f"weft-proxy-identity: no key in {directory}: {error}", file=sys.stderr)
        return 1
    try:
        os.execvp(options.command, [options.command, *options.arguments])  # noqa: S606 - becoming it is the purpose
    except OSError as error:
        print(f"weft-proxy-identity: {options.command}: {error.strerror}", file=sys.stderr)
        return EXIT_CANNOT_RUN
