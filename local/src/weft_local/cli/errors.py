"""How the failures of a command become a message and an exit code: 1 when it failed, 2 when the input is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

FAILED: Final = 1
BAD_INPUT: Final = 2


class Stop(Exception):
    """A command cannot go on. The text says what is wrong and what to do."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def explained() -> Iterator[None]:
    """Turn every expected failure inside into its message and exit code."""
    from weft_common.kube.client import KubeError
    from weft_common.settings import ConfigurationError

    from weft_local.cluster.state import AnotherAtWork

    try:
        yield
    except Stop as stop:
        sys.stderr.write(f"error: {stop}\n")
        raise typer.Exit(stop.code) from None
    except (AnotherAtWork, PermissionError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(FAILED) from None
    except ConfigurationError as error:
        sys.stderr.write("".join(f"error: {line}\n" for line in error.lines()))
        raise typer.Exit(FAILED) from None
    except KubeError as error:
        sys.stderr.write(f"error: {error.message}\n")
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
