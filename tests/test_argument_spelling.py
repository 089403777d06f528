"""Messages name arguments as Python does, and on the command line as options; the library speaks of no options."""

from __future__ import annotations

import ast
import pickle
import re
import threading
from pathlib import Path

import pytest

import trajstore
from trajstore.arguments.spelling import (
    QueryParameter,
    Spelling,
    as_given,
    option,
    speaks_python,
    spelled,
    spelled_here,
)
from trajstore.cli.option_spelling import CommandLineSpelling
from trajstore.errors import BadOption, MissingParameter, UnknownStep
from trajstore.server.page_spelling import PageSpelling

PACKAGE = Path(trajstore.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
COMMAND = re.compile(
    r"trajstore [a-z]|pip install|ray start|SLURM|check --deep|score --skip|ingest them again"
)


@pytest.mark.parametrize(
    ("argument", "value", "python", "typed"),
    [
        ("batch_tokens", None, "batch_tokens", "--batch-tokens"),
        ("batch_tokens", 512, "batch_tokens=512", "--batch-tokens 512"),
        ("dtype", "float32", "dtype='float32'", "--dtype float32"),
        ("name", "NAME", "name=NAME", "--name NAME"),
        ("replace", True, "replace=True", "--replace"),
        ("datasets", "NAME", "datasets=NAME", "--dataset NAME"),
        ("step", [0, 1], "step=[0, 1]", "--step 0,1"),
        (QueryParameter("step"), "VALUE", "step=VALUE", "-p step=VALUE"),
        (QueryParameter("step"), 7, "step=7", "-p step 7"),
    ],
)
def test_an_argument_with_a_value(argument: str, value: object, python: str, typed: str) -> None:
    assert option(argument, value) == python
    with spelled(pickle.loads(pickle.dumps(CommandLineSpelling()))):
        assert option(argument, value) == typed
        assert not speaks_python()
    assert option(argument, value) == python
    assert speaks_python()


def test_a_command_may_call_an_argument_otherwise() -> None:
    with spelled(CommandLineSpelling(columns="--map")):
        assert option("columns", {"THEIRS": "loss"}) == "--map THEIRS=loss"
    assert option("columns", {"THEIRS": "loss"}) == "columns={'THEIRS': 'loss'}"


def test_the_page_calls_arguments_as_its_controls_in_its_own_thread() -> None:
    heard = []
    with spelled(CommandLineSpelling()), spelled_here(PageSpelling()):
        assert option("ci", "studentised") == "“Intervals: studentised”"
        assert option("steps") == "“Steps”"
        assert option("models", ["A", "B"]) == "models=A,B"
        assert as_given("align", "x") == "align=x"
        thread = threading.Thread(target=lambda: heard.append(option("ci", "none")))
        thread.start()
        thread.join()
    assert heard == ["--ci none"]
    assert speaks_python()


def test_errors_name_arguments_in_the_spelling_of_who_is_spoken_to() -> None:
    for spelling, level, step, missing in (
        (Spelling(), "Cannot read level=2. It", "steps=7 matches no", "Give it with: a=VALUE b=VALUE"),
        (
            CommandLineSpelling(),
            "Cannot read --level '2'. It",
            "--steps 7 matches no",
            "Give it with: -p a=VALUE -p b=VALUE",
        ),
    ):
        with spelled(spelling):
            assert str(BadOption("level", 2, "a share")).startswith(level)
            assert str(UnknownStep("7", "a run", [8])).startswith(step)
            assert str(MissingParameter("q", {"a": "", "b": ""})).endswith(missing)
            assert as_given("align", "x") in ("align='x'", "--align 'x'")


def test_the_library_speaks_of_no_options() -> None:
    """Outside of the command line, an option stands only in a command that is given as a whole."""
    spoken = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in ("cli", "demo", "arguments"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        for node in ast.walk(tree):
            if id(node) in inner:
                continue
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…"
                for part in parts
                if not isinstance(part, ast.Constant) or isinstance(part.value, str)
            )
            if (
                OPTION.search(text)
                and not COMMAND.search(text)
                and isinstance(node, ast.JoinedStr | ast.Constant)
            ):
                spoken.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {text}")
    assert spoken == []
