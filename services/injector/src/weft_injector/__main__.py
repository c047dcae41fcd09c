"""`weft-injector`: parse, run, exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from weft_common.command_line import exit_on_bad_configuration, service_parser
from weft_common.lean import lean_imports
from weft_common.tasks import run_service

from weft_injector.config import SETTINGS, load_settings

DESCRIPTION = "Admission webhooks of the Weft service mesh: adds the proxy to pods, refuses policy that cannot work."


def main(argv: Sequence[str] | None = None) -> None:
    """Exit 0 after SIGTERM, 1 on failure, 64 on bad configuration."""
    parser = service_parser("weft-injector", DESCRIPTION, SETTINGS)
    parser.add_argument("--kubeconfig", type=Path, help="kubeconfig file; in a pod its service account is used")
    arguments = parser.parse_args(argv)
    # The HTTP stack takes a while to load; --help should not.
    with lean_imports():
        from weft_common.kube.config import load_kube_config

        from weft_injector.app import run

    with exit_on_bad_configuration():
        settings = load_settings()
        kube_config = load_kube_config(arguments.kubeconfig)
    sys.exit(run_service(lambda stop: run(settings, kube_config, stop)))


if __name__ == "__main__":
    main()
