"""Run the benchmarks by name, or all: `python -m bench [demo]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Final

from bench import demo

BENCHMARKS: Final[dict[str, Callable[[], int]]] = {"demo": demo.run}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, and write build/bench and docs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; default all")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return max(BENCHMARKS[name]() for name in names)


if __name__ == "__main__":
    sys.exit(main())
