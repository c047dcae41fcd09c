"""`weft check`: is the mesh healthy, and what to do if not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import typer
from weft_common.kube.client import KubeClient, KubeError, KubeUnreachable
from weft_common.kube.config import KubeConfig
from weft_common.settings import duration
from weft_common.version import VERSION

from weft_cli.cluster import find_cluster, run
from weft_cli.cluster_facts import CONTROL_PLANE_NAMESPACE, gather_facts
from weft_cli.core.check_control_plane import report, unreachable_report
from weft_cli.core.check_model import Report
from weft_cli.core.check_pre import pre_report
from weft_cli.errors import BadInput, CliError, ExitCode
from weft_cli.installed_objects import pre_facts
from weft_cli.options import ApiAddrOption, ContextOption, KubeconfigOption

RETRY_EVERY_S: Final = 2.0
DEFAULT_WAIT: Final = "5m"


class CheckOutput(StrEnum):
    """How results are printed; short shows only what did not pass."""

    TABLE = "table"
    JSON = "json"
    SHORT = "short"


def check(
    pre: Annotated[bool, typer.Option("--pre", help="Look whether the mesh can be installed here.")] = False,
    proxy: Annotated[bool, typer.Option("--proxy", help="Look at the proxies of workloads too.")] = False,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="With --proxy: only proxies of this namespace.")
    ] = None,
    wait: Annotated[
        str, typer.Option("--wait", metavar="DURATION", help="How long to wait for what may still come up; 0 to not.")
    ] = DEFAULT_WAIT,
    linkerd_namespace: Annotated[
        str,
        typer.Option("-L", "--linkerd-namespace", envvar="LINKERD_NAMESPACE", help="Namespace of the control plane."),
    ] = CONTROL_PLANE_NAMESPACE,
    output: Annotated[CheckOutput, typer.Option("-o", "--output", help="Form of the output.")] = CheckOutput.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    api_addr: ApiAddrOption = None,
) -> None:
    """Check the cluster, the control plane, certificates, proxies, Redis and metrics.

    Exits with 1 when a check fails; warnings do not count.  Example:  weft check --proxy -n bookshop
    """
    if pre and proxy:
        raise BadInput("--pre looks at a cluster without the mesh, --proxy at its proxies", hint="choose one")
    if namespace and not proxy:
        raise BadInput("-n chooses among proxies", hint="add --proxy")
    try:
        wait_s = duration(wait).total_seconds()
    except ValueError as error:
        raise BadInput(f"--wait {wait!r}: {error}") from error
    try:
        config = find_cluster(kubeconfig, context)
    except BadInput:
        raise
    except CliError as error:
        found = unreachable_report(error.message)
    else:
        if pre:
            found = run(_before_installing(config, linkerd_namespace), config)
        else:
            found = run(_until_settled(config, wait_s, proxy, namespace, linkerd_namespace, api_addr), config)
    typer.echo(found.json() if output is CheckOutput.JSON else found.text(short=output is CheckOutput.SHORT).rstrip())
    raise typer.Exit(ExitCode.OK if found.success else ExitCode.FAILED)


async def _before_installing(config: KubeConfig, control_plane: str) -> Report:
    async with KubeClient(config) as kube:
        try:
            return pre_report(await pre_facts(kube, control_plane), control_plane)
        except KubeUnreachable as error:
            return unreachable_report(f"{kube.config.server}: {error.message}")


async def _until_settled(
    config: KubeConfig, wait_s: float, proxy: bool, namespace: str | None, control_plane: str, api_addr: str | None
) -> Report:
    """Look until nothing is to be gained by waiting, or the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    said: tuple[str, ...] = ()
    async with KubeClient(config) as kube:
        while True:
            found = await _look(kube, proxy, namespace, control_plane, api_addr)
            waiting = tuple(f"{item.description}: {item.error}" for item in found.waiting_for)
            if not waiting or loop.time() + RETRY_EVERY_S > deadline:
                return found
            if waiting != said:
                typer.echo("".join(f"waiting: {line}\n" for line in waiting), nl=False, err=True)
                said = waiting
            await asyncio.sleep(RETRY_EVERY_S)


async def _look(
    kube: KubeClient, proxy: bool, namespace: str | None, control_plane: str, api_addr: str | None
) -> Report:
    try:
        facts = await gather_facts(kube, control_plane, api_addr)
    except KubeUnreachable as error:
        return unreachable_report(f"{kube.config.server}: {error.message}")
    except KubeError as error:
        return unreachable_report(f"{error.message} (HTTP {error.status})")
    return report(
        facts,
        datetime.now(UTC),
        VERSION,
        namespace=control_plane,
        with_data_plane=proxy,
        data_plane_namespace=namespace,
    )
