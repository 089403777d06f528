"""Measures of two checkpoints beside each other, of one model or of two: values, differences and their intervals.

Where both have values of contexts, all is over the contexts that both have, which are resampled together; otherwise a
difference has the standard error of two independent numbers, where these have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.statistics.bootstrap import Draws, Interval
from trajstore.analysis.trajectories import Comparison
from trajstore.display import of_names
from trajstore.errors import NothingChosen, TrajstoreError, UnknownName, listed
from trajstore.pipelines.comparison.comparison import one_step
from trajstore.pipelines.finding_facts import (
    Request,
    Result,
    finding_name,
    name_part,
    one_or_many,
    token_hashes,
    versions,
)
from trajstore.pipelines.measures.comparison import compared
from trajstore.pipelines.measures.curves import SCHEMA as CURVE
from trajstore.pipelines.measures.curves import MeasureCurve, measure_curves, measured
from trajstore.progress import SILENT
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "compare_measures"
"""Of the findings."""

SCHEMA = {
    **{name: CURVE[name] for name in ("measure", "layer", "head", "params", "dataset", "model", "step")},
    "minus_model": pl.String,
    "minus_step": pl.Int64,
    "value": pl.Float64,
    "minus_value": pl.Float64,
    "difference": pl.Float64,
    **{name: CURVE[name] for name in ("low", "high", "contexts", "unit", "units", "interval")},
}
"""Columns of a comparison: a row for each measure, dataset, layer, head and params that both checkpoints have."""


@dataclass(frozen=True, repr=False)
class MeasureComparison(Result):
    """Measures of two checkpoints."""

    drawn_by = "trajstore.view.figures.measures:charts_of_differences"
    summaries = ("values",)

    frame: pl.DataFrame
    """The columns of `SCHEMA`."""
    sides: tuple[str, str]
    """The checkpoints as MODEL@STEP; the second is subtracted."""
    left_out: tuple[str, ...]
    """Measures that only one of them has, or has with other params."""
    level: float

    def brief(self) -> str:
        """Measures and checkpoints."""
        return f"{of_names(self.frame['measure'], 'measure')}, {' − '.join(self.sides)}"

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of its one table."""
        del table
        yield self.frame


def compare_measures(
    store: Store,
    checkpoints: Sequence[str],
    measures: str | Sequence[str],
    datasets: Sequence[str] | None = None,
    *,
    step: str = "last",
    layer: int | None = None,
    head: int | None = None,
    interval: Interval | None = None,
) -> MeasureComparison:
    """Measures of two checkpoints, each MODEL@STEP, or a model or glob at `step`, where "last" is the last of both.

    Nothing is written.

    Raises `TrajstoreError` for more or fewer than two checkpoints, `NothingChosen` where they have nothing in common,
    `BadOption`, `UnknownStep`, and as `measure_curves`.
    """
    names = [measures] if isinstance(measures, str) else list(measures)
    how = interval or Interval()
    draws = Draws(how)
    one, other = _two_checkpoints(store, checkpoints, names, datasets, step)
    ours, theirs = (
        {
            curve.place: curve
            for curve in measure_curves(store, names, Selection(datasets, [model], str(at)), layer, head)
        }
        for model, at in (one, other)
    )
    sides = (f"{one[0]}@{one[1]}", f"{other[0]}@{other[1]}")
    rows = [
        {
            **dict(zip(("measure", "dataset", "layer", "head", "params"), place, strict=True)),
            **dict(zip(("model", "step", "minus_model", "minus_step"), (*one, *other), strict=True)),
            **_difference(ours[place], theirs[place], sides, draws),
        }
        for place in ours
        if place in theirs
    ]
    if not rows:
        raise NothingChosen(
            f"{' and '.join(sides)} have no value of {', '.join(names)} on one dataset, at one layer and head and "
            "with the same params. See: FROM measures"
        )
    alone = [
        f"{_described(curve)} of {side}"
        for side, mine, others in ((sides[0], ours, theirs), (sides[1], theirs, ours))
        for place, curve in mine.items()
        if place not in others
    ]
    frame = pl.DataFrame(rows, SCHEMA)
    made = request(sides, names, datasets, layer=layer, head=head, interval=how)
    facts = {
        **made.facts,
        "models": list(dict.fromkeys((one[0], other[0]))),
        "steps": ",".join(map(str, dict.fromkeys((one[1], other[1])))),
        "tokens_sha256": token_hashes(store, sorted(set(frame["dataset"].drop_nulls()))),
        "versions": versions("numpy"),
    }
    return MeasureComparison(frame, sides, tuple(alone), how.level, store=store, request=made, facts=facts)


def request(
    sides: Sequence[str],
    measures: Sequence[str],
    datasets: Sequence[str] | None,
    *,
    layer: int | None,
    head: int | None,
    interval: Interval,
) -> Request:
    """The finding of a comparison; its default name has the two checkpoints and the measure or how many."""
    facts: dict[str, Any] = {
        "checkpoints": list(sides),
        "measures": list(measures),
        "datasets": None if datasets is None else list(datasets),
        "layer": layer,
        "head": head,
        "interval": asdict(interval),
    }
    parts = (name_part("-vs-".join(sides), None), one_or_many(measures, "measures"))
    return Request(KIND, finding_name(parts, facts), facts)


def _two_checkpoints(
    store: Store,
    checkpoints: Sequence[str],
    names: Sequence[str],
    datasets: Sequence[str] | None,
    step: str,
) -> tuple[tuple[str, int], tuple[str, int]]:
    """The checkpoints meant, as (model, step)."""
    named: list[tuple[str, str | None]] = []
    for checkpoint in checkpoints:
        model, at, own = checkpoint.rpartition("@")
        if not at:
            named += [(name, None) for name in store.models(checkpoint)]
        elif model in (known := store.model_names()):
            named.append((model, own))
        else:
            raise UnknownName("model", model, known)
    named = list(dict.fromkeys(named))
    if len(named) != 2:
        raise TrajstoreError(
            f"Measures are compared between two checkpoints, MODEL or MODEL@STEP; {', '.join(checkpoints)} names "
            f"{len(named)}; give two."
        )
    steps_of = {model: _steps(store, model, names, datasets) for model, _ in named}
    plain = [model for model, own in named if own is None]
    shared = set.intersection(*(set(steps_of[model]) for model in plain)) if plain else set[int]()
    measured = f" with {listed(names)}"
    chosen = [
        (model, one_step("step", step, sorted(shared), " and ".join(plain) + measured))
        if own is None
        else (model, one_step("step", own, steps_of[model], model + measured, model))
        for model, own in named
    ]
    if chosen[0] == chosen[1]:
        raise TrajstoreError(f"{chosen[0][0]}@{chosen[0][1]} is named twice; give two checkpoints.")
    return chosen[0], chosen[1]


def _steps(store: Store, model: str, names: Sequence[str], datasets: Sequence[str] | None) -> list[int]:
    """The steps at which a model has all of the measures; raises `NotMeasured` for one it does not have."""
    return sorted(
        set.intersection(*(set(measured(store, name, [model], datasets)["step"]) for name in names))
    )


def _described(curve: MeasureCurve) -> str:
    """A measure with its layer, head, dataset and params."""
    places = (("layer", curve.layer), ("head", curve.head), ("on", curve.dataset), ("with", curve.params))
    return " ".join([curve.measure, *(f"{word} {at}" for word, at in places if at is not None)])


def _difference(
    ours: MeasureCurve, theirs: MeasureCurve, sides: tuple[str, str], draws: Draws
) -> dict[str, object]:
    """The values of two curves of a checkpoint each, and their difference."""
    shared = np.zeros(0, np.int64)
    if ours.by_context is not None and theirs.by_context is not None:
        shared = np.intersect1d(ours.by_context.contexts, theirs.by_context.contexts)
    if not len(shared):
        ours, theirs = replace(ours, by_context=None), replace(theirs, by_context=None)
    both = [_as_model(curve, side, ours.label) for curve, side in zip((ours, theirs), sides, strict=True)]
    found = compared(both, [], Comparison(minus_model=sides[1]), draws, SILENT).row(0, named=True)
    return {
        "value": _value(ours, shared),
        "minus_value": _value(theirs, shared),
        "difference": found["value"],
        **{name: found.get(name) for name in ("low", "high", "contexts", "unit", "units", "interval")},
    }


def _value(curve: MeasureCurve, contexts: np.ndarray) -> float:
    """The value of a curve of one checkpoint, the mean over these contexts where it has them."""
    sums = curve.by_context
    return float(
        curve.values[0] if sums is None else sums.sums[0, np.searchsorted(sums.contexts, contexts)].mean()
    )


def _as_model(curve: MeasureCurve, name: str, label: str) -> MeasureCurve:
    """A curve of one checkpoint as that of a model of its own at step 0, so that steps may differ."""
    sums = curve.by_context
    if sums is not None:
        sums = replace(sums, rows=pl.DataFrame({"model": [name], "step": [0]}, schema=sums.rows.schema))
    return replace(curve, label=label, model=name, steps=np.zeros(1, np.int64), by_context=sums)
