"""The command line every service shares: --help with its environment, --version, complaints about configuration."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from weft_common.settings import ConfigurationError, Setting, describe_settings
from weft_common.tasks import EXIT_BAD_CONFIGURATION
from weft_common.version import VERSION


def service_parser(
    program: str, description: str, table: Sequence[Setting[Any]], example: str = ""
) -> argparse.ArgumentParser:
    """A parser that knows --help and --version. example: a command to show, empty for none."""
    epilog = f"environment:\n{describe_settings(table)}"
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=f"{epilog}\n\nexample:\n  {example}" if example else epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{program} {VERSION}")
    return parser


@contextlib.contextmanager
def exit_on_bad_configuration() -> Iterator[None]:
    """Ends the process with one line for each mistake, and the exit code for them."""
    try:
        yield
    except ConfigurationError as error:
        sys.stderr.writelines(f"configuration: {line}\n" for line in error.lines())
        sys.exit(EXIT_BAD_CONFIGURATION)
