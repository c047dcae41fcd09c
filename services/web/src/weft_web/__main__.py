"""`weft-web`: parse, run, exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from weft_common.settings import SettingsError, describe_settings
from weft_common.tasks import EXIT_BAD_CONFIGURATION, run_service
from weft_common.version import VERSION

from weft_web.config import SETTINGS, load_settings


def main(argv: Sequence[str] | None = None) -> None:
    """Exit 0 after SIGTERM, 1 on failure, 64 on bad configuration."""
    parser = argparse.ArgumentParser(
        prog="weft-web",
        description="Web UI of the Weft service mesh.",
        epilog=f"environment:\n{describe_settings(SETTINGS)}\n\n"
        "example:\n  WEFT_METRICS_API_ADDR=localhost:8085 weft-web",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"weft-web {VERSION}")
    parser.parse_args(argv)
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.exit(_complain(error))
    # Loading the web framework takes a second; --help should not.
    from weft_web.app import run

    sys.exit(run_service(lambda stop: run(settings, stop)))


def _complain(error: SettingsError) -> int:
    for line in error.lines():
        sys.stderr.write(f"configuration: {line}\n")
    return EXIT_BAD_CONFIGURATION


if __name__ == "__main__":
    main()
