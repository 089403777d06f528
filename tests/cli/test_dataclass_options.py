"""Commands have an option for each field of a dataclass: score those of ScoringOptions, with default and line."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from trajstore.cli import app
from trajstore.cli.dataclass_options import Only, dataclass_options, field_lines, option_name
from trajstore.errors import BadOption
from trajstore.scoring.options import ScoringOptions


@dataclass(frozen=True)
class Brew:
    """The settings of a pot of tea."""

    kind: str = "green"
    """Which leaves,
    and from where."""
    hot: bool = False
    """Boil the water; see `kind`."""
    minutes: int | str | None = None
    """How long."""
    beside: tuple[str, ...] = ("milk", "sugar")
    """An option that comes with it."""


def test_each_field_is_an_option_of_score() -> None:
    lines = field_lines(ScoringOptions)
    assert list(lines) == [field.name for field in fields(ScoringOptions)], "a line under each field"
    score = typer.main.get_command(app).commands["score"]  # type: ignore[attr-defined]
    options = {parameter.name: parameter for parameter in score.params}
    for field in fields(ScoringOptions):
        option = options[field.name]
        assert not option.secondary_opts
        assert option.help == lines[field.name].replace("`columns`", "--columns")
        if field.name == "parameters":  # several texts, as measure has them
            assert (option.opts, option.multiple, option.default) == (["--param", "-p"], True, [])
            continue
        assert option.opts == [option_name(field.name)], "no other name, and no --no-… either"
        assert option.default == ("" if field.default == () else field.default)


def test_values_of_parameters_are_texts_or_a_mapping() -> None:
    texts = ["offset=0", "rankme.features=all", "labels=[1, 2]"]
    values = {"offset": 0, "rankme.features": "all", "labels": [1, 2]}
    assert ScoringOptions(parameters=texts).parameters == values  # type: ignore[arg-type]
    assert ScoringOptions(parameters=values).parameters == values
    with pytest.raises(BadOption, match="It takes NAME=VALUE"):
        ScoringOptions(parameters=["offset"])  # type: ignore[arg-type]


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
    @dataclass_options(minutes={"metavar": "TIME"})
    def brew(*, kettle: Brew, cups: int = 1) -> None:
        """Make tea."""
        typer.echo(f"{kettle} {cups}")

    assert CliRunner().invoke(brewing, words).stdout.strip() == said
    shown = " ".join(CliRunner().invoke(brewing, ["--help"]).stdout.replace("│", " ").split())
    for line in (
        "Which leaves, and from where. [default: green]",
        "Boil the water; see --kind.",
        "TIME How long.",
    ):
        assert line in shown


@dataclass(frozen=True)
class Cup:
    """A cup of tea."""

    size: Annotated[int, typer.Option("--size", "-z", min=1, help="Its size.")] = 2
    sugar: Annotated[str, typer.Option(help="How much.")] = "none"
    lid: Annotated[bool, typer.Option("--lid", help="With a lid.")] = False


def test_a_command_takes_some_fields_in_its_own_order_with_its_own_help() -> None:
    serving = typer.Typer()

    @serving.command()
    @dataclass_options(sugar={"help": "In spoons.", "default": "one"})
    def serve(guest: str, *, cup: Annotated[Cup, Only("sugar size")], plate: bool = False) -> None:
        """Serve tea."""
        typer.echo(f"{guest} {cup} {plate}")

    command = typer.main.get_command(serving)
    assert [parameter.name for parameter in command.params][:4] == ["guest", "sugar", "size", "plate"]
    assert "lid" not in {parameter.name for parameter in command.params}
    assert command.params[1].help == "In spoons."  # type: ignore[attr-defined]
    said = CliRunner().invoke(serving, ["Ann", "-z", "3"]).stdout.strip()
    assert said == "Ann Cup(size=3, sugar='one', lid=False) False"
    assert CliRunner().invoke(serving, ["Ann", "-z", "0"]).exit_code == 2, "limits are those of the field"


def test_a_field_that_a_command_does_not_take_cannot_be_changed() -> None:
    def serve(*, cup: Annotated[Cup, Only("size")]) -> None:
        """Serve tea."""

    command = dataclass_options(sugar={"help": "In spoons."}, lid={"help": "None."})(serve)
    with pytest.raises(TypeError, match="serve takes no field lid, sugar"):
        inspect.signature(command)
