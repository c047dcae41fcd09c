"""`weft-web`: parse, run, exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from weft_common.command_line import exit_on_bad_configuration, service_parser
from weft_common.lean import lean_imports
from weft_common.tasks import run_service

from weft_web.config import SETTINGS, load_settings

DESCRIPTION = "Web UI of the Weft service mesh."
EXAMPLE = "WEFT_METRICS_API_ADDR=localhost:8085 weft-web"


def main(argv: Sequence[str] | None = None) -> None:
    """Exit 0 after SIGTERM, 1 on failure, 64 on bad configuration."""
    service_parser("weft-web", DESCRIPTION, SETTINGS, EXAMPLE).parse_args(argv)
    with exit_on_bad_configuration():
        settings = load_settings()
    # Loading the web framework takes a second; --help should not. Its Socket.IO looks for clients that we are not.
    with lean_imports("requests", "websocket", "pydantic.v1"):
        from weft_web.app import run

    sys.exit(run_service(lambda stop: run(settings, stop)))


if __name__ == "__main__":
    main()
