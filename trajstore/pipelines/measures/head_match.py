"""Attention heads of two models from a store, matched by the course of their measures: results, and a finding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.head_kinds import nearest_kinds
from trajstore.analysis.head_match import (
    DRAWS,
    LayerAgreement,
    Matching,
    layer_agreement,
    layers_needed,
    match_heads,
)
from trajstore.arguments import defaults
from trajstore.arguments.spelling import option
from trajstore.errors import BadOption, TrajstoreError, listed
from trajstore.pipelines.finding_facts import Request, Result, finding_name
from trajstore.pipelines.measures.head_courses import HeadCourses, read_head_courses
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "head_matches"
"""Of the findings."""


@dataclass(frozen=True, repr=False)
class HeadMatch(Result):
    """The heads of two models one to one, and whether matched heads are in like layers."""

    drawn_by = "trajstore.view.figures.head_match:charts_of_head_match"
    summaries = ("pairs", "layers")

    models: tuple[str, str]
    read: HeadCourses
    matching: Matching
    layers: LayerAgreement
    chance: float
    """The highest p by which the layers agree."""
    ratio: float
    """A pair is ambiguous where its distance is more than this share of that to another head."""

    @property
    def frame(self) -> pl.DataFrame:
        """The columns of the view `head_matches` without its first, by the first model's heads."""
        kinds = nearest_kinds(self.read.courses[:, -1], self.read.measures)
        heads = self.read.heads.with_columns(pl.Series("kind", kinds, pl.String))
        ours, theirs = (heads.filter(model=name) for name in self.models)
        others = theirs.rename(
            {"model": "other", "layer": "other_layer", "head": "other_head", "kind": "other_kind"}
        )
        matching = self.matching
        distances = {
            "distance": matching.distances,
            "next_distance": matching.next_distances,
            "random_distance": matching.random_distances,
            "ambiguous": ~(matching.distances <= self.ratio * matching.next_distances)
            | ~np.isfinite(matching.next_distances),
        }
        pairs = pl.concat([ours[matching.heads], others[matching.others]], how="horizontal")
        finite = pl.selectors.float().replace(float("inf"), None).fill_nan(None)
        return pairs.with_columns(pl.Series(name, values) for name, values in distances.items()).with_columns(
            finite
        )

    @property
    def unmatched(self) -> int:
        """Heads without one of the other model, which has fewer."""
        return self.read.heads.height - 2 * len(self.matching.heads)

    @property
    def reason(self) -> str:
        """The reason why the layers cannot be told to agree; empty where they can."""
        if self.layers.answer != "cannot tell":
            return ""
        number = self.read.heads.filter(model=self.models[1])["layer"].n_unique()
        needed = layers_needed(self.chance)
        few = f": {number} layers, and {needed} at least are needed" if needed and number < needed else ""
        return f"even the best agreement would have p = {self.layers.least_p:.2g}, above {self.chance:g}{few}"

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of one of its tables."""
        frame = self.frame
        if table == "pairs":
            yield frame.rename({"kind": "head_kind"})
            return
        found = self.layers
        row = {
            **dict(zip(("model", "other"), self.models, strict=True)),
            "pairs": frame.height,
            "ambiguous": int(frame["ambiguous"].sum()),
            "same_layer": found.same,
            "same_layer_expected": found.same_expected,
            "layers_apart": found.apart,
            "layers_apart_expected": found.apart_expected,
            "p_heads": found.p_heads,
            "p_layers": found.p_layers,
            "least_p": found.least_p,
            "answer": found.answer,
        }
        yield pl.DataFrame([row])


def head_match(
    store: Store,
    selection: Selection | None = None,
    *,
    chance: float = defaults.CHANCE,
    ratio: float = defaults.MATCH_RATIO,
    seed: int = 0,
) -> HeadMatch:
    """The heads of two models, one to one, by the course of their measures; nothing is written.

    `chance` is the highest p by which the layers of matched heads agree. Raises `BadOption`, `TrajstoreError` for more
    or fewer than two models, and as `read_head_courses`.
    """
    if not 0 < chance < 1:
        raise BadOption("chance", str(chance), "a number between 0 and 1")
    if not 0 < ratio <= 1:
        raise BadOption("ratio", str(ratio), "a number above 0 and up to 1")
    chosen = selection or Selection()
    names = store.models(chosen.models)
    read = read_head_courses(store, chosen) if len(names) == 2 else None
    if read is None or len(read.models) != 2:
        known = names if read is None else read.models
        raise TrajstoreError(
            f"Heads are matched between two models that are measured; chosen: {listed(known)}. Choose two: "
            f"{option('models', ['A', 'B'])}"
        )
    first, second = read.models
    of_model = read.heads["model"].to_numpy()
    ours, theirs = of_model == first, of_model == second
    matching = match_heads(read.courses[ours], read.courses[theirs], seed)
    layers = read.heads["layer"].to_numpy().astype(np.int64)
    agreement = layer_agreement(layers[ours][matching.heads], layers[theirs][matching.others], chance, seed)
    asked = request(chosen, chance, ratio, seed)
    facts = {**asked.facts, **read.facts(store), "draws": DRAWS}
    return HeadMatch(
        (first, second), read, matching, agreement, chance, ratio, store=store, request=asked, facts=facts
    )


def request(
    selection: Selection,
    chance: float = defaults.CHANCE,
    ratio: float = defaults.MATCH_RATIO,
    seed: int = 0,
) -> Request:
    """The finding of matched heads; its default name has the models where they are named."""
    facts: dict[str, Any] = {"selection": selection.facts, "chance": chance, "ratio": ratio, "seed": seed}
    return Request(KIND, finding_name(selection.models or [], facts), facts)
