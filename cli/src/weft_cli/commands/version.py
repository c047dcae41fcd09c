"""`weft version`: this command's version and, unless told not to ask, the control plane's."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Final

import typer
from weft_common.version import VERSION

from weft_cli.errors import CliError
from weft_cli.options import ContextOption, KubeconfigOption

UNAVAILABLE: Final = "unavailable"
CONTROL_PLANE_NAMESPACE: Final = "linkerd"


class VersionOutput(StrEnum):
    """How the versions are printed."""

    TEXT = "text"
    JSON = "json"


def version(
    client: Annotated[bool, typer.Option("--client", help="Do not ask the cluster.")] = False,
    short: Annotated[bool, typer.Option("--short", help="Only the numbers, a line each.")] = False,
    output: Annotated[VersionOutput, typer.Option("-o", "--output", help="Form of the output.")] = VersionOutput.TEXT,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show versions. A control plane that cannot be asked is shown as unavailable."""
    versions = {"client": VERSION}
    if not client:
        versions["server"] = _server_version(kubeconfig, context)
    if output is VersionOutput.JSON:
        typer.echo(json.dumps(versions))
        return
    for side, number in versions.items():
        typer.echo(number if short else f"{side.capitalize()} version: {number}")


def _server_version(kubeconfig: KubeconfigOption, context: ContextOption) -> str:
    # What --client does not need is not imported for it.
    from weft_common.kube.client import KubeClient
    from weft_common.kube.resource import PODS

    from weft_cli.cluster import find_cluster, run
    from weft_cli.cluster_facts import control_plane_version

    async def ask() -> str:
        async with KubeClient(config) as kube:
            pods = await kube.list(PODS.path(CONTROL_PLANE_NAMESPACE))
        return control_plane_version(pods["items"]) or UNAVAILABLE

    try:
        config = find_cluster(kubeconfig, context)
        return run(ask(), config)
    except CliError:
        return UNAVAILABLE
