"""The mesh's own charts, rendered by the helm that is installed with this command."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from weft_local.cluster.charts import ChartsFailed, find_charts

from weft_cli.errors import BadInput, CliError

UMBRELLA: Final = "weft"
DEFINITIONS: Final = "weft-crds"
HELM_TIMEOUT_S: Final = 60.0
# Helm says this of the links by which the charts share a library; it is meant for nobody.
_NOISE: Final = ("walk.go", "found symbolic link")


@dataclass(frozen=True, slots=True)
class ValueSources:
    """Values over the charts' defaults, later ones winning: base, HA, files, then single settings."""

    base: Mapping[str, Any]
    ha: bool = False
    files: Sequence[Path] = ()
    settings: Sequence[str] = ()
    file_settings: Sequence[str] = ()


def rendered(chart: str, sources: ValueSources) -> str:
    """The YAML of a chart. Raises BadInput with helm's reasons when the values do not fit, CliError without charts."""
    try:
        charts = find_charts()
    except ChartsFailed as error:
        raise CliError(str(error)) from error
    for file in sources.files:
        if not file.is_file():
            raise BadInput(f"no values file at {file}")
    # The base may hold private keys, so it never stands on the command line.
    with tempfile.TemporaryDirectory(prefix="weft-") as scratch:
        base = Path(scratch) / "base.yaml"
        base.write_text(yaml.safe_dump(dict(sources.base)))
        arguments = ["--values", str(base)]
        if sources.ha:
            arguments += ["--values", str(charts.folder / UMBRELLA / "values-ha.yaml")]
        for flag, words in (
            ("--values", sources.files),
            ("--set", sources.settings),
            ("--set-file", sources.file_settings),
        ):
            for word in words:
                arguments += [flag, str(word)]
        done = subprocess.run(
            # In a namespace of nobody, so that the charts render their Namespace objects.
            [str(charts.helm), "template", "weft", str(charts.folder / chart), "--namespace", "default", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=HELM_TIMEOUT_S,
        )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if not any(noise in line for noise in _NOISE)]
        raise BadInput("\n  ".join(["the values do not fit the charts", *lines]))
    return done.stdout


def objects_in(text: str) -> list[dict[str, Any]]:
    """The rendered objects."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(text, loader) if document]
