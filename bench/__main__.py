"""Run the benchmarks by name, or all: `python -m bench [NAME…]`; one name may be followed by its own options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Final

from bench import admission, control, demo, proxy, soak

BENCHMARKS: Final[dict[str, Callable[[list[str]], int]]] = {
    "demo": demo.run,
    "proxy": proxy.run,
    "control": control.run,
    "admission": admission.run,
    "soak": soak.run,
}
BY_NAME_ONLY: Final = frozenset({"soak"})
"""What takes its time and measures no speed."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, and write build/bench and docs.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; default all but soak"
    )
    options, rest = parser.parse_known_args()
    names = options.names or [name for name in BENCHMARKS if name not in BY_NAME_ONLY]
    if rest and len(names) != 1:
        parser.error(f"{' '.join(rest)}: options belong to one benchmark; name it")
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return max(BENCHMARKS[name](rest) for name in names)


if __name__ == "__main__":
    sys.exit(main())
