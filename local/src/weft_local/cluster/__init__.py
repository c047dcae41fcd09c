"""Assembling a local cluster: its keys, its parts, its life from up to down.

`kubeconfig_path` is here, where importing costs nothing, because every command of `weft` asks it first.
"""

from __future__ import annotations

from pathlib import Path


def kubeconfig_path(name: str = "default") -> Path | None:
    """The kubeconfig of a running cluster, None when none of this name runs."""
    from weft_local.cluster.state import running, state_dir

    state = state_dir(name)
    return state.kubeconfig if running(state) is not None else None
