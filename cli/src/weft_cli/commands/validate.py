"""`weft validate`: what is wrong with manifests of policy and routes, by file and line, with nothing running."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from weft_cli.errors import CliError, ExitCode
from weft_cli.options import JsonOrText, JsonOrTextOption

if TYPE_CHECKING:
    from weft_local.manifests.documents import Document
    from weft_local.manifests.problems import Problem

_GROUPS: Final = frozenset({"policy.linkerd.io", "linkerd.io", "workload.linkerd.io", "gateway.networking.k8s.io"})


def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE|DIR|-...", help="Manifests; - reads standard input.", show_default=False),
    ],
    output: JsonOrTextOption = JsonOrText.TEXT,
) -> None:
    """Check objects of policy and routes as the validating webhooks would, with the same messages. Exit code 2 for any.

    Examples:  weft validate policy/  ·  kustomize build . | weft validate -
    """
    from weft_local.manifests.problems import BadManifests

    try:
        documents = _documents(files)
        ours = [document for document in documents if document.api_version.rpartition("/")[0] in _GROUPS]
        problems = _problems(ours)
    except BadManifests as bad:
        documents, ours, problems = [], [], bad.problems
    if output is JsonOrText.JSON:
        fields = ("file", "line", "field", "message")
        typer.echo(json.dumps([{name: getattr(problem, name) for name in fields} for problem in problems], indent=2))
    else:
        for problem in problems:
            typer.echo(str(problem))
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise CliError(f"{count} found", exit_code=ExitCode.BAD_INPUT)
    if output is JsonOrText.TEXT:
        others = len(documents) - len(ours)
        typer.echo(f"{len(ours)} objects of policy and routes are valid; {others} other objects were left alone")


def _documents(files: Sequence[str]) -> list[Document]:
    from weft_local.manifests.documents import load, parse

    found = parse(sys.stdin.read(), "-") if "-" in files else []
    return found + load([Path(file) for file in files if file != "-"])


def _problems(documents: Sequence[Document]) -> list[Problem]:
    from weft_local.cluster.charts import ChartsFailed, definitions
    from weft_local.manifests.check import find_policy_problems

    try:
        return asyncio.run(find_policy_problems(documents, definitions()))
    except ChartsFailed as error:
        raise CliError(str(error)) from error
