"""`weft edges`: who talks to whom, and whether mutual TLS secures it."""

from __future__ import annotations

from typing import Annotated

import typer

from weft_cli.cluster import find_cluster, run
from weft_cli.commands.stat import window_from
from weft_cli.completing import complete_types
from weft_cli.core.edges_view import edges_json, edges_table
from weft_cli.core.resources import kind_from
from weft_cli.errors import BadInput
from weft_cli.metrics_client import metrics_client
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


def edges(
    resource_type: Annotated[
        str, typer.Argument(metavar="TYPE", help="Kind of the ends, for example deploy.", autocompletion=complete_types)
    ],
    namespace: NamespaceOption = None,
    all_namespaces: AllNamespacesOption = False,
    time_window: WindowOption = "1m",
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    api_addr: ApiAddrOption = None,
) -> None:
    """Connections between workloads. An end that is not meshed is shown with the reason why there is no TLS.

    Examples:  weft edges deploy -n bookshop  ·  weft edges po -A -o wide
    """
    if "/" in resource_type:
        raise BadInput(f"{resource_type!r}: edges takes a type without a name", hint="for example: weft edges deploy")
    kind = kind_from(resource_type)
    window_s = window_from(time_window)
    config = find_cluster(kubeconfig, context) if api_addr is None else None
    where = "" if all_namespaces else namespace or (config.namespace if config else "default")

    async def main() -> None:
        async with metrics_client(config, api_addr) as client:
            lines = await client.edges(kind, where, window_s)
        if output is Output.JSON:
            typer.echo(edges_json(lines))
        elif not lines:
            typer.echo("No edges found.", err=True)
        else:
            typer.echo(edges_table(lines, kind, wide=output is Output.WIDE).text(), nl=False)

    run(main(), config)
