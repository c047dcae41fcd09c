"""Command line of the destination service: parse, run, exit code."""

from __future__ import annotations

import argparse
import os
import sys

from weft_common.log import configure_logging
from weft_common.settings import Mistake, SettingsError, describe_settings
from weft_common.tasks import EXIT_BAD_CONFIGURATION, run_service
from weft_common.version import VERSION

from weft_destination.app import run
from weft_destination.config import TABLE, settings_from_environ


def main() -> int:
    """Run until SIGTERM. The result is the exit code; 64 means bad configuration."""
    _parse_arguments()
    try:
        settings = settings_from_environ(os.environ)
        try:
            configure_logging(settings.log_level, settings.log_format)
        except ValueError as error:
            raise SettingsError([Mistake("WEFT_LOG_LEVEL", settings.log_level, str(error))]) from error
    except SettingsError as error:
        for line in error.lines():
            sys.stderr.write(f"configuration: {line}\n")
        return EXIT_BAD_CONFIGURATION
    return run_service(lambda stop: run(settings, stop))


def _parse_arguments() -> None:
    parser = argparse.ArgumentParser(
        prog="weft-destination",
        description="Discovery and policy of the Weft service mesh: tells proxies where to send and whom to accept.",
        epilog="environment:\n" + describe_settings(TABLE),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"weft-destination {VERSION}")
    parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
