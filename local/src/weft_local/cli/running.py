"""What every command asks first: is this cluster there?"""

from __future__ import annotations

from weft_local.cli.errors import Stop
from weft_local.cluster.state import Record, StateDir, read_record, running


def require_running(state: StateDir) -> Record:
    """The record of the running cluster. Raises Stop saying how to start one, or how to clean up."""
    record = running(state)
    if record is not None:
        return record
    which = "" if state.name == "default" else f" --name {state.name}"
    if read_record(state) is not None:
        raise Stop(
            f"cluster {state.name!r} ended without cleaning up; run `weft local down{which}`, then start it again"
        )
    raise Stop(f"no cluster {state.name!r} is running; start one with `weft local up{which}`")
