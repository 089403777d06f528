"""Findings of every analysis: names that stay what they were, and what `finding list` says that each is of."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from trajstore.analysis.components.methods import Method
from trajstore.pipelines import phases, shapes, spikes
from trajstore.pipelines.comparison import result as comparison
from trajstore.pipelines.components import pca
from trajstore.pipelines.differences import result as differences
from trajstore.pipelines.differences.differences import DifferenceInputs
from trajstore.pipelines.finding_facts import Request
from trajstore.store.files.finding_subjects import FindingSubject
from trajstore.store.matrix.selection import Selection

SELECTION = Selection(["d", "e"], ["a"], "log")
OF_DIGITS = replace(SELECTION, group="digits")
NOTHING = DifferenceInputs([], pl.DataFrame())
NAMES = {
    "full-2-datasets-digits-9c0b88": pca.request(OF_DIGITS, Method()),
    "a-2-datasets-digits-d50859": spikes.request(OF_DIGITS, spikes.Search()),
    "d-digits-74c8b6": shapes.ShapeOptions.of(["d"], SELECTION, ["digits"]).request,
    "digits-19700e": phases.request(phases.CurveOptions(("digits",), selection=SELECTION)),
    "a-vs-b-last-position_is-3-7c3ec9": comparison.request(
        ["a", "b"], comparison.Question(group="position_is(3)"), SELECTION
    ),
    "models-a-vs-b-log-digits-93ca54": differences.request(
        differences.DiffOptions("models", ("a", "b"), ("digits",), SELECTION), NOTHING
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_default_name_is_that_of_earlier_versions(name: str) -> None:
    """Another name for the same request would compute and keep it twice."""
    assert NAMES[name].default_name == name


@pytest.mark.parametrize("request_", NAMES.values(), ids=lambda one: one.kind)
def test_a_subject_is_read_from_what_is_asked_of_each_analysis(request_: Request) -> None:
    subject = FindingSubject.of(request_.facts)
    assert subject.steps == "log"
    assert set(subject.datasets) <= {"d", "e"}
    assert subject.groups == (("position_is(3)",) if request_.kind == "compare" else ("digits",))


def test_a_subject_is_said_in_a_line() -> None:
    facts = {
        "asked": {"groups": [], "group": None, "steps": "all"},
        "models": list("abcde"),
        "datasets": {"d": {}},
    }
    assert str(FindingSubject.of(facts)) == "a, b, c and 2 more on d"
    phased = {
        "groups": ["digits"],
        "measures": ["noise"],
        "induction": {"repeated": "repeated_half"},
        "models": ["a"],
        "selection": {"steps": "1:8"},
        "tokens_sha256": {"d": "sha256:0", "e": "sha256:1"},
    }
    assert str(FindingSubject.of(phased)) == "a on d, e; digits, noise, repeated_half; steps 1:8"
    assert str(FindingSubject.of({"models": 5, "asked": [], "datasets": None})) == ""
