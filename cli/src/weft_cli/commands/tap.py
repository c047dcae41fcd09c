"""`weft tap`: requests of a workload as they happen."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from weft_cli.cluster import find_cluster, run
from weft_cli.completing import complete_resources
from weft_cli.core.resources import one_target
from weft_cli.core.tap_view import tap_text
from weft_cli.metrics_client import TapQuery, metrics_client
from weft_cli.options import ApiAddrOption, ContextOption, KubeconfigOption, NamespaceOption, Output, OutputOption


def tap(
    resource: Annotated[
        list[str],
        typer.Argument(
            metavar="TYPE/NAME", help="Whose requests, for example deploy/cart.", autocompletion=complete_resources
        ),
    ],
    namespace: NamespaceOption = None,
    to: Annotated[str | None, typer.Option("--to", metavar="TYPE/NAME", help="Only requests sent there.")] = None,
    to_namespace: Annotated[str | None, typer.Option("--to-namespace", help="Namespace of --to.")] = None,
    max_rps: Annotated[float, typer.Option("--max-rps", min=1, help="Most requests per second to show.")] = 100.0,
    scheme: Annotated[str, typer.Option("--scheme", help="Only requests with this scheme.")] = "",
    method: Annotated[str, typer.Option("--method", help="Only requests with this method.")] = "",
    authority: Annotated[str, typer.Option("--authority", help="Only requests with this host, port included.")] = "",
    path: Annotated[str, typer.Option("--path", help="Only requests whose path begins so.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="End after so many events; 0: until Ctrl-C.")] = 0,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    api_addr: ApiAddrOption = None,
) -> None:
    """Requests as they happen, seen by the proxies of a workload. Headers are shown with -o json only.

    Examples:  weft tap deploy/cart -n shop  ·  weft tap ns/shop --method POST  ·  weft tap po/web-0 --to svc/cart
    """
    target = one_target(resource, "tap")
    config = find_cluster(kubeconfig, context) if api_addr is None else None
    where = namespace or (config.namespace if config else "default")
    query = TapQuery(
        target=target,
        namespace=where,
        to=(one_target([to], "--to"), to_namespace or where) if to else None,
        max_rps=max_rps,
        scheme=scheme,
        method=method,
        authority=authority,
        path=path,
        extract_headers=output is Output.JSON,
    )

    async def main() -> None:
        from weft_cli.tap_events import tap_json, tap_line

        shown = 0
        async with metrics_client(config, api_addr) as client:
            async for event in client.tap(query):
                if output is Output.JSON:
                    typer.echo(json.dumps(tap_json(event)))
                elif (line := tap_line(event)) is not None:
                    typer.echo(tap_text(line, wide=output is Output.WIDE))
                shown += 1
                if shown == limit:
                    return

    run(main(), config)
