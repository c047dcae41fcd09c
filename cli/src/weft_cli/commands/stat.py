"""`weft stat`: golden metrics by workload, once or live."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Final

import typer
from weft_common.settings import duration

from weft_cli.cluster import find_cluster, run
from weft_cli.completing import complete_resources
from weft_cli.core.resources import ALL, Target, targets_from
from weft_cli.core.stat_view import StatLine, StatShape, notes, stat_json, stat_table
from weft_cli.errors import BadInput, CliError
from weft_cli.metrics_client import MetricsClient, metrics_client
from weft_cli.options import (
    AllNamespacesOption,
    ApiAddrOption,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    Output,
    OutputOption,
    WindowOption,
)

REFRESH_EVERY_S: Final = 2.0
NOTHING: Final = "No traffic found.\n"


@dataclass(frozen=True, slots=True)
class StatRequest:
    """What was asked on the command line, understood. namespace: empty for all."""

    targets: tuple[Target, ...]
    namespace: str
    window_s: float
    output: Output
    unmeshed: bool
    to: tuple[Target, str] | None = None
    from_: tuple[Target, str] | None = None

    @property
    def shape(self) -> StatShape:
        """How its rows are shown."""
        return StatShape(
            with_namespace=not self.namespace and any(target.kind != "namespace" for target in self.targets),
            wide=self.output is Output.WIDE,
            prefixed=len({target.kind for target in self.targets}) > 1,
        )


def stat(
    resources: Annotated[
        list[str],
        typer.Argument(
            metavar="TYPE [NAME…] | TYPE/NAME… | all",
            help="What to show, for example deploy.",
            autocompletion=complete_resources,
        ),
    ],
    namespace: NamespaceOption = None,
    all_namespaces: AllNamespacesOption = False,
    time_window: WindowOption = "1m",
    to: Annotated[str | None, typer.Option("--to", metavar="TYPE/NAME", help="Only requests sent there.")] = None,
    to_namespace: Annotated[str | None, typer.Option("--to-namespace", help="Namespace of --to.")] = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="TYPE/NAME", help="Only requests from there.")] = None,
    from_namespace: Annotated[str | None, typer.Option("--from-namespace", help="Namespace of --from.")] = None,
    unmeshed: Annotated[bool, typer.Option("--unmeshed", help="Show workloads without a proxy too.")] = False,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Keep the table up to date until Ctrl-C.")] = False,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    api_addr: ApiAddrOption = None,
) -> None:
    """Success rate, requests per second and latency percentiles.

    Examples:  weft stat deploy -n bookshop  ·  weft stat deploy -A --watch  ·  weft stat deploy --to svc/reviews
    """
    targets = tuple(targets_from(resources))
    if all_namespaces and any(target.name for target in targets):
        raise BadInput("a name cannot be combined with -A", hint="give its namespace with -n")
    if to and from_:
        raise BadInput("--to and --from exclude each other")
    if watch and output is Output.JSON:
        raise BadInput("--watch draws a table", hint="leave out -o json")
    window_s = window_from(time_window)
    config = find_cluster(kubeconfig, context) if api_addr is None else None
    own_namespace = "" if all_namespaces else namespace or (config.namespace if config else "default")
    request = StatRequest(
        targets=targets,
        namespace=own_namespace,
        window_s=window_s,
        output=output,
        unmeshed=unmeshed or from_ is not None,
        to=_end(to, to_namespace or own_namespace, "--to") if to else None,
        from_=_end(from_, from_namespace or own_namespace, "--from") if from_ else None,
    )

    async def main() -> None:
        async with metrics_client(config, api_addr) as client:
            await (_watch(client, request) if watch else _print(client, request))

    run(main(), config)


def window_from(text: str) -> float:
    """Seconds. Raises BadInput."""
    try:
        return duration(text).total_seconds()
    except ValueError as error:
        raise BadInput(f"--time-window {text!r}: {error}") from error


def _end(text: str, namespace: str, option: str) -> tuple[Target, str]:
    found = targets_from([text])
    if len(found) != 1 or text == ALL:
        raise BadInput(f"{option} takes one resource, such as deploy/cart")
    return found[0], namespace


async def fetch(client: MetricsClient, request: StatRequest) -> list[StatLine]:
    """Lines of every target, in the order asked."""
    answers = await asyncio.gather(
        *(
            client.stat(target, request.namespace, request.window_s, request.to, request.from_)
            for target in request.targets
        )
    )
    return [line for answer in answers for line in answer if request.unmeshed or line.is_worth_a_line]


async def _print(client: MetricsClient, request: StatRequest) -> None:
    lines = await fetch(client, request)
    if request.output is Output.JSON:
        typer.echo(stat_json(lines))
    elif not lines:
        typer.echo(NOTHING, nl=False, err=True)
    else:
        typer.echo("\n".join(_blocks(lines, request)), nl=False)
        for note in notes(lines):
            typer.echo(note, err=True)


def _blocks(lines: list[StatLine], request: StatRequest) -> list[str]:
    """One table for each kind, in the order asked."""
    kinds = list(dict.fromkeys(line.kind for line in lines))
    return [stat_table([line for line in lines if line.kind == kind], request.shape).text() for kind in kinds]


async def _watch(client: MetricsClient, request: StatRequest) -> None:
    from rich.live import Live
    from rich.text import Text

    shown = "waiting for numbers\n"
    with Live(Text(shown), auto_refresh=False) as live:
        while True:
            trouble = ""
            try:
                lines = await fetch(client, request)
            except BadInput:
                raise
            except CliError as error:
                # A restart of metrics-api must not end a table that somebody is watching; the last numbers stay.
                trouble = f"\n{error.message}"
            else:
                shown = "\n".join(_blocks(lines, request)) if lines else NOTHING
            live.update(Text(shown + trouble), refresh=True)
            await asyncio.sleep(REFRESH_EVERY_S)
