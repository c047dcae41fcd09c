"""How resources are named on the command line (observability.md 3.3): types, short names, forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from weft_cli.errors import BadInput

# Kind, then its other names; the first short name prefixes rows when several types are shown.
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "daemonset": ("ds", "daemonsets"),
    "statefulset": ("sts", "statefulsets"),
    "job": ("job", "jobs"),
    "deployment": ("deploy", "deployments"),
    "replicationcontroller": ("rc", "replicationcontrollers"),
    "pod": ("po", "pods"),
    "service": ("svc", "services"),
    "cronjob": ("cj", "cronjobs"),
    "replicaset": ("rs", "replicasets"),
    "namespace": ("ns", "namespaces"),
}
ALL: Final = "all"
ALL_KINDS: Final = tuple(kind for kind in KINDS if kind != "namespace")

_BY_NAME: Final = {name: kind for kind, names in KINDS.items() for name in (kind, *names)}


@dataclass(frozen=True, slots=True)
class Target:
    """One resource, or every one of a kind when the name is empty."""

    kind: str
    name: str = ""

    @property
    def short(self) -> str:
        """As in `deploy/cart`."""
        return f"{KINDS[self.kind][0]}/{self.name}"


def kind_from(word: str) -> str:
    """The kind a word means. Raises BadInput with suggestions."""
    kind = _BY_NAME.get(word.lower())
    if kind is not None:
        return kind
    close = get_close_matches(word.lower(), _BY_NAME, n=3)
    suggestion = f"did you mean {' or '.join(close)}?" if close else f"known types: {', '.join(KINDS)}"
    raise BadInput(f"unknown resource type {word!r}", hint=suggestion)


def targets_from(words: Sequence[str]) -> list[Target]:
    """`TYPE`, `TYPE/NAME …`, `TYPE NAME …` or `all`, in the order given. Raises BadInput."""
    if not words:
        raise BadInput("no resource given", hint="for example: weft stat deploy")
    if ALL in words:
        if len(words) > 1:
            raise BadInput("`all` stands alone")
        return [Target(kind) for kind in ALL_KINDS]
    targets = _slashed(words) if "/" in words[0] else _spaced(words)
    for position, target in enumerate(targets):
        if target in targets[:position]:
            raise BadInput(f"{target.short} is given twice")
    return targets


def one_target(words: Sequence[str], what: str) -> Target:
    """Raises BadInput unless it is one resource with a name."""
    targets = targets_from(words)
    if len(targets) != 1 or not targets[0].name:
        raise BadInput(f"{what} takes one resource, such as deploy/cart")
    return targets[0]


def _slashed(words: Sequence[str]) -> list[Target]:
    targets = []
    for word in words:
        kind, slash, name = word.partition("/")
        if not slash or not name:
            raise BadInput(f"{word!r} is not of the form TYPE/NAME like the first one")
        if "/" in name:
            raise BadInput(f"{word!r} has more than one slash", hint="give the namespace with -n")
        targets.append(Target(kind_from(kind), name))
    return targets


def _spaced(words: Sequence[str]) -> list[Target]:
    kind = kind_from(words[0])
    for name in words[1:]:
        if "/" in name:
            raise BadInput(f"{name!r} after a type", hint=f"either `{words[0]} NAME …` or `TYPE/NAME TYPE/NAME …`")
    return [Target(kind, name) for name in words[1:]] or [Target(kind)]
