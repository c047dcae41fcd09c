"""The `weft local` command line: names, options, help. What each command does is in a module imported when it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from weft_local.cli.errors import explained
from weft_local.cli.options import WaitCommand

app = typer.Typer(
    name="local",
    help="Run a meshed cluster on this machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start here:  weft local up -f examples/bookshop --detach --wait",
)


class Output(StrEnum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"


Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Which cluster, if you run several.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NS", help="Namespace of the pod.")]
Files = Annotated[
    list[Path] | None,
    typer.Option("--filename", "-f", metavar="FILE|DIR", help="Manifests to apply; may be repeated."),
]


@app.command(
    cls=WaitCommand,
    epilog=(
        "Examples:  weft local up    ·    weft local up -f app/ --detach --wait 120s    ·    "
        "weft local up -f app.yaml --image shop/api='python -m shop.api'"
    ),
)
def up(
    filename: Files = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return and leave the cluster running.")] = False,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait", metavar="[DURATION]", help="Wait until everything is ready; 300s when no duration is given."
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="NAME=COMMAND", help="Command to run for an image; may be repeated."),
    ] = None,
    name: Name = "default",
    control_plane: Annotated[
        bool, typer.Option("--control-plane/--no-control-plane", help="Install the mesh's control plane.")
    ] = True,
) -> None:
    """Start the cluster with the mesh, and apply manifests. Without --detach, run until Ctrl-C and take all down."""
    with explained():
        from weft_local.cli.up import up as run

        run(filename or [], detach=detach, wait=wait, images=image or [], name=name, control_plane=control_plane)


@app.command(epilog="Example:  weft local down --dry-run")
def down(
    name: Name = "default",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
) -> None:
    """Stop the cluster and leave the machine as it was."""
    with explained():
        from weft_local.cli.down import down as run

        run(name, dry_run=dry_run)


@app.command(epilog="Example:  weft local status -o json")
def status(
    output: Annotated[Output, typer.Option("--output", "-o", help="table or json.")] = Output.TABLE,
    name: Name = "default",
) -> None:
    """Show what runs, where, and what is wrong with it."""
    with explained():
        from weft_local.cli.status import status as run

        run(name, as_json=output is Output.JSON)


@app.command(
    epilog="Examples:  weft local logs -n bookshop -l app=orders -f    ·    weft local logs --cluster",
)
def logs(
    pod: Annotated[str, typer.Argument(metavar="[POD]", help="Name of a pod.")] = "",
    namespace: Namespace = "default",
    selector: Annotated[str, typer.Option("--selector", "-l", metavar="LABELS", help="Pods with these labels.")] = "",
    container: Annotated[str, typer.Option("--container", "-c", help="Which container.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what comes.")] = False,
    tail: Annotated[int, typer.Option("--tail", metavar="N", help="Only the last N lines; -1 for all.")] = -1,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Of the container's run before.")] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="The log of the cluster itself.")] = False,
    name: Name = "default",
) -> None:
    """Print the log of pods, or of the cluster itself."""
    with explained():
        from weft_local.cli.logs import LogQuery
        from weft_local.cli.logs import logs as run

        run(name, LogQuery(pod, namespace, selector, container, follow, tail, previous, cluster))


@app.command(
    name="exec",
    context_settings={"ignore_unknown_options": True},
    epilog="Example:  weft local exec -n bookshop orders-6rr86kvhdh-f9j52 -c orders -- env",
)
def exec_(
    pod: Annotated[str, typer.Argument(metavar="POD", help="Name of a pod.")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="Program and its arguments.")],
    namespace: Namespace = "default",
    container: Annotated[str, typer.Option("--container", "-c", help="Which container.")] = "",
    name: Name = "default",
) -> None:
    """Run a command in a container; its exit code is passed on."""
    with explained():
        from weft_local.cli.exec import run_command

        code = run_command(name, namespace, pod, container, command)
    raise typer.Exit(code)


@app.command(epilog='Example:  kubectl --kubeconfig "$(weft local kubeconfig)" get pods -A')
def kubeconfig(name: Name = "default") -> None:
    """Print the path of the cluster's kubeconfig."""
    with explained():
        from weft_local.cli.running import require_running
        from weft_local.cluster.state import state_dir

        state = state_dir(name)
        require_running(state)
        typer.echo(str(state.kubeconfig))


@app.command(epilog="Example:  weft local apply -f app/")
def apply(
    filename: Annotated[
        list[Path], typer.Option("--filename", "-f", metavar="FILE|DIR", help="Manifests to apply; may be repeated.")
    ],
    name: Name = "default",
) -> None:
    """Check manifests and apply them to the running cluster, all or none."""
    with explained():
        from weft_local.cli.up import apply as run

        run(filename, name=name)
