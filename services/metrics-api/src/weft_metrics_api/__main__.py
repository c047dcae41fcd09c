"""`weft-metrics-api`: parse, run, exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from weft_common.settings import ConfigurationError, describe_settings
from weft_common.tasks import EXIT_BAD_CONFIGURATION, run_service
from weft_common.version import VERSION

from weft_metrics_api.config import SETTINGS, load_settings


def main(argv: Sequence[str] | None = None) -> None:
    """Exit 0 after SIGTERM, 1 on failure, 64 on bad configuration."""
    parser = argparse.ArgumentParser(
        prog="weft-metrics-api",
        description="Golden metrics and edges of the Weft service mesh, over gRPC.",
        epilog=f"environment:\n{describe_settings(SETTINGS)}\n\n"
        "example:\n  WEFT_SCRAPE_INTERVAL=2s weft-metrics-api --kubeconfig ~/.kube/config",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"weft-metrics-api {VERSION}")
    parser.add_argument("--kubeconfig", type=Path, help="cluster to watch; default: the one this pod runs in")
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings()
        # Loading gRPC and the HTTP client takes half a second; --help should not.
        from weft_common.kube.config import load_kube_config

        kube_config = load_kube_config(arguments.kubeconfig)
    except ConfigurationError as error:
        for line in error.lines():
            sys.stderr.write(f"configuration: {line}\n")
        sys.exit(EXIT_BAD_CONFIGURATION)
    from weft_metrics_api.app import run

    sys.exit(run_service(lambda stop: run(settings, kube_config, stop)))


if __name__ == "__main__":
    main()
