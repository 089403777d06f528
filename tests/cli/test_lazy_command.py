"""The options of a command are made when they are needed, and not those of the others."""

from __future__ import annotations

from typing import Any

import typer.main

from trajstore.cli import app


def test_options_are_made_of_the_command_that_is_looked_at() -> None:
    commands: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert not [name for name in ("pca", "sql") if "params" in vars(commands[name])]
    assert "--components" in {option for made in commands["pca"].params for option in made.opts}
    assert "params" not in vars(commands["sql"])
    assert not hasattr(commands["sql"], "nothing_such")
