"""The default of an option is that of the library's argument of the same name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import typer

from trajstore.analysis.components.gram import Treatment
from trajstore.analysis.components.methods import Sparsity
from trajstore.analysis.differences import Scale
from trajstore.analysis.spikes.tokens import Tolerance
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison
from trajstore.cli import app
from trajstore.datasets.build import build_dataset
from trajstore.importers.ingest import ingest
from trajstore.pipelines.comparison.result import Question
from trajstore.pipelines.differences.differences import DifferenceMethod
from trajstore.pipelines.groups.matching import balance_groups
from trajstore.pipelines.measures.head_kinds import head_kinds
from trajstore.pipelines.measures.head_match import head_match
from trajstore.pipelines.measures.unigram_first import unigram_first
from trajstore.pipelines.phases import Induction
from trajstore.pipelines.spikes import Search
from trajstore.pipelines.token_context import examples
from trajstore.server.report.report import write_report
from trajstore.store.matrix.selection import Selection


@pytest.mark.parametrize(
    ("words", "library", "least"),
    [
        ("trajectory", (Selection, Interval, Comparison), 8),
        ("matrix", (Selection,), 4),
        ("diff steps", (Interval, Scale, DifferenceMethod), 6),
        ("pca", (Treatment, Sparsity), 10),
        ("compare", (Interval, Question), 6),
        ("spikes", (Selection, Interval, Tolerance, Search), 8),
        ("phases", (Selection, Interval, Comparison, Induction), 9),
        ("heads kinds", (head_kinds,), 1),
        ("heads match", (head_match,), 3),
        ("unigram-first", (Selection, unigram_first), 3),
        ("group examples", (examples,), 4),
        ("group balance", (balance_groups,), 3),
        ("dataset add", (build_dataset,), 5),
        ("ingest", (ingest,), 6),
        ("report", (write_report,), 2),
    ],
)
def test_defaults_of_options_are_those_of_the_library(
    words: str, library: tuple[Callable[..., Any], ...], least: int
) -> None:
    command: Any = typer.main.get_command(app)
    for word in words.split():
        command = command.commands[word]
    options = {option.name: option.default for option in command.params}
    arguments = {
        name: argument.default
        for function in library
        for name, argument in inspect.signature(function).parameters.items()
        if name in options and isinstance(argument.default, str | int | float | None)
    }
    # A number of contexts is none where problems are drawn; --worst K is both `contexts` and `worst`.
    arguments.pop({"dataset add": "contexts", "report": "worst"}.get(words, ""), None)
    assert len(arguments) >= least
    assert {name: options[name] for name in arguments} == arguments
