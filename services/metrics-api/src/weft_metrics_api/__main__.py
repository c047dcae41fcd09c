"""`weft-metrics-api`: parse, run, exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from weft_common.command_line import exit_on_bad_configuration, service_parser
from weft_common.lean import lean_imports
from weft_common.tasks import run_service

from weft_metrics_api.config import SETTINGS, load_settings

DESCRIPTION = "Golden metrics and edges of the Weft service mesh, over gRPC."
EXAMPLE = "WEFT_SCRAPE_INTERVAL=2s weft-metrics-api --kubeconfig ~/.kube/config"


def main(argv: Sequence[str] | None = None) -> None:
    """Exit 0 after SIGTERM, 1 on failure, 64 on bad configuration."""
    parser = service_parser("weft-metrics-api", DESCRIPTION, SETTINGS, EXAMPLE)
    parser.add_argument("--kubeconfig", type=Path, help="cluster to watch; default: the one this pod runs in")
    arguments = parser.parse_args(argv)
    with exit_on_bad_configuration():
        settings = load_settings()
        # Loading gRPC and the HTTP client takes half a second; --help should not.
        with lean_imports():
            from weft_common.kube.config import load_kube_config

            from weft_metrics_api.app import run
        kube_config = load_kube_config(arguments.kubeconfig)

    sys.exit(run_service(lambda stop: run(settings, kube_config, stop)))


if __name__ == "__main__":
    main()
