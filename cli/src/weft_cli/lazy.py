"""A command group whose commands are imported when they are run, so that `weft --help` stays fast.

Owns the mapping from a command's name to the module that implements it. The group's help shows one line per command
from this mapping; `resolve_command` swaps that placeholder for the real command, both when running and when completing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

from weft_cli.errors import CliError


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """target: `module:attribute`, a Typer application or a command function. summary: its line in the help."""

    target: str
    summary: str


class LazyGroup(TyperGroup):
    """Set `lazy` in a subclass made by `lazy_app`."""

    lazy: dict[str, LazyCommand] = {}  # noqa: RUF012 - filled once per subclass, never changed

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command for the first argument."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        entry = self.lazy.get(name) if name is not None else None
        if name is None or entry is None:
            return name, placeholder, rest
        return name, load(name, entry), rest


def lazy_app(commands: dict[str, LazyCommand], **settings: Any) -> typer.Typer:
    """A Typer application that shows `commands` and imports each on first use."""
    group = type("WeftGroup", (LazyGroup,), {"lazy": commands})
    app = typer.Typer(cls=group, **settings)
    for name, entry in commands.items():
        app.command(name, help=entry.summary)(_placeholder)
    return app


def _placeholder() -> None:
    """Stands for a command in the help of its group; never run."""


def load(name: str, entry: LazyCommand) -> Any:
    """Import a command. Raises CliError when its part of Weft is not installed."""
    module_name, _, attribute = entry.target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        distribution = module_name.partition(".")[0].replace("_", "-")
        raise CliError(
            f"`weft {name}` is not available: {module_name} is not installed",
            hint=f"install the distribution {distribution}",
        ) from error
    target: typer.Typer | Callable[..., Any] = getattr(module, attribute)
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        single.command(name)(target)
        target = single
    command = typer.main.get_command(target)
    command.name = name
    return command
