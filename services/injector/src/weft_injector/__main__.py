"""`weft-injector`: parse, run, exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from weft_common.settings import ConfigurationError, describe_settings
from weft_common.tasks import EXIT_BAD_CONFIGURATION, run_service
from weft_common.version import VERSION

from weft_injector.config import SETTINGS, load_settings


def main(argv: Sequence[str] | None = None) -> None:
    """Exit 0 after SIGTERM, 1 on failure, 64 on bad configuration."""
    parser = argparse.ArgumentParser(
        prog="weft-injector",
        description="Admission webhook of the Weft service mesh: adds the proxy to pods.",
        epilog=f"environment:\n{describe_settings(SETTINGS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kubeconfig", type=Path, help="kubeconfig file; in a pod its service account is used")
    parser.add_argument("--version", action="version", version=f"weft-injector {VERSION}")
    arguments = parser.parse_args(argv)
    # The HTTP stack takes a while to load; --help should not.
    from weft_common.kube.config import load_kube_config

    from weft_injector.app import run

    try:
        settings = load_settings()
        kube_config = load_kube_config(arguments.kubeconfig)
    except ConfigurationError as error:
        sys.stderr.writelines(f"configuration: {line}\n" for line in error.lines())
        sys.exit(EXIT_BAD_CONFIGURATION)
    sys.exit(run_service(lambda stop: run(settings, kube_config, stop)))


if __name__ == "__main__":
    main()
