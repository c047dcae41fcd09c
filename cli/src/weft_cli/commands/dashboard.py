"""`weft dashboard`: where the web UI is, and a browser on it."""

from __future__ import annotations

import asyncio
import webbrowser
from typing import Annotated, Any, Final

import typer
from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import SERVICES

from weft_cli.cluster import find_cluster, local_web, run
from weft_cli.errors import CliError
from weft_cli.options import ContextOption, KubeconfigOption

WEB: Final = "web"
VIZ_NAMESPACE: Final = "linkerd-viz"
WEB_PORT: Final = 8084
CONNECT_TIMEOUT_S: Final = 2.0


def dashboard(
    url: Annotated[bool, typer.Option("--url", help="Print the address and open nothing.")] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Open the web UI.  For a machine without a browser:  weft dashboard --url"""
    config = find_cluster(kubeconfig, context)

    async def main() -> str:
        async with KubeClient(config) as kube:
            return await find_web(kube)

    # A local cluster forwards its UI to this host's loopback, which works through an SSH tunnel too.
    address = local_web(config) or run(main(), config)
    typer.echo(address)
    if not url and not webbrowser.open(address):
        typer.echo("no browser here; open the address above", err=True)


async def find_web(kube: KubeClient) -> str:
    """An address of the UI that answers from here. Raises CliError."""
    try:
        service: dict[str, Any] = await kube.get(SERVICES.path(VIZ_NAMESPACE, WEB))
    except KubeError as error:
        if error.status != 404:
            raise
        raise CliError(
            f"this cluster has no web UI: Service {VIZ_NAMESPACE}/{WEB} does not exist",
            hint="install it with its chart, weft-web; `weft local up` brings it along",
        ) from error
    host = service.get("spec", {}).get("clusterIP", "")
    shown = f"[{host}]" if ":" in host else host
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, WEB_PORT)
    except (OSError, TimeoutError) as error:
        raise CliError(
            f"the web UI at {shown}:{WEB_PORT} cannot be reached from here",
            hint=f"forward it:  kubectl port-forward -n {VIZ_NAMESPACE} svc/{WEB} {WEB_PORT}",
        ) from error
    writer.close()
    return f"http://{shown}:{WEB_PORT}"
