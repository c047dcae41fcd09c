"""An API server to try things on: `python -m tests.kubernetes kube-apiserver|weft-local`, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import signal
import tempfile
from pathlib import Path

from tests.kubernetes.api_servers import BOOT, KUBE_APISERVER

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.kubernetes", description=__doc__)
    parser.add_argument("name", choices=sorted(BOOT), nargs="?", default=KUBE_APISERVER)
    chosen = parser.parse_args().name
    with tempfile.TemporaryDirectory(prefix="weft-api-") as folder, BOOT[chosen](Path(folder)) as api:
        print(f"export KUBECONFIG={api.kubeconfig}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
