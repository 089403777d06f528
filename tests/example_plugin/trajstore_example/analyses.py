"""The share of tokens that a model has learned at each checkpoint."""

from collections.abc import Sequence
from typing import Annotated

import polars as pl

import trajstore
from trajstore.pipelines import AnalysisDefinition, AnalysisResult, Column
from trajstore.view.charts.chart import Chart, Panel, Series


def learned_shares(
    store: trajstore.Store,
    selection: trajstore.Selection,
    *,
    below: Annotated[
        float, "A token is learned where its loss is below this share of the first checkpoint's."
    ] = 0.5,
) -> dict[str, pl.DataFrame]:
    """Share of tokens that are learned at each checkpoint.

    A token may be forgotten again: the share of a later checkpoint may be smaller.
    """
    rows = []
    for dataset in selection.datasets or store.dataset_names():
        for model in store.models(selection.models):
            matrix = store.matrix(dataset, model, selection.group, selection.steps, selection.contexts)
            learned = matrix.values < below * matrix.values[0]
            rows += [
                (model, dataset, step, float(share))
                for step, share in zip(matrix.rows["step"], learned.mean(axis=1), strict=True)
            ]
    columns = ["model", "dataset", "step", "share"]
    return {"shares": pl.DataFrame(rows, schema=columns, orient="row")}


def charts(result: AnalysisResult) -> Sequence[Chart]:
    """One chart, a curve for each model and dataset."""
    curves = result.table("shares").partition_by("model", "dataset", as_dict=True)
    series = [
        Series(" on ".join(names), tuple(curve["step"]), tuple(curve["share"]))
        for names, curve in curves.items()
    ]
    return [Chart("Tokens that are learned", "step", "share of tokens", (Panel("", tuple(series)),))]


learned_tokens = AnalysisDefinition(
    name="learned_tokens",
    compute=learned_shares,
    tables={
        "shares": [
            Column("model", "text", "one training run"),
            Column("dataset", "text", "the dataset whose tokens are counted"),
            Column("step", "long", "of the checkpoint"),
            Column("share", "double", "share of tokens whose loss is low [1]"),
        ]
    },
    charts=charts,
)
