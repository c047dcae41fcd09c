"""Memory of process trees from /proc, the kernel's own accounting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Memory:
    """rss_kib counts shared pages once per process; pss_kib divides them among the processes that share them."""

    processes: int
    rss_kib: int
    pss_kib: int


def descendants(root: int) -> list[int]:
    """root and every process below it, across pid namespaces."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children[int(fields[1])].append(int(stat.parent.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children[pid]
    return found


def program_of(pid: int) -> str:
    """What a process runs, in one word: the script's or module's name rather than the interpreter's."""
    try:
        argv = [part for part in Path(f"/proc/{pid}/cmdline").read_text().split("\0") if part]
    except OSError:
        return "gone"
    names = [Path(part).name for part in argv]
    if names and names[0].startswith("python"):
        if "-m" in argv and argv.index("-m") + 1 < len(argv):
            return argv[argv.index("-m") + 1]
        return next((name for name in names[1:] if not name.startswith("-")), names[0])
    return names[0] if names else "kernel"


def memory_of(pids: Iterable[int]) -> dict[str, Memory]:
    """By program, sorted by share of memory, largest first."""
    totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        values = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        total = totals[program_of(pid)]
        total[0] += 1
        total[1] += values.get("Rss", 0)
        total[2] += values.get("Pss", 0)
    ordered = sorted(totals.items(), key=lambda item: -item[1][2])
    return {name: Memory(*total) for name, total in ordered}
