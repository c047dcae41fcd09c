"""Options that several commands share, declared once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from weft_cli.completing import complete_namespaces


class Output(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


class JsonOrText(StrEnum):
    """How an answer is printed that is no table."""

    TEXT = "text"
    JSON = "json"


KubeconfigOption = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="Cluster to use. Default: $KUBECONFIG, then `weft local`, then ~/.kube/config."),
]
ContextOption = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig to use.")]
ApiAddrOption = Annotated[
    str | None, typer.Option("--api-addr", metavar="HOST:PORT", help="Address of metrics-api, to skip finding it.")
]
NamespaceOption = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Namespace to look in.", autocompletion=complete_namespaces)
]
AllNamespacesOption = Annotated[bool, typer.Option("-A", "--all-namespaces", help="Look in every namespace.")]
OutputOption = Annotated[Output, typer.Option("-o", "--output", help="Form of the output.")]
WindowOption = Annotated[
    str, typer.Option("-t", "--time-window", metavar="DURATION", help="Time to look back over, such as 30s or 5m.")
]
JsonOrTextOption = Annotated[JsonOrText, typer.Option("-o", "--output", help="Form of the output.")]
FilesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "-f", "--filename", metavar="FILE|DIR", help="Ask these manifests instead of a cluster; may be repeated."
    ),
]
