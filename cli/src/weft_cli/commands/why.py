"""`weft why`: what the proxies of a workload decided about requests, and why."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from weft_cli.cluster import find_cluster, run
from weft_cli.completing import complete_resources
from weft_cli.core.resources import one_target
from weft_cli.core.why_view import stories_text
from weft_cli.metrics_client import metrics_client
from weft_cli.options import ApiAddrOption, ContextOption, KubeconfigOption, NamespaceOption, Output, OutputOption


def why(
    resource: Annotated[
        str,
        typer.Argument(
            metavar="TYPE/NAME", help="Whose requests, for example deploy/cart.", autocompletion=complete_resources
        ),
    ],
    request: Annotated[str, typer.Argument(metavar="[ID]", help="One request, by the id that `weft tap` shows.")] = "",
    namespace: NamespaceOption = None,
    successes: Annotated[
        bool, typer.Option("--all", help="Show the sampled successes too, not only the failures.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most requests to show.")] = 10,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    api_addr: ApiAddrOption = None,
) -> None:
    """What decided about a request: protocol, policy, route, endpoints tried, and who ended it. Newest first.

    Proxies keep every failure, and one success in a hundred.

    Examples:  weft why deploy/cart -n shop  ·  weft why po/web-0 3:7  ·  weft why deploy/cart --all -o json
    """
    target = one_target([resource], "why")
    config = find_cluster(kubeconfig, context) if api_addr is None else None
    where = namespace or (config.namespace if config else "default")

    async def main() -> None:
        from weft_cli.decision_records import decision_json, story_of

        async with metrics_client(config, api_addr) as client:
            answer = await client.decisions(
                target, where, failures_only=not successes and not request, limit=limit, request_id=request
            )
        for reason in answer.unanswered:
            typer.echo(f"no answer from {reason}", err=True)
        if output is Output.JSON:
            typer.echo(json.dumps([decision_json(found) for found in answer.decisions], indent=2))
        elif answer.decisions:
            typer.echo(stories_text([story_of(found) for found in answer.decisions]), nl=False)
        elif request:
            typer.echo(f"No record of request {request}: it was not a failure, or newer ones pushed it out.", err=True)
        else:
            typer.echo("No failed requests." if not successes else "No requests yet.", err=True)

    run(main(), config)
