"""Where results go: build/bench/NAME.json, and the marked section of docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parents[1]
RESULTS: Final = REPOSITORY / "build" / "bench"
DOCUMENT: Final = REPOSITORY / "docs" / "performance.md"


def machine() -> dict[str, Any]:
    """The machine's shape: cores, memory, kernel, processor."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    memory_kib = int(re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[1])  # type: ignore[index]  # the kernel always prints it
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / 1024**2, 1),
        "kernel": platform.release(),
        "processor": model[1] if model else platform.machine(),
        "python": platform.python_version(),
    }


def write_json(name: str, result: dict[str, Any]) -> Path:
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def write_section(name: str, text: str) -> None:
    """Replace what stands between <!-- bench:NAME --> and <!-- /bench:NAME -->."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    before, _, rest = DOCUMENT.read_text().partition(begin)
    after = rest.partition(end)[2]
    DOCUMENT.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")
