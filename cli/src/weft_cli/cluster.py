"""Which cluster a command means, and how its failures read.

Order: --kubeconfig, $KUBECONFIG, the running `weft local` cluster, ~/.kube/config. Opens no connection itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from weft_common.kube.client import KubeError, KubeUnreachable
from weft_common.kube.config import KubeConfig, KubeConfigError, load_kube_config

from weft_cli.errors import BadInput, CliError

T = TypeVar("T")

INTERRUPTED: Final = 130


def find_cluster(
    kubeconfig: Path | None, context: str | None = None, environ: Mapping[str, str] = os.environ
) -> KubeConfig:
    """The cluster to talk to. Raises CliError that says where it was looked for."""
    if kubeconfig is not None and not kubeconfig.is_file():
        raise BadInput(f"no kubeconfig at {kubeconfig}")
    if kubeconfig is None and not environ.get("KUBECONFIG"):
        kubeconfig = local_kubeconfig()
    try:
        return load_kube_config(kubeconfig, environ, context)
    except KubeConfigError as error:
        raise CliError(str(error)) from error


def local_kubeconfig() -> Path | None:
    """That of the running `weft local` cluster, None when there is none."""
    found = _running_local()
    return found[0] if found else None


def local_web(config: KubeConfig) -> str | None:
    """Address of the UI on this host, when the cluster is the running local one and its UI is up."""
    found = _running_local()
    return found[2] or None if found and found[1].rstrip("/") == config.server else None


def _running_local() -> tuple[Path, str, str] | None:
    """(kubeconfig, address of the API server, address of the UI) of the local cluster."""
    try:
        from weft_local.cluster.state import DEFAULT_NAME, running, state_dir
    except ImportError:
        # A command line without weft-local works against any other cluster.
        return None
    state = state_dir(DEFAULT_NAME)
    record = running(state)
    if record is None or not state.kubeconfig.is_file():
        return None
    return state.kubeconfig, record.api, record.web


def run(main: Coroutine[Any, Any, T], config: KubeConfig | None = None) -> T:
    """Run one command's coroutine. API server trouble becomes a CliError; Ctrl-C exits with 130."""
    try:
        return asyncio.run(main)
    except KubeUnreachable as error:
        server = config.server if config else "the API server"
        raise CliError(
            f"{server} does not answer: {error.message}",
            hint="is the cluster running? For a local one: weft local status",
        ) from error
    except KubeError as error:
        raise CliError(f"the API server refused: {error.message} (HTTP {error.status})") from error
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
