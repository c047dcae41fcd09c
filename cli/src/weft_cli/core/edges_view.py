"""`weft edges`: edges of the metrics API to a table or JSON (observability.md 5.5). Values in, text out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from weft_cli.core.resources import KINDS
from weft_cli.core.tables import UNKNOWN, Table

SECURED_SIGN: Final = "√"


@dataclass(frozen=True, slots=True)
class EdgeLine:
    """One edge. client_id, server_id: full mesh identities, empty where a side has none."""

    src: str
    src_kind: str
    src_namespace: str
    dst: str
    dst_kind: str
    dst_namespace: str
    client_id: str
    server_id: str
    secured: bool
    no_tls_reason: str
    open_connections: int


def edges_table(lines: Sequence[EdgeLine], kind: str, *, wide: bool = False) -> Table:
    """Lines in the order given. An end of another kind than the asked one carries its short type."""
    header = ["SRC", "DST", "SRC_NS", "DST_NS"]
    header += ["CLIENT_ID", "SERVER_ID"] if wide else []
    rows = []
    for line in lines:
        cells = [
            _end(line.src, line.src_kind, kind),
            _end(line.dst, line.dst_kind, kind),
            line.src_namespace or UNKNOWN,
            line.dst_namespace or UNKNOWN,
        ]
        cells += [short_identity(line.client_id), short_identity(line.server_id)] if wide else []
        cells.append(SECURED_SIGN if line.secured else line.no_tls_reason or "unknown")
        rows.append(tuple(cells))
    # Only text here, so everything is aligned to the left.
    return Table((*header, "SECURED"), tuple(rows), left=len(header) + 1)


def _end(name: str, kind: str, asked: str) -> str:
    return f"{KINDS[kind][0]}/{name}" if kind != asked and kind in KINDS else name


def short_identity(identity: str) -> str:
    """ServiceAccount and namespace of a mesh identity."""
    return ".".join(identity.split(".")[:2]) if identity else UNKNOWN


def edges_json(lines: Sequence[EdgeLine]) -> str:
    """An array, one object an edge. no_tls_reason is empty when secured."""
    return json.dumps(
        [
            {
                "src": line.src,
                "src_kind": line.src_kind,
                "src_namespace": line.src_namespace,
                "dst": line.dst,
                "dst_kind": line.dst_kind,
                "dst_namespace": line.dst_namespace,
                "client_id": line.client_id,
                "server_id": line.server_id,
                "secured": line.secured,
                "no_tls_reason": line.no_tls_reason,
                "open_connections": line.open_connections,
            }
            for line in lines
        ],
        indent=2,
    )
