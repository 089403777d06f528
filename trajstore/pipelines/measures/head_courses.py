"""Attention heads of models from a store, and the courses of the measures that tell their kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from trajstore.analysis.head_kinds import KINDS, Courses
from trajstore.arguments.spelling import option
from trajstore.errors import NothingChosen, TrajstoreError, listed
from trajstore.pipelines.finding_facts import token_hashes, versions
from trajstore.store.matrix.steps import resolve

if TYPE_CHECKING:
    from trajstore.store.matrix.selection import Selection
    from trajstore.store.store import Store

_HEAD = ["model", "layer", "head"]
_OVER_CONTEXTS = """
SELECT model, dataset, name, layer, head, params::VARCHAR AS params, step, value FROM measures
WHERE context IS NULL AND head IS NOT NULL AND list_contains($names, name) AND list_contains($models, model)
"""


@dataclass(frozen=True)
class HeadCourses:
    """The heads of models and the values of their measures at the checkpoints that all have."""

    heads: pl.DataFrame
    """model, layer, head."""
    courses: Courses
    measures: tuple[str, ...]
    """The kinds that are looked for, each by its measure."""
    steps: tuple[int, ...]
    """The checkpoints that all models have."""
    models: tuple[str, ...]
    """Models that have such measures."""
    datasets: tuple[str, ...]
    """Datasets that they were measured on."""
    left_out: dict[str, list[str]]
    """By kind that is not looked for: the models that have no measure of it."""

    def facts(self, store: Store) -> dict[str, Any]:
        """The inputs as a finding records them."""
        return {
            "models": list(self.models),
            "measures": list(self.measures),
            "checkpoints": list(self.steps),
            "left_out": self.left_out,
            "tokens_sha256": token_hashes(store, self.datasets),
            "versions": versions("numpy", "scipy"),
        }


def read_head_courses(store: Store, chosen: Selection) -> HeadCourses:
    """The heads of the chosen models, by their measures at the steps that all have.

    Raises `NothingChosen` where no model has such a measure or they share no step, `TrajstoreError` where one is there
    on several datasets, with several parameters or of some heads alone, and as `resolve`.
    """
    models = store.models(chosen.models)
    frame = store.sql(_OVER_CONTEXTS, {"names": list(KINDS), "models": models}).pl()
    if chosen.datasets is not None:
        frame = frame.filter(pl.col("dataset").is_in(list(chosen.datasets)))
    if frame.is_empty():
        raise NothingChosen(
            f"No head of these models has a measure such as {KINDS[0]}. Measure them: "
            "trajstore measure heads -m MODEL --probe repeats"
        )
    names_of = {model: set(frame.filter(model=model)["name"]) for model in models}
    measured = {model: names for model, names in names_of.items() if names}
    left_out = {
        kind: [model for model, names in measured.items() if kind not in names]
        for kind in KINDS
        if any(kind not in names for names in measured.values())
    }
    kinds = tuple(kind for kind in KINDS if kind not in left_out)
    if not kinds:
        raise NothingChosen(
            f"{listed(measured)} have no measure of heads in common. Choose others: {option('models', ['A', 'B'])}"
        )
    frame = frame.filter(pl.col("name").is_in(kinds))
    _require_comparable(frame)
    steps = _common_steps(frame, chosen.steps)
    heads, courses = _courses(frame, kinds, steps, list(measured))
    return HeadCourses(
        heads,
        courses,
        kinds,
        tuple(steps),
        tuple(measured),
        tuple(frame["dataset"].drop_nulls().unique().sort()),
        left_out,
    )


def _require_comparable(frame: pl.DataFrame) -> None:
    """Raise `TrajstoreError` where a measure of a model is on several datasets, or has several parameters."""
    for by, column, advice in (
        (["model", "name"], "dataset", f"Choose one: {option('datasets', ['D'])}"),
        (["name"], "params", "Choose models that were measured alike, or measure again."),
    ):
        several = frame.group_by(by, maintain_order=True).agg(pl.col(column).unique().sort())
        for *where, values in several.filter(pl.col(column).list.len() > 1).iter_rows():
            of = " of ".join(reversed(where))
            raise TrajstoreError(f"{of} has several values of {column}: {listed(map(str, values))}. {advice}")


def _common_steps(frame: pl.DataFrame, spec: str) -> list[int]:
    """The steps meant, of those at which every model has every measure; raises `NothingChosen` for none."""
    of_measures = frame.group_by("model", "name", maintain_order=True).agg("step")["step"].to_list()
    common = set.intersection(*map(set, of_measures))
    if not common:
        raise NothingChosen(
            f"The models have these measures at no step in common. Choose others: {option('models', ['A', 'B'])}"
        )
    return resolve(spec, sorted(common), f"{listed(frame['model'].unique().sort())} with these measures")


def _courses(
    frame: pl.DataFrame, kinds: tuple[str, ...], steps: list[int], models: list[str]
) -> tuple[pl.DataFrame, Courses]:
    """The heads, by model, layer and head, and their values; raises `TrajstoreError` where some are missing."""
    wide = (
        frame.filter(pl.col("step").is_in(steps))
        .pivot("name", index=[*_HEAD, "step"], values="value")
        .sort(pl.col("model").cast(pl.Enum(models)), "layer", "head", "step")
    )
    heads = wide.select(_HEAD).unique(maintain_order=True)
    missing = wide.filter(pl.any_horizontal(pl.col(kinds).is_null()))
    if missing.height or wide.height != heads.height * len(steps):
        some = missing if missing.height else wide.group_by(_HEAD).len().filter(pl.col("len") < len(steps))
        model, layer, head = some.select(_HEAD).row(0)
        raise TrajstoreError(
            f"{model}, layer {layer}, head {head} lacks a measure that other heads have at the same step. Measure it "
            f"again: trajstore measure heads -m {model} --probe repeats --replace"
        )
    return heads, wide.select(kinds).to_numpy().reshape(heads.height, len(steps), len(kinds))
