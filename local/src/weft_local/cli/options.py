"""What people type: durations, NAME=COMMAND, and an option whose value may be left out."""

from __future__ import annotations

import re
from typing import Any, Final

from typer.core import TyperCommand

DEFAULT_WAIT: Final = "300s"
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+|\d+(?:\.\d+)?")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_from(text: str) -> float:
    """120s, 1m30s or plain seconds. Raises ValueError."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write for example 90s or 2m")
    if text[-1].isdigit():
        return float(text)
    return sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))


class WaitCommand(TyperCommand):
    """A command whose --wait takes a duration, or stands alone for the default one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Fill in the value that was left out."""
        return super().parse_args(ctx, with_wait_value(args))


def with_wait_value(args: list[str]) -> list[str]:
    """Arguments in which every lone --wait has its default value."""
    filled = []
    for number, word in enumerate(args):
        following = args[number + 1] if number + 1 < len(args) else ""
        lone = word == "--wait" and not _DURATION.fullmatch(following)
        filled.append(f"--wait={DEFAULT_WAIT}" if lone else word)
    return filled
