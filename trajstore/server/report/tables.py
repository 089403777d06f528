"""Tables of a report that are of no one dataset: what is scored and where it comes from, findings, measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.arguments import defaults
from trajstore.errors import TrajstoreError
from trajstore.pipelines.components.loadings import top_loadings
from trajstore.pipelines.differences.differences import noise_of_slices
from trajstore.pipelines.measure_trajectories import measure_trajectory
from trajstore.pipelines.shapes import shares
from trajstore.server.panes import components, coverage, findings
from trajstore.server.report.charts import drawing
from trajstore.server.report.kept_findings import kept_analyses
from trajstore.server.sessions import Work
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Mark

_MOST_SLICES = 1000
"""Slices whose provenance is held."""
_MOST_ROWS = 200
"""Rows of a finding's table."""
_MOST_MEASURED = 50_000
"""Rows of curves of measures; a measure beyond is left out."""
COMPONENTS_READ = range(1, 6)
"""Components whose tokens are held."""


class AddTable(Protocol):
    """Keeps the rows that an endpoint replies with."""

    def __call__(self, name: str, frame: pl.DataFrame, notes: Sequence[str] = ()) -> None:
        """Keep them."""


def add_store_tables(
    add: AddTable,
    store: Store,
    models: Sequence[str],
    datasets: Sequence[str],
    measured: Sequence[str],
    marks: Sequence[Mark],
) -> dict[str, Any]:
    """Add all these tables; returns facts beside them: of the store, of analyses with their charts, noise, marks.

    Coverage is that of `datasets`, findings and measures are those of `measured`.
    """
    chosen = Selection(measured, models)
    _add_coverage(add, store, models, datasets)
    _add_findings(add, store, chosen)
    _add_measures(add, store, chosen)
    facts = coverage.store_facts(store)
    scored = {
        model: {dataset: steps for dataset, steps in facts["steps"][model].items() if dataset in datasets}
        for model in models
    }
    noise = noise_of_slices(store, models)
    return {
        "name": facts["name"],
        "edit": False,
        "models": list(models),
        "datasets": [dataset for dataset in facts["datasets"] if dataset["name"] in datasets],
        "steps": scored,
        "findings": [
            {"kind": kind, "name": name}
            for kind, name in findings.finding_list(store, chosen).select("kind", "finding").iter_rows()
        ],
        "analyses": [
            {
                "kind": analysis.kind,
                "name": analysis.name,
                "title": analysis.title,
                "text": analysis.text,
                "charts": [drawing(chart) for chart in analysis.charts],
                "tables": [asdict(table) for table in analysis.tables],
            }
            for analysis in kept_analyses(store, models, measured, marks)
        ],
        "noise": [[*slice_, value] for slice_, value in noise.items()],
        "least": defaults.LEAST,
        "marks": [asdict(mark) for mark in marks],
    }


def _add_coverage(add: AddTable, store: Store, models: Sequence[str], datasets: Sequence[str]) -> None:
    """Add the state of each slice, where slices come from, and facts of models."""
    cells = coverage.cells(store, models, datasets)
    add("coverage", cells)
    add("models", coverage.model_facts(store).filter(pl.col("model").is_in(list(models))))
    slices = cells.filter(pl.col("state").is_in(["there", "partial"])).head(_MOST_SLICES)
    facts = [
        coverage.provenance(store, *slice_).select(
            *(
                pl.lit(value).alias(name)
                for name, value in zip(("model", "dataset", "step"), slice_, strict=True)
            ),
            pl.all(),
        )
        for slice_ in slices.select("model", "dataset", "step").iter_rows()
    ]
    if facts:
        add(
            "slice",
            pl.concat(facts).cast(dict.fromkeys(("model", "dataset", "fact", "value"), pl.Categorical)),
        )


def _add_findings(add: AddTable, store: Store, chosen: Selection) -> None:
    """Add the kept findings, the first rows of their tables, and scores and tokens of kept components."""
    kept = findings.finding_list(store, chosen)
    add("findings", kept)
    try:
        add("finding-events", findings.events(store, chosen))
    except TrajstoreError:
        add("finding-events", pl.DataFrame(schema=findings.EVENT_SCHEMA))
    for kind, name, names in kept.select("kind", "finding", "tables").iter_rows():
        finding = store.finding(kind, name)
        for path, frame, notes in _finding_tables(store, finding, names.split(", ")):
            add(path, frame, notes)


def _finding_tables(
    store: Store, finding: Finding, names: Sequence[str]
) -> Iterator[tuple[str, pl.DataFrame, list[str]]]:
    """(endpoint, rows, notes) of a finding; a table that cannot be read has a note of why alone."""
    for name in names:
        path = f"finding/{finding.kind}/{finding.name}/{name}"
        said = Work(float("inf"))
        try:
            yield path, findings.finding_rows(store, finding, name, _MOST_ROWS, said), said.notes
        except TrajstoreError as error:
            yield path, pl.DataFrame({"cannot be shown": [str(error)]}), []
    try:
        if finding.kind == "shapes":
            yield f"shape-shares/{finding.name}", shares(store, finding.name), []
        if finding.kind == "pca":
            yield f"component-scores/kept/{finding.name}", components.wide_scores(finding.table("scores")), []
            yield f"component-variance/kept/{finding.name}", components.scree(finding), []
            tokens = top_loadings(store, finding.name, COMPONENTS_READ, components.TOKENS, components.WIDTH)
            yield f"component-tokens/kept/{finding.name}", tokens.drop("finding"), []
    except TrajstoreError:
        return


def _add_measures(add: AddTable, store: Store, chosen: Selection) -> None:
    """Add the curves of measures, of each as long as there is room."""
    names = findings.measure_names(store, chosen)
    curves: list[pl.DataFrame] = []
    room = _MOST_MEASURED
    for name in names["name"]:
        try:
            frame = measure_trajectory(store, [name], chosen, interval=Interval()).frame
        except TrajstoreError:
            continue
        if frame.height <= room:
            room -= frame.height
            curves.append(frame.select(pl.lit(name).alias("measures"), pl.all()))
    held = {frame["measures"][0] for frame in curves if frame.height}
    left_out = names.filter(~pl.col("name").is_in(list(held))).height
    notes = [f"Measures that are not here: {left_out}."] if left_out else []
    add("measure-names", names.filter(pl.col("name").is_in(list(held))), notes)
    if curves:
        add("measure-curves", pl.concat(curves, how="vertical_relaxed"))
