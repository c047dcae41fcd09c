"""`weft local down`."""

from __future__ import annotations

import typer

from weft_local.cli.progress import Spoken
from weft_local.cluster.down import take_down, what_would_go
from weft_local.cluster.state import exclusively, remove_lock, state_dir


def down(name: str, *, dry_run: bool) -> None:
    """Exit code 0 also when there was nothing: the machine then is as it should be."""
    state = state_dir(name)
    found = what_would_go(state)
    if not found:
        typer.echo(f"no cluster {name!r}: nothing to take down")
        return
    if dry_run:
        typer.echo("\n".join(f"would remove {thing}" for thing in found))
        return
    with exclusively(state), Spoken() as progress:
        progress.step(f"taking down cluster {name!r}")
        take_down(state, progress.step)
        remove_lock(state)
    left = what_would_go(state)
    if left:
        typer.echo("could not remove:\n" + "\n".join(f"  {thing}" for thing in left), err=True)
        raise typer.Exit(1)
    typer.echo(f"cluster {name!r} is gone")
