"""Commands whose options are made when they are needed: one invocation needs those of one command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand


def add_command(family: typer.Typer, function: Callable[..., None], name: str | None = None) -> None:
    """Add a command to others, as `family.command(name)(function)` does."""
    family.command(
        name or function.__name__.replace("_", "-"), help=inspect.getdoc(function), cls=_lazy(function)
    )(_nothing)


def command_of(function: Callable[..., None], name: str | None = None) -> Any:
    """The command of a function, with its options made."""
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name)(function)
    return typer.main.get_command(alone)


def _nothing() -> None:
    """Stand in for a command's function, from which Typer would make its options at once."""


def _lazy(function: Callable[..., None]) -> type[TyperCommand]:
    class LazyCommand(TyperCommand):
        """A command that makes its options and its callback from the function once one of them is read."""

        def __init__(self, *settings: Any, **more: Any) -> None:
            super().__init__(*settings, **more)
            del self.params, self.callback

        def __getattr__(self, name: str) -> Any:
            if name not in ("params", "callback"):
                raise AttributeError(name)
            made = command_of(function)
            self.params, self.callback = made.params, made.callback
            return getattr(self, name)

    return LazyCommand
