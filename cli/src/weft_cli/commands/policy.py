"""`weft policy`: policy as something that can be tested."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from weft_cli.asking import World, find_world, matcher, request_from
from weft_cli.core.policy_cases import Case, cases_from, differences
from weft_cli.errors import BadInput, CliError
from weft_cli.options import ContextOption, FilesOption, KubeconfigOption

app = typer.Typer(
    name="policy", help="Test policy and routes.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@app.callback()
def policy() -> None:
    """Test policy and routes."""


@app.command("test")
def run_cases(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Cases: requests, and what each should meet.")],
    files: FilesOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Ask every request of FILE and compare what it meets with what is expected. Exit code 1 when anything differs.

    Example:  weft policy test policy-test.yaml -f manifests/
    """
    cases = _cases(file)
    world = find_world(files, kubeconfig, context)
    failed = 0
    for case in cases:
        found = list(_differences(case, world))
        failed += bool(found)
        typer.echo(f"{'×' if found else '√'} {case.name}")
        for line in found:
            typer.echo(f"    {line}")
    if failed:
        raise CliError(f"{failed} of {len(cases)} cases failed")


def _cases(file: Path) -> list[Case]:
    try:
        return cases_from(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {file}: {error}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise BadInput(f"{file}: {error}") from error


def _differences(case: Case, world: World) -> list[str]:
    from weft_policy.explain import explain

    request = request_from(case.method, case.url, case.headers, case.account, world.mesh.cluster_domain)
    try:
        return list(differences(case, explain(world.index, world.mesh, request, matcher())))
    except ValueError as error:
        raise BadInput(f"{case.name}: {error}") from error
