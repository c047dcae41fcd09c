"""Taking a cluster away so that the machine is as before, whether its process lives, ended or was killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from weft_local.cluster.process import end
from weft_local.cluster.state import StateDir, read_record
from weft_local.node.cleanup import cleanup, leftovers
from weft_local.node.settings import NodeSettings


def what_would_go(state: StateDir) -> list[str]:
    """One line for each thing that `take_down` would end or remove."""
    record = read_record(state)
    found = [f"cluster process {record.pid}"] if record is not None and record.is_running else []
    found += leftovers(_settings(state))
    if state.root.exists():
        found.append(f"directory {state.root}")
    return list(dict.fromkeys(found))


def take_down(state: StateDir, tell: Callable[[str], None]) -> None:
    """End the process in order, then remove everything that carries the cluster's name. Idempotent.

    Hold the cluster's lock around it.
    """
    record = read_record(state)
    if record is not None:
        end(record, tell)
    cleanup(_settings(state))
    shutil.rmtree(state.root, ignore_errors=True)


def _settings(state: StateDir) -> NodeSettings:
    return NodeSettings(name=state.name, state_dir=state.root)
