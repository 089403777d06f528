"""«Unigram first» from a store into a store: its three phases in each model, by two measures, kept as a finding."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import polars as pl

from trajstore.analysis.phases.unigram_first import PHASES, Phase, find_unigram_first
from trajstore.arguments.choices import Divergence
from trajstore.errors import BadOption, NothingChosen
from trajstore.pipelines.finding_facts import (
    Request,
    Result,
    finding_name,
    one_or_many,
    token_hashes,
    versions,
)
from trajstore.pipelines.measures.curves import MeasureCurve, measure_curves
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "unigram_first"
"""Of the findings."""
_COLUMNS = {
    **dict.fromkeys(("model", "dataset"), pl.String),
    "layer": pl.Int64,
    "direction": pl.String,
    "phase": pl.Int64,
    **dict.fromkeys(("course", "answer"), pl.String),
    **dict.fromkeys(("from_step", "to_step", "low", "high"), pl.Int64),
    "reason": pl.String,
}
KL, ENERGY = "kl_unigram", "interaction_energy"


@dataclass(frozen=True)
class Run:
    """The two measures of a model on a dataset, and the phases that they show."""

    model: str
    dataset: str
    layer: int
    """That of the energy."""
    steps: np.ndarray
    """int64 (checkpoints,), ascending: those that have both."""
    kl: np.ndarray
    """float64 (checkpoints,), nats."""
    energy: np.ndarray
    """float64 (checkpoints,)."""
    phases: tuple[Phase, Phase, Phase]


@dataclass(frozen=True, repr=False)
class UnigramFirst(Result):
    """The three phases of «unigram first» in some models."""

    drawn_by = "trajstore.view.figures.unigram_first:charts_of_unigram_first"
    summaries = ("phases",)

    runs: tuple[Run, ...]
    direction: Divergence

    @property
    def frame(self) -> pl.DataFrame:
        """The columns of the view `unigram_first` without its first, by model, dataset and phase."""
        rows = [
            {
                "model": run.model,
                "dataset": run.dataset,
                "layer": run.layer,
                "direction": self.direction,
                "phase": phase.number,
                "course": PHASES[phase.number - 1],
                **{key: value for key, value in asdict(phase).items() if key != "number"},
            }
            for run in self.runs
            for phase in run.phases
        ]
        return pl.DataFrame(rows, schema=_COLUMNS)

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of its one table."""
        del table
        yield self.frame


def unigram_first(
    store: Store,
    selection: Selection | None = None,
    *,
    layer: int | None = None,
    direction: Divergence = "model||counts",
) -> UnigramFirst:
    """The three phases of «unigram first» in models, by KL to unigrams and interaction energy; nothing is written.

    KL is that of the model to the counts of tokens ("model||counts") or the other way round; energy is that of a layer
    before the final norm, the last by default. Checkpoints that have both are looked at. Raises `BadOption` for no such
    direction, `NothingChosen` where no model has both on one dataset, and as `measure_curves`.
    """
    if direction not in get_args(Divergence):
        raise BadOption("direction", direction, " or ".join(get_args(Divergence)))
    chosen = selection or Selection()
    kls = _longest(
        curve for curve in measure_curves(store, [KL], chosen) if _direction(curve.params) == direction
    )
    energies = _longest(iter(measure_curves(store, [ENERGY], chosen, layer)))
    runs = tuple(_run(kl, energies[key]) for key, kl in kls.items() if key in energies)
    if not runs:
        raise NothingChosen(
            f"No model has both {KL} ({direction}) and {ENERGY} on one dataset. Measure them: "
            f"trajstore measure {KL},{ENERGY} -m MODEL -d D"
        )
    asked = request(chosen, layer, direction)
    datasets = dict.fromkeys(run.dataset for run in runs)
    facts = {
        **asked.facts,
        "models": list(dict.fromkeys(run.model for run in runs)),
        "measures": [KL, ENERGY],
        "tokens_sha256": token_hashes(store, datasets),
        "versions": versions("numpy"),
    }
    return UnigramFirst(runs, direction, store=store, request=asked, facts=facts)


def request(
    selection: Selection, layer: int | None = None, direction: Divergence = "model||counts"
) -> Request:
    """The finding of «unigram first»; its default name has the models where they are named."""
    facts: dict[str, Any] = {"selection": selection.facts, "layer": layer, "direction": direction}
    names = [one_or_many(selection.models, "models")] if selection.models else []
    return Request(KIND, finding_name(names, facts), facts)


def _direction(params: str | None) -> str:
    """The direction in the params of a KL."""
    return str(json.loads(params or "{}").get("direction"))


def _longest(curves: Iterator[MeasureCurve]) -> Mapping[tuple[str, str], MeasureCurve]:
    """By model and dataset the curve of the highest layer; of several with other params that of most checkpoints."""
    ordered = sorted(curves, key=lambda curve: (curve.layer or 0, len(curve.steps)))
    return {(curve.model, curve.dataset): curve for curve in ordered if curve.dataset is not None}


def _run(kl: MeasureCurve, energy: MeasureCurve) -> Run:
    steps, ours, theirs = np.intersect1d(kl.steps, energy.steps, assume_unique=True, return_indices=True)
    values = kl.values[ours], energy.values[theirs]
    phases = find_unigram_first(steps, *values)
    return Run(kl.model, str(kl.dataset), energy.layer or 0, steps, *values, phases)
