"""What a release builds is what its charts install: names, versions and bases stand in several places, and agree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from .rendering import REPOSITORY, VALUES, helm, objects

BAKE: Final = (REPOSITORY / "docker-bake.hcl").read_text()
IMAGES: Final = (REPOSITORY / "scripts/images").read_text()
DOCKERFILES: Final = sorted(
    path
    for folder in ("services", "examples")
    for path in (REPOSITORY / folder).rglob("Dockerfile")
    if "target" not in path.parts
)


def images_of(rendered: tuple[dict[str, Any], ...]) -> set[str]:
    """Every image that the pods of Deployments run."""
    pods = [obj["spec"]["template"]["spec"] for obj in rendered if obj["kind"] == "Deployment"]
    return {c["image"] for pod in pods for c in [*pod["containers"], *pod.get("initContainers", ())]}


def built_by_bake() -> dict[str, str]:
    """The Dockerfile of each image that the default group builds."""
    blocks = dict(re.findall(r'^target "(\w+)" \{(.*?)^\}', BAKE, re.MULTILINE | re.DOTALL))
    (group,) = re.findall(r'group "default" \{\s*targets = \[(.*?)\]', BAKE)
    found = {}
    for target in re.findall(r'"(\w+)"', group):
        matrix = re.search(r"matrix\s*= \{ service = \[(.*?)\] \}", blocks[target])
        (dockerfile,) = re.findall(r'dockerfile\s*= "(.*)"', blocks[target])
        for name in re.findall(r'"([\w-]+)"', matrix[1]) if matrix else [target]:
            found[name] = dockerfile.replace("${service}", name)
    return found


def test_bake_and_buildah_build_the_same_images() -> None:
    (names,) = re.findall(r"names=\(([\w -]+)\)", IMAGES)
    assert built_by_bake().keys() == set(names.split())
    assert {REPOSITORY / file for file in built_by_bake().values()} < set(DOCKERFILES)


def test_every_image_of_the_charts_and_the_bookshop_is_built() -> None:
    shop = tuple(
        document
        for file in (REPOSITORY / "examples/bookshop/manifests").glob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
    )
    ours = {image.partition(":")[0] for image in images_of(objects("weft")) | images_of(shop)} - {"redis"}
    # The injector adds the debug container to pods that ask for it.
    assert ours | {"weft/debug"} == {f"weft/{name}" for name in built_by_bake()}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_bases_are_those_a_release_pins(path: Path) -> None:
    defaults = dict(re.findall(r'variable "(BUILDER|RUNTIME|RUST)" \{ default = "(.*)" \}', BAKE))
    bases = dict(re.findall(r"^ARG (BUILDER|RUNTIME|RUST)=(.*)$", path.read_text(), re.MULTILINE))
    assert bases
    assert bases.items() <= defaults.items()
    pinned = (REPOSITORY / ".github/workflows/release.yaml").read_text()
    assert all(f"$(pinned {base})" in pinned for base in bases.values())


def test_packaged_umbrella_installs_the_images_of_the_release(tmp_path: Path) -> None:
    subprocess.run(
        [str(REPOSITORY / "scripts/package-charts"), "9.8.7", "registry.test/weft/", str(tmp_path)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    done = helm("template", "weft", str(tmp_path / "weft-9.8.7.tgz"), "-f", str(VALUES))
    assert done.returncode == 0, done.stderr
    rendered = tuple(document for document in yaml.safe_load_all(done.stdout) if document)
    ours = images_of(rendered) - {"redis:7"}
    assert {"registry.test/weft/identity:9.8.7", "registry.test/weft/proxy:9.8.7"} <= ours
    assert all(re.fullmatch(r"registry\.test/weft/[\w-]+:9\.8\.7", image) for image in ours), ours
