"""What a controller wants done: writes to the API, in order, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from weft_common.kube.resource import ObjectKey, Resource

from weft_local.controllers.core.world import Object


@dataclass(frozen=True, slots=True)
class Create:
    """body: the whole object, its namespace included."""

    resource: Resource
    body: Object


@dataclass(frozen=True, slots=True)
class Patch:
    """A JSON merge patch. subresource: empty, status, or finalize (then body replaces the object)."""

    resource: Resource
    key: ObjectKey
    body: Object
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """uid: only this very object, never a namesake made since."""

    resource: Resource
    key: ObjectKey
    uid: str


@dataclass(frozen=True, slots=True)
class EmptyNamespace:
    """Delete every object of a namespace, of kinds unknown to the controllers too, then let the namespace go."""

    name: str


Action: TypeAlias = Create | Patch | Delete | EmptyNamespace


@dataclass(frozen=True, slots=True)
class Plan:
    """actions: in this order. look_again_in_s: when time alone may change the answer, else None."""

    actions: tuple[Action, ...] = ()
    look_again_in_s: float | None = None


NOTHING = Plan()
