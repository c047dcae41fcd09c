"""`weft explain`: what a request would meet, in a cluster or in a folder of manifests."""

from __future__ import annotations

from typing import Annotated

import typer

from weft_cli.asking import find_world, matcher, request_from
from weft_cli.core.explain_view import explain_json, explain_text
from weft_cli.errors import BadInput
from weft_cli.options import ContextOption, FilesOption, JsonOrText, JsonOrTextOption, KubeconfigOption


def explain(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, …")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as http://web.shop:8080/path.")],
    header: Annotated[
        list[str] | None, typer.Option("-H", "--header", metavar="NAME:VALUE", help="May be repeated.")
    ] = None,
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="NS/SA", help="Account of the client; without it, one outside the mesh."),
    ] = None,
    files: FilesOption = None,
    output: JsonOrTextOption = JsonOrText.TEXT,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Say which route, rule, backends and endpoints a request would meet, and whether policy admits it there.

    Example:  weft explain GET http://reviews.bookshop:8080/reviews/1 --as bookshop/frontend -f manifests/
    """
    from weft_policy.explain import explain as explained

    world = find_world(files, kubeconfig, context)
    request = request_from(method, url, header or (), as_, world.mesh.cluster_domain)
    for line in world.unread:
        typer.echo(f"‼ {line}", err=True)
    try:
        explanation = explained(world.index, world.mesh, request, matcher())
    except ValueError as error:
        raise BadInput(str(error)) from error
    if output is JsonOrText.JSON:
        typer.echo(explain_json(explanation))
    else:
        typer.echo(explain_text(request, explanation), nl=False)
