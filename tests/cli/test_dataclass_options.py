"""The command score has an option for each field of ScoringOptions, with its default and the line under it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
import typer
from typer.testing import CliRunner

from trajstore.cli import app
from trajstore.cli.dataclass_options import field_lines, option_name, options_of
from trajstore.scoring.options import ScoringOptions


@dataclass(frozen=True)
class Brew:
    """How tea is made."""

    kind: str = "green"
    """Which leaves,
    and from where."""
    hot: bool = False
    """Boil the water; see `kind`."""
    minutes: int | str | None = None
    """How long."""
    beside: tuple[str, ...] = ("milk", "sugar")
    """What comes with it."""


def test_each_field_is_an_option_of_score() -> None:
    lines = field_lines(ScoringOptions)
    assert list(lines) == [field.name for field in fields(ScoringOptions)], "a line under each field"
    score = typer.main.get_command(app).commands["score"]  # type: ignore[attr-defined]
    options = {parameter.name: parameter for parameter in score.params}
    for field in fields(ScoringOptions):
        option = options[field.name]
        assert option.opts == [option_name(field.name)], "no other name, and no --no-… either"
        assert not option.secondary_opts
        assert option.help == lines[field.name].replace("`columns`", "--columns")
        assert option.default == ("" if field.default == () else field.default)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Brew(kind='green', hot=False, minutes=None, beside='milk,sugar') 1"),
        (
            ["--kind", "black", "--hot", "--minutes", "4m", "--beside", "", "--cups", "2"],
            "Brew(kind='black', hot=True, minutes='4m', beside='') 2",
        ),
    ],
)
def test_a_command_is_given_the_dataclass(words: list[str], said: str) -> None:
    brewing = typer.Typer()

    @brewing.command()
    @options_of(Brew, minutes={"metavar": "TIME"})
    def brew(*, options: Brew, cups: int = 1) -> None:
        """Make tea."""
        typer.echo(f"{options} {cups}")

    assert CliRunner().invoke(brewing, words).stdout.strip() == said
    shown = " ".join(CliRunner().invoke(brewing, ["--help"]).stdout.replace("│", " ").split())
    for line in (
        "Which leaves, and from where. [default: green]",
        "Boil the water; see --kind.",
        "TIME How long.",
    ):
        assert line in shown
