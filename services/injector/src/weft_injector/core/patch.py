"""JSON patch operations in the order that makes each one valid. Only `add`: what the user wrote stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weft_injector.core.json_value import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Add:
    """One operation of RFC 6902."""

    path: str
    value: Json

    def as_json(self) -> JsonObject:
        """As the API server reads it."""
        return {"op": "add", "path": self.path, "value": self.value}


def pointer_token(key: str) -> str:
    """A key within a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def metadata_ops(
    *,
    has_metadata: bool,
    has_annotations: bool,
    has_labels: bool,
    annotations: Mapping[str, str],
    labels: Mapping[str, str],
) -> list[Add]:
    """Annotations, sorted, then labels, sorted; their parents first where they are missing."""
    ops: list[Add] = []
    if not has_metadata:
        ops.append(Add("/metadata", {}))
    for field, present, entries in (("annotations", has_annotations, annotations), ("labels", has_labels, labels)):
        if entries and not present:
            ops.append(Add(f"/metadata/{field}", {}))
        ops += [Add(f"/metadata/{field}/{pointer_token(key)}", entries[key]) for key in sorted(entries)]
    return ops
