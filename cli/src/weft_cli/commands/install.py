"""`weft install`, `upgrade`, `uninstall`, `prune`: manifests on stdout for kubectl, notes on stderr."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from weft_common.kube.client import KubeClient
from weft_local.cluster import pki

from weft_cli.chart_rendering import DEFINITIONS, UMBRELLA, ValueSources, objects_in, rendered
from weft_cli.cluster import find_cluster, run
from weft_cli.cluster_facts import CONTROL_PLANE_NAMESPACE
from weft_cli.core.installation import fresh_values, in_deletion_order, left_over, reference, upgrade_values
from weft_cli.errors import BadInput, CliError
from weft_cli.installed_objects import installed_objects, installed_settings, meshed_workloads
from weft_cli.metrics_client import VIZ_NAMESPACE
from weft_cli.options import ContextOption, KubeconfigOption

SHOWN_WORKLOADS = 5

HaOption = Annotated[bool, typer.Option("--ha", help="High availability: charts/weft/values-ha.yaml.")]
ValuesOption = Annotated[
    list[Path] | None, typer.Option("-f", "--values", metavar="FILE", help="Values file; may be repeated.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One value, such as global.controllerReplicas=3; may be repeated."),
]
SetFileOption = Annotated[
    list[str] | None, typer.Option("--set-file", metavar="KEY=FILE", help="One value from a file; may be repeated.")
]
NamespaceOption = Annotated[
    str,
    typer.Option("-L", "--linkerd-namespace", envvar="LINKERD_NAMESPACE", help="Namespace of the control plane."),
]


def install(
    crds: Annotated[bool, typer.Option("--crds", help="Only the custom resource definitions, to apply first.")] = False,
    ha: HaOption = False,
    values: ValuesOption = None,
    set_: SetOption = None,
    set_file: SetFileOption = None,
    trust_anchors_file: Annotated[
        Path | None, typer.Option("--identity-trust-anchors-file", help="PEM bundle of trust anchors.")
    ] = None,
    issuer_certificate_file: Annotated[
        Path | None, typer.Option("--identity-issuer-certificate-file", help="Issuer certificate, PEM.")
    ] = None,
    issuer_key_file: Annotated[
        Path | None, typer.Option("--identity-issuer-key-file", help="Key of the issuer, PEM.")
    ] = None,
) -> None:
    """Print the manifests of the mesh, rendered from its charts. Without the three identity files, keys are made here.

    Example:  weft install --crds | kubectl apply -f - && weft install | kubectl apply -f -
    """
    if crds:
        sys.stdout.write(rendered(DEFINITIONS, ValueSources({}, ha, values or (), set_ or (), set_file or ())))
        return
    base = _identity(trust_anchors_file, issuer_certificate_file, issuer_key_file)
    sources = ValueSources(_without_definitions(base), ha, values or (), set_ or (), set_file or ())
    sys.stdout.write(rendered(UMBRELLA, sources))


def upgrade(
    crds: Annotated[bool, typer.Option("--crds", help="Only the custom resource definitions, to apply first.")] = False,
    ha: HaOption = False,
    values: ValuesOption = None,
    set_: SetOption = None,
    set_file: SetFileOption = None,
    linkerd_namespace: NamespaceOption = CONTROL_PLANE_NAMESPACE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Print the manifests that bring an installed mesh to this version, keeping its certificates and settings.

    Example:  weft upgrade | kubectl apply -f - && weft prune | kubectl delete -f -
    """
    if crds:
        sys.stdout.write(rendered(DEFINITIONS, ValueSources({}, ha, values or (), set_ or (), set_file or ())))
        return
    config = find_cluster(kubeconfig, context)

    async def fetch() -> dict[str, Any]:
        async with KubeClient(config) as kube:
            return upgrade_values(await installed_settings(kube, linkerd_namespace))

    base = _without_definitions(run(fetch(), config))
    sys.stdout.write(rendered(UMBRELLA, ValueSources(base, ha, values or (), set_ or (), set_file or ())))


def uninstall(
    force: Annotated[bool, typer.Option("--force", help="Although workloads still have a proxy.")] = False,
    crds: Annotated[
        bool, typer.Option("--crds", help="The custom resource definitions too, and so every object of their kinds.")
    ] = False,
    linkerd_namespace: NamespaceOption = CONTROL_PLANE_NAMESPACE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Print what is installed of the mesh, webhooks first, for kubectl to delete.

    Example:  weft uninstall | kubectl delete -f -
    """
    config = find_cluster(kubeconfig, context)

    async def fetch() -> tuple[list[str], list[dict[str, Any]]]:
        async with KubeClient(config) as kube:
            return (
                await meshed_workloads(kube, linkerd_namespace, VIZ_NAMESPACE),
                await installed_objects(kube, linkerd_namespace, definitions=crds),
            )

    workloads, present = run(fetch(), config)
    if workloads and not force:
        more = f" and {len(workloads) - SHOWN_WORKLOADS} more" if len(workloads) > SHOWN_WORKLOADS else ""
        raise CliError(
            f"{len(workloads)} pods still have a proxy: {', '.join(workloads[:SHOWN_WORKLOADS])}{more}",
            hint="take linkerd.io/inject off and restart them, or add --force",
        )
    _print_references([reference(obj) for obj in in_deletion_order(present)])


def prune(
    ha: HaOption = False,
    values: ValuesOption = None,
    set_: SetOption = None,
    set_file: SetFileOption = None,
    linkerd_namespace: NamespaceOption = CONTROL_PLANE_NAMESPACE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Print what an earlier version installed and this one does not have, for kubectl to delete after an upgrade.

    Example:  weft prune | kubectl delete -f -
    """
    config = find_cluster(kubeconfig, context)

    async def fetch() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with KubeClient(config) as kube:
            return (
                upgrade_values(await installed_settings(kube, linkerd_namespace)),
                await installed_objects(kube, linkerd_namespace),
            )

    base, present = run(fetch(), config)
    wanted = objects_in(rendered(UMBRELLA, ValueSources(base, ha, values or (), set_ or (), set_file or ())))
    _print_references([reference(obj) for obj in left_over(present, wanted)])


def _print_references(references: list[dict[str, Any]]) -> None:
    if not references:
        sys.stderr.write("nothing to delete\n")
        return
    yaml.safe_dump_all(references, sys.stdout, sort_keys=False, explicit_start=True)


def _without_definitions(values: dict[str, Any]) -> dict[str, Any]:
    """`--crds` prints those, so that kubectl knows the kinds before anybody uses them."""
    return {"global": {**values["global"], "crds": {"enabled": False}}}


def _identity(anchors: Path | None, certificate: Path | None, key: Path | None) -> dict[str, Any]:
    given = [anchors, certificate, key]
    if any(given):
        if anchors is None or certificate is None or key is None:
            raise BadInput(
                "the three identity files go together",
                hint="--identity-trust-anchors-file, --identity-issuer-certificate-file, --identity-issuer-key-file",
            )
        return fresh_values(_read(anchors), _read(certificate), _read(key))
    now = datetime.now(UTC)
    anchor = pki.certificate_authority("root.linkerd.cluster.local", now)
    issuer = pki.certificate_authority("identity.linkerd.cluster.local", now, anchor)
    days = pki.CA_LIFETIME.days
    sys.stderr.write(
        f"note: made a trust anchor and an issuer, valid for {days} days. The anchor's key is thrown away: to rotate,"
        " bring your own with --identity-trust-anchors-file and its companions\n"
    )
    return fresh_values(anchor.certificate_pem, issuer.certificate_pem, issuer.key_pem)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
