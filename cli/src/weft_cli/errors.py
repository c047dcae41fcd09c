"""What can stop a command, and the exit code each reason has.

Knows no command. Invariant: a CliError's text says what is wrong and, where something can be done, what to do next.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """As the shell sees it."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 2


class CliError(Exception):
    """A command cannot go on. hint: what to do next, empty when the message says it already."""

    def __init__(self, message: str, *, hint: str = "", exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class BadInput(CliError):
    """What the user typed cannot be meant."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, exit_code=ExitCode.BAD_INPUT)
