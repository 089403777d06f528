"""Docs that cannot drift: every command has help with an example and stands in the reference."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from cogapp import Cog
from typer.testing import CliRunner

from trajstore import sqlfiles
from trajstore.cli import app
from trajstore.measures.definitions import own

ROOT = Path(__file__).parents[2]
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
TEXT = "\n".join(PAGES.values())
COMMANDS_PAGE = PAGES[ROOT / "docs" / "reference" / "commands.md"]


def commands(group: Any, prefix: str = "trajstore") -> dict[str, Any]:
    found = {}
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        found.update(commands(command, full) if hasattr(command, "commands") else {full: command})
    return found


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    text = COMMANDS[name].help
    assert "Example:" in text
    assert name in text.partition("Example:")[2]


@pytest.mark.parametrize("family", sorted({name.rpartition(" ")[0] for name in COMMANDS}))
def test_summaries_of_commands_are_whole_in_a_terminal_of_80_columns(family: str) -> None:
    shown = CliRunner().invoke(app, [*family.split()[1:], "--help"], terminal_width=80).output
    summaries = shown.partition("Commands:\n")[2].splitlines()
    assert summaries
    assert [line for line in summaries if line.endswith("...") or not line.endswith(".")] == []


def test_examples_use_options_that_there_are() -> None:
    """In --help, which the reference shows, and on every page."""
    seen = 0
    for line in re.findall(r"^ *(?:\$ )?(trajstore [a-z](?:.*\\\n)*.*)", TEXT, re.MULTILINE):
        try:
            words = shlex.split(line.replace("\\\n", " "), comments=True)
            words = words[: words.index("|")] if "|" in words else words
        except ValueError:
            continue  # a text in quotes goes on over lines
        name = max((each for each in COMMANDS if words[: len(each.split())] == each.split()), default=None)
        if name is None:
            continue  # prose, or a family of commands
        options = {each for one in COMMANDS[name].params for each in (*one.opts, *one.secondary_opts)}
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= options | {"--help"}, line
        seen += 1
    assert seen > 150


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None) or parameter.param_type_name == "argument", (
            f"{name} {parameter.name}"
        )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_reference(name: str) -> None:
    assert name in COMMANDS_PAGE


def test_every_measure_has_a_page_that_says_what_its_definition_says() -> None:
    folder = ROOT / "docs" / "reference" / "measures"
    measures = {measure.name for measure in own()}
    assert {path.stem for path in folder.glob("*.md")} == {"index", *measures}, "run make reference"
    pages = [str(path) for path in sorted(folder.glob("*.md"))]
    assert Cog().main(["cog", "-I", str(ROOT / "docs"), "--check", *pages]) == 0, "run make reference"
    assert all(measure.formula and measure.meaning and measure.source for measure in own())


def test_the_readme_is_short() -> None:
    assert len(PAGES[ROOT / "README.md"].splitlines()) <= 200


def test_links_between_pages_lead_somewhere() -> None:
    """Also from README.md, which the site's own check does not see."""
    for path, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("kind", ["views", "macros", "groups", "queries"])
def test_every_sql_file_has_a_header(kind: str) -> None:
    for file in sqlfiles.load(kind):
        assert len(file.description) > 20, file.name
