"""Where the nodes of a topology go: layers from callers on the left to callees on the right.

Deterministic for equal input, so that a page which redraws every two seconds stands still.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weft_web.core.model import WorkloadId

# Enough to untangle what a page can show; more passes change nothing on graphs of this size.
ORDERING_PASSES = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Column from the left and row from the top, both from 0; rows may be fractional where a column is centred."""

    column: int
    row: float


def place_nodes(nodes: Iterable[WorkloadId], links: Iterable[tuple[WorkloadId, WorkloadId]]) -> dict[WorkloadId, Place]:
    """A place for every node. Links to or from unknown nodes and from a node to itself are ignored.

    A caller stands left of whom it calls, as far as calls have no cycle; nodes without links come last, below the rest.
    """
    ordered = sorted(set(nodes))
    known = set(ordered)
    edges = sorted({(src, dst) for src, dst in links if src in known and dst in known and src != dst})
    linked = {end for edge in edges for end in edge}
    columns = _columns([node for node in ordered if node in linked], edges)
    tallest = max((len(column) for column in columns), default=0)
    places: dict[WorkloadId, Place] = {}
    for x, column in enumerate(columns):
        offset = (tallest - len(column)) / 2
        places.update({node: Place(x, offset + y) for y, node in enumerate(column)})
    width = max(len(columns), 4)
    for index, node in enumerate(node for node in ordered if node not in linked):
        places[node] = Place(index % width, float(tallest + index // width))
    return places


def _columns(nodes: Sequence[WorkloadId], edges: Sequence[tuple[WorkloadId, WorkloadId]]) -> list[list[WorkloadId]]:
    forward = _without_cycles(nodes, edges)
    depth = dict.fromkeys(nodes, 0)
    # Longest path from a source; the graph has no cycle, so as many rounds as nodes are enough.
    for _ in nodes:
        changed = False
        for src, dst in forward:
            if depth[dst] < depth[src] + 1:
                depth[dst] = depth[src] + 1
                changed = True
        if not changed:
            break
    columns: list[list[WorkloadId]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in nodes:
        columns[depth[node]].append(node)
    return _untangled(columns, edges)


def _without_cycles(
    nodes: Sequence[WorkloadId], edges: Sequence[tuple[WorkloadId, WorkloadId]]
) -> list[tuple[WorkloadId, WorkloadId]]:
    """The edges less those that close a cycle when the graph is walked from its sources."""
    out: dict[WorkloadId, list[WorkloadId]] = {node: [] for node in nodes}
    called = set()
    for src, dst in edges:
        out[src].append(dst)
        called.add(dst)
    kept: list[tuple[WorkloadId, WorkloadId]] = []
    state: dict[WorkloadId, bool] = {}  # True while on the current path, False once done
    for root in sorted(nodes, key=lambda node: (node in called, node)):
        if root in state:
            continue
        state[root] = True
        path = [(root, iter(out[root]))]
        while path:
            node, rest = path[-1]
            following = next(rest, None)
            if following is None:
                state[node] = False
                path.pop()
            elif state.get(following) is not True:
                kept.append((node, following))
                if following not in state:
                    state[following] = True
                    path.append((following, iter(out[following])))
    return kept


def _untangled(
    columns: list[list[WorkloadId]], edges: Sequence[tuple[WorkloadId, WorkloadId]]
) -> list[list[WorkloadId]]:
    """Each column ordered by the mean row of its neighbours (the barycentre heuristic), ties by name."""
    neighbours: dict[WorkloadId, list[WorkloadId]] = {}
    for src, dst in edges:
        neighbours.setdefault(src, []).append(dst)
        neighbours.setdefault(dst, []).append(src)
    for _ in range(ORDERING_PASSES):
        row = {node: y - len(column) / 2 for column in columns for y, node in enumerate(column)}
        means = {node: sum(row[other] for other in others) / len(others) for node, others in neighbours.items()}
        columns = [sorted(column, key=lambda node: (means[node], node)) for column in columns]
    return columns
