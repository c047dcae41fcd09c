"""`weft`: which commands exist, and how their failures become a message and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from weft_cli.errors import CliError, ExitCode
from weft_cli.lazy import LazyCommand, lazy_app

COMMANDS: Final = {
    "local": LazyCommand("weft_local.cli:app", "Run a meshed cluster on this machine: up, down, status, logs, exec."),
    "check": LazyCommand("weft_cli.commands.check:check", "Check that the mesh is healthy, and say what to do if not."),
    "install": LazyCommand("weft_cli.commands.install:install", "Print the manifests of the mesh, for kubectl apply."),
    "upgrade": LazyCommand(
        "weft_cli.commands.install:upgrade", "Print them again for this version; settings are kept."
    ),
    "prune": LazyCommand("weft_cli.commands.install:prune", "Print what an upgrade left behind, for kubectl delete."),
    "uninstall": LazyCommand("weft_cli.commands.install:uninstall", "Print what is installed, for kubectl delete."),
    "stat": LazyCommand("weft_cli.commands.stat:stat", "Success rate, requests per second and latency by workload."),
    "edges": LazyCommand("weft_cli.commands.edges:edges", "Who talks to whom, and whether mutual TLS secures it."),
    "tap": LazyCommand("weft_cli.commands.tap:tap", "Requests of a workload as they happen."),
    "why": LazyCommand("weft_cli.commands.why:why", "What decided about a request, and why it failed."),
    "identity": LazyCommand(
        "weft_cli.commands.identity:app", "Certificates of the mesh: list, show, status, and rotate them."
    ),
    "validate": LazyCommand(
        "weft_cli.commands.validate:validate", "Check manifests of policy and routes, by file and line."
    ),
    "explain": LazyCommand("weft_cli.commands.explain:explain", "What a request would meet: route, backends, policy."),
    "policy": LazyCommand("weft_cli.commands.policy:app", "Test policy and routes: what requests should meet."),
    "diagnostics": LazyCommand("weft_cli.commands.diagnostics:app", "What the control plane tells proxies."),
    "inject": LazyCommand("weft_cli.inject:inject", "Add the proxy to Kubernetes manifests."),
    "uninject": LazyCommand("weft_cli.inject:uninject", "Take the proxy out of Kubernetes manifests."),
    "dashboard": LazyCommand("weft_cli.commands.dashboard:dashboard", "Open the web UI."),
    "version": LazyCommand("weft_cli.commands.version:version", "Versions of this command and of the control plane."),
    "completion": LazyCommand("weft_cli.commands.completion:completion", "Print a completion script for your shell."),
}

app = lazy_app(
    COMMANDS,
    name="weft",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start here:  weft local up -f examples/bookshop --wait && weft stat deploy -n bookshop",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from weft_common.version import VERSION

        typer.echo(f"weft {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Weft, a service mesh for Kubernetes and for one machine."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 1 (failed) or 2 (bad input)."""
    from weft_common.settings import ConfigurationError

    try:
        app(args=None if argv is None else list(argv), prog_name="weft")
    except CliError as error:
        return _fail(error)
    except ConfigurationError as error:
        return _fail(CliError("\n       ".join(error.lines())))
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(bool(exit_.code))
    return ExitCode.OK


def _fail(error: CliError) -> int:
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"  {error.hint}\n")
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
