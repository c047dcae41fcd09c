"""`weft identity rotate`: a new issuer or trust anchor, followed until it is done, looked at, or taken back."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_common.settings import duration
from weft_proto.weft import identity_pb2 as pb

from weft_cli.ca_files import known_anchor_file, read_ca_file, save_anchor
from weft_cli.cluster import find_cluster, run
from weft_cli.core.identity_view import as_json, rotation_json, rotation_text, stage_text
from weft_cli.core.rotation_plan import CaFile, Current, Lifetimes, Plan, keys_of, plan_anchor, plan_issuer, state_of
from weft_cli.errors import BadInput, CliError, ExitCode
from weft_cli.identity_client import identity_client
from weft_cli.options import ContextOption, KubeconfigOption
from weft_cli.rotating import RotationStore

DEFAULT_TIMEOUT: Final = "10m"
CONTROL_PLANE: Final = "linkerd"

app = typer.Typer(
    name="rotate",
    help="Replace the issuer or the trust anchor while traffic flows.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ToOption = Annotated[
    Path | None, typer.Option("--to", metavar="FILE", help="PEM file with CA certificates and the private key of one.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would happen and who would hold it up.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the end of it as JSON.")]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to follow it; it goes on in the cluster.")
]
DomainOption = Annotated[str, typer.Option("--trust-domain", help="Last part of the names of CAs that are made.")]
IssuerLifeOption = Annotated[
    str, typer.Option("--issuer-lifetime", metavar="DURATION", help="Life of an issuer that is made.")
]
AnchorLifeOption = Annotated[
    str, typer.Option("--anchor-lifetime", metavar="DURATION", help="Life of an anchor that is made.")
]
ControlPlaneOption = Annotated[
    str,
    typer.Option("-L", "--linkerd-namespace", envvar="LINKERD_NAMESPACE", help="Namespace of the control plane."),
]


@app.command()
def issuer(
    to: ToOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    issuer_lifetime: IssuerLifeOption = "365d",
    trust_domain: DomainOption = "cluster.local",
    control_plane: ControlPlaneOption = CONTROL_PLANE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """A new issuer below the anchors there are. --to: the issuer with its key, or an anchor with its key to sign one.

    Without --to the anchor's key must be at hand, as it is for a `weft local` cluster.
    """
    lives = Lifetimes(duration("3650d"), _duration("--issuer-lifetime", issuer_lifetime))

    def plan(current: Current) -> Plan:
        given = read_ca_file(to) if to else known_anchor_file(current.bundle_pem, kubeconfig)
        return plan_issuer(current, given, trust_domain, datetime.now(UTC), lives)

    _rotate(plan, find_cluster(kubeconfig, context), control_plane, kubeconfig, timeout, dry_run, json)


@app.command()
def anchor(
    to: ToOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    anchor_lifetime: AnchorLifeOption = "3650d",
    issuer_lifetime: IssuerLifeOption = "365d",
    trust_domain: DomainOption = "cluster.local",
    control_plane: ControlPlaneOption = CONTROL_PLANE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """A new trust anchor with a new issuer below it. --to: an anchor with its key, or anchor, issuer and its key.

    Without --to an anchor is made and its key is written to a file that only you can read.
    """
    lives = Lifetimes(_duration("--anchor-lifetime", anchor_lifetime), _duration("--issuer-lifetime", issuer_lifetime))
    given: CaFile | None = read_ca_file(to) if to else None

    def plan(current: Current) -> Plan:
        return plan_anchor(current, given, trust_domain, datetime.now(UTC), lives)

    _rotate(plan, find_cluster(kubeconfig, context), control_plane, kubeconfig, timeout, dry_run, json)


@app.command()
def status(
    json: JsonOption = False,
    control_plane: ControlPlaneOption = CONTROL_PLANE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Where the rotation stands, and which pods hold it up."""
    config = find_cluster(kubeconfig, context)

    async def main() -> None:
        async with KubeClient(config) as kube:
            state = await RotationStore(kube, control_plane).state()
        if json:
            typer.echo(as_json(None if state is None else rotation_json(state)))
        else:
            typer.echo("no rotation yet\n" if state is None else rotation_text(state), nl=False)

    run(main(), config)


@app.command()
def abort(
    json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    control_plane: ControlPlaneOption = CONTROL_PLANE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Take the rotation back, through the same gates; possible until the old anchors are dropped."""
    config = find_cluster(kubeconfig, context)
    timeout_s = _duration("--timeout", timeout).total_seconds()

    async def main() -> None:
        async with KubeClient(config) as kube:
            store = RotationStore(kube, control_plane)
            await store.abort()
            _end(await store.follow(_progress(), timeout_s), json)

    run(main(), config)


def _rotate(
    plan: Callable[[Current], Plan],
    config: KubeConfig,
    control_plane: str,
    kubeconfig: Path | None,
    timeout: str,
    dry_run: bool,
    json: bool,
) -> None:
    timeout_s = _duration("--timeout", timeout).total_seconds()

    async def main() -> None:
        async with KubeClient(config) as kube:
            store = RotationStore(kube, control_plane)
            planned = plan(await store.current())
            if dry_run:
                typer.echo(await _preview(kube, control_plane, planned), nl=False)
                return
            state = state_of(planned, secrets.token_hex(4), datetime.now(UTC))
            if planned.made_anchor is not None:
                # Before anything begins: an anchor whose key is lost can sign no further issuer.
                file = save_anchor(planned.made_anchor, kubeconfig)
                typer.echo(f"the new anchor's key is in {file}; keep it safe and out of the cluster", err=True)
            await store.begin(state, keys_of(planned))
            _end(await store.follow(_progress(), timeout_s), json)

    run(main(), config)


async def _preview(kube: KubeClient, control_plane: str, plan: Plan) -> str:
    async with identity_client(kube, control_plane, None) as client:
        found = (await client.list()).certificates
    deaf = [f"{c.namespace}/{c.pod}" for c in found if not c.trusted_anchors]
    kind = pb.RotationState.Kind.Name(plan.kind).lower()
    lines = [f"would rotate the {kind}: {plan.current.issuer.id[:12]} to {plan.issuer.id[:12]}; nothing was changed"]
    lines.append(f"{len(found)} live certificates would be renewed")
    if deaf and plan.kind == pb.RotationState.ANCHOR:
        lines.append("these proxies do not follow the bundle and would hold it up until restarted:")
        lines += [f"  {name}" for name in deaf]
    return "\n".join(lines) + "\n"


def _progress() -> Callable[[pb.RotationState], None]:
    said = ""

    def tell(state: pb.RotationState) -> None:
        nonlocal said
        text = stage_text(state)
        if state.holders:
            first = state.holders[0]
            more = f" and {len(state.holders) - 1} more" if len(state.holders) > 1 else ""
            text += f"; held up by {first.namespace}/{first.pod}{more}: {first.why}"
        if text != said:
            typer.echo(text, err=True)
            said = text

    return tell


def _end(state: pb.RotationState, json: bool) -> None:
    if json:
        typer.echo(as_json(rotation_json(state)))
    else:
        typer.echo(rotation_text(state), nl=False)
    if state.stage != pb.RotationState.DONE:
        raise CliError(
            "the rotation is not done yet; it goes on in the cluster",
            hint="see it: weft identity rotate status  ·  take it back: weft identity rotate abort",
            exit_code=ExitCode.FAILED,
        )


def _duration(option: str, text: str) -> timedelta:
    try:
        found = duration(text)
    except ValueError as error:
        raise BadInput(f"{option} {text!r}: {error}") from error
    if not found:
        raise BadInput(f"{option} must be above 0")
    return found
