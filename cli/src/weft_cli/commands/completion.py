"""`weft completion`: a script for the shell that asks `weft` itself what can come next."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script


class Shell(StrEnum):
    """Shells whose completion we know how to write."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print a completion script.

    Examples:  source <(weft completion bash)  ·  weft completion fish > ~/.config/fish/completions/weft.fish
    """
    typer.echo(get_completion_script(prog_name="weft", complete_var="_WEFT_COMPLETE", shell=shell.value))
