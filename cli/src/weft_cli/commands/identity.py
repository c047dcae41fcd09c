"""`weft identity`: who is certified until when, what is trusted, and replacing issuers and anchors under traffic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig

from weft_cli.cluster import find_cluster, run
from weft_cli.core.identity_view import (
    as_json,
    certificate_json,
    certificate_text,
    certificates_table,
    status_json,
    status_text,
)
from weft_cli.errors import BadInput, CliError
from weft_cli.identity_client import IdentityClient, identity_client
from weft_cli.options import ApiAddrOption, ContextOption, KubeconfigOption, NamespaceOption
from weft_cli.rotating import RotationStore

DEFAULT_CONTROL_PLANE: Final = "linkerd"
_SETTINGS: Final = {
    "no_args_is_help": True,
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
}
app = typer.Typer(name="identity", help="Certificates of the mesh.", **_SETTINGS)  # type: ignore[arg-type]  # one table


class IdentityOutput(StrEnum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"


ControlPlaneOption = Annotated[
    str,
    typer.Option("-L", "--linkerd-namespace", envvar="LINKERD_NAMESPACE", help="Namespace of the control plane."),
]
IdentityOutputOption = Annotated[IdentityOutput, typer.Option("-o", "--output", help="Form of the output.")]


@asynccontextmanager
async def _connected(
    config: KubeConfig | None, control_plane: str, api_addr: str | None
) -> AsyncIterator[tuple[KubeClient | None, IdentityClient]]:
    if config is None:
        async with identity_client(None, control_plane, api_addr) as client:
            yield None, client
        return
    async with KubeClient(config) as kube, identity_client(kube, control_plane, api_addr) as client:
        yield kube, client


def _cluster(kubeconfig: Path | None, context: str | None, api_addr: str | None) -> KubeConfig | None:
    return find_cluster(kubeconfig, context) if api_addr is None else None


def _run(main: Callable[[], Awaitable[None]], config: KubeConfig | None) -> None:
    async def awaited() -> None:
        await main()

    run(awaited(), config)


@app.command("list")
def list_(
    namespace: NamespaceOption = None,
    control_plane: ControlPlaneOption = DEFAULT_CONTROL_PLANE,
    output: IdentityOutputOption = IdentityOutput.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    api_addr: ApiAddrOption = None,
) -> None:
    """Every live certificate, the first to expire first.  Example:  weft identity list -n bookshop"""
    config = _cluster(kubeconfig, context, api_addr)

    async def main() -> None:
        async with _connected(config, control_plane, api_addr) as (_, client):
            found = await client.list(namespace or "")
        if not found.complete:
            typer.echo("Redis is away: other replicas of identity may know of more.", err=True)
        if output is IdentityOutput.JSON:
            typer.echo(as_json([certificate_json(c) for c in found.certificates]))
        elif not found.certificates:
            typer.echo("No live certificates.", err=True)
        else:
            typer.echo(certificates_table(found.certificates, datetime.now(UTC)).text(), nl=False)

    _run(main, config)


@app.command()
def show(
    pod: Annotated[str, typer.Argument(metavar="POD", help="Name of a pod.")],
    namespace: NamespaceOption = None,
    control_plane: ControlPlaneOption = DEFAULT_CONTROL_PLANE,
    output: IdentityOutputOption = IdentityOutput.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    api_addr: ApiAddrOption = None,
) -> None:
    """Everything known of one pod's certificate, and what its proxy trusts."""
    config = _cluster(kubeconfig, context, api_addr)

    async def main() -> None:
        async with _connected(config, control_plane, api_addr) as (_, client):
            found = (await client.list(namespace or "", pod)).certificates
        if not found:
            raise CliError(f"no live certificate of pod {pod}", hint="see all:  weft identity list")
        if len({c.namespace for c in found}) > 1:
            raise BadInput(f"pods named {pod} are in several namespaces", hint="add -n NAMESPACE")
        if output is IdentityOutput.JSON:
            typer.echo(as_json(certificate_json(found[0])))
        else:
            typer.echo(certificate_text(found[0], datetime.now(UTC)), nl=False)

    _run(main, config)


@app.command()
def status(
    control_plane: ControlPlaneOption = DEFAULT_CONTROL_PLANE,
    output: IdentityOutputOption = IdentityOutput.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    api_addr: ApiAddrOption = None,
) -> None:
    """Anchors, issuer, how many certificates live, and where a rotation stands."""
    config = _cluster(kubeconfig, context, api_addr)

    async def main() -> None:
        async with _connected(config, control_plane, api_addr) as (kube, client):
            trust, found = await client.trust(), await client.list()
            rotation = None if kube is None else await RotationStore(kube, control_plane).state()
        now = datetime.now(UTC)
        if output is IdentityOutput.JSON:
            typer.echo(as_json(status_json(trust, found.certificates, rotation, now)))
        else:
            typer.echo(status_text(trust, found.certificates, rotation, now), nl=False)

    _run(main, config)


def _add_rotate() -> None:
    from weft_cli.commands.rotate import app as rotate

    app.add_typer(rotate, name="rotate")


_add_rotate()
