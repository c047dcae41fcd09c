"""Charts rendered by the real helm."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

REPOSITORY: Final = Path(__file__).parents[2]
CHARTS: Final = REPOSITORY / "charts"
HELM: Final = Path(sys.executable).parent / "helm"
VALUES: Final = Path(__file__).with_name("values.yaml")
COMPONENTS: Final = (
    "weft-crds",
    "weft-identity",
    "weft-destination",
    "weft-injector",
    "weft-redis",
    "weft-metrics-api",
    "weft-web",
)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm. Notices about symbolic links go to stderr, as do errors."""
    return subprocess.run(
        [str(HELM), *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )


@cache
def rendered(chart: str, *arguments: str) -> str:
    """The whole rendering, as text."""
    done = helm("template", "weft", str(CHARTS / chart), "-f", str(VALUES), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def objects(chart: str, *arguments: str) -> tuple[dict[str, Any], ...]:
    """The rendered objects, shared by all tests: copy before changing one."""
    documents = yaml.load_all(rendered(chart, *arguments), Loader=yaml.CSafeLoader)
    return tuple(document for document in documents if document)


def identity_of(obj: dict[str, Any]) -> tuple[str, str, str]:
    """Kind, namespace, name."""
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
