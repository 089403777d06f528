"""Measures: scalars of a checkpoint, such as the noise of its losses; here, their files.

One file holds what one computation found of one checkpoint, on one dataset or on none:
`measures/model=M/step=S/NAME.parquet`, with a dataset `NAME.DATASET.parquet`. It is published whole under that path,
which is its key, and sealed as slices are. Knows nothing of what a measure means, and computes none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.errors import BadMeasures, BadName, DamagedFile, MeasuresExist
from trajstore.schema import FORMAT, GROUP_NAME, META_KEY, check_name, check_step
from trajstore.store import passed_over
from trajstore.store.disk import digests, layout, parquet_files
from trajstore.store.files import models

SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string()),
        pa.field("name", pa.string(), nullable=False),
        pa.field("layer", pa.int32()),
        pa.field("head", pa.int32()),
        pa.field("context", pa.int32()),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("stderr", pa.float64()),
        pa.field("params", pa.string()),
    ]
)

TOKEN_SCHEMA = pa.schema(
    [
        *SCHEMA,
        pa.field("token_means", pa.list_(pa.float64())),
        pa.field("token_variances", pa.list_(pa.float64())),
    ]
)
"""Of a file with values of tokens, at each position of a context from 0 on; null where there is none."""

_AGAIN = "Remove the file and make those measures again"

COLUMNS = {
    "model": pl.String,
    "step": pl.Int64,
    "dataset": pl.String,
    "name": pl.String,
    "layer": pl.Int32,
    "head": pl.Int32,
    "context": pl.Int32,
    "value": pl.Float64,
    "stderr": pl.Float64,
    "params": pl.String,
}
"""Columns of a frame of measures, as of the view; params is JSON."""


@dataclass(frozen=True)
class Measure:
    """One number of a checkpoint."""

    name: str
    """The computation's name, or that with something behind it: `noise_max` of `noise`."""
    value: float
    layer: int | None = None
    head: int | None = None
    context: int | None = None
    """Of the dataset; None where the value is of all its contexts, or of none."""
    stderr: float | None = None
    """Standard error of the value."""
    params: Mapping[str, object] = field(default_factory=dict)
    """Parameters that the value depends on; JSON."""
    token_means: tuple[float | None, ...] | None = field(default=None, repr=False)
    """Of a context's value over draws: the mean at each position from 0 on, None where there is none."""
    token_variances: tuple[float | None, ...] | None = field(default=None, repr=False)
    """Their variances."""


def path_of(root: Path, model: str, step: int, name: str, dataset: str | None) -> Path:
    """The file of one computation's measures of a checkpoint; raises `BadName`."""
    if not GROUP_NAME.fullmatch(name):
        raise BadName("measure", name, "small letters, digits and '_' only, starting with a letter")
    file = f"{name}.parquet" if dataset is None else f"{name}.{check_name('dataset', dataset)}.parquet"
    return folder_of(root, model) / f"step={check_step(step)}" / file


def publish_measures(
    root: Path,
    model: str,
    step: int,
    name: str,
    dataset: str | None,
    measures: Sequence[Measure],
    *,
    replace: bool = False,
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """Write the measures that one computation, `name`, found of a checkpoint; returns the file.

    The footer keeps `provenance` (JSON): of which weights they are, and how they were computed.

    Raises `BadName`, `BadMeasures`, and unless `replace` `MeasuresExist` where the file is there.
    """
    path = path_of(root, model, step, name, dataset)
    what = f"{name} of {model} at step {step}"
    rows = [{"dataset": dataset, **_row(measure, name, what)} for measure in measures]
    if not rows:
        raise BadMeasures(f"{what}: there is nothing to keep.")
    keys = [tuple(row[key] for key in ("name", "layer", "head", "context", "params")) for row in rows]
    if len(set(keys)) < len(keys):
        raise BadMeasures(f"{what}: two values have the same name, layer, head, context and params.")
    facts: dict[str, object] = {
        "format": FORMAT,
        "model": model,
        "step": step,
        "name": name,
        "dataset": dataset,
    }
    if provenance is not None:
        facts["provenance"] = dict(provenance)
    schema = SCHEMA if all(measure.token_means is None for measure in measures) else TOKEN_SCHEMA
    data = digests.parquet(pa.Table.from_pylist(rows, schema), {META_KEY: json.dumps(facts)})
    if not layout.publish(root, path, data, replace=replace):
        raise MeasuresExist(what, dataset)
    return path


def _row(measure: Measure, name: str, what: str) -> dict[str, object]:
    """A measure as a row, if it can be one; raises `BadMeasures`."""
    if measure.name != name and not (
        measure.name.startswith(f"{name}_") and GROUP_NAME.fullmatch(measure.name)
    ):
        raise BadMeasures(f"{what}: {measure.name!r} is not {name}, nor {name}_ with something behind it.")
    numbers = (measure.value, 0.0 if measure.stderr is None else measure.stderr)
    if not all(map(math.isfinite, numbers)):
        raise BadMeasures(
            f"{what}: {measure.name} is {measure.value} ± {measure.stderr}; both must be finite."
        )
    tokens = (measure.token_means or (), measure.token_variances or ())
    if not all(value is None or math.isfinite(value) for values in tokens for value in values):
        raise BadMeasures(f"{what}: {measure.name} has values of tokens that are not finite.")
    if len(tokens[0]) != len(tokens[1]):
        raise BadMeasures(f"{what}: {measure.name} has not as many means as variances of tokens.")
    try:
        params = json.dumps(dict(measure.params), sort_keys=True, allow_nan=False) if measure.params else None
    except (TypeError, ValueError) as error:
        raise BadMeasures(f"{what}: the params of {measure.name} cannot be JSON ({error}).") from error
    return {**vars(measure), "params": params}


def files(root: Path, model: str) -> list[Path]:
    """The files of a model's measures."""
    return passed_over.kept(root, folder_of(root, model).glob("step=*/*.parquet"))


def _parts(path: Path) -> tuple[str, str | None, int]:
    """(computation, dataset, step) that the path of one of `files` names."""
    name, _, dataset = path.name.removesuffix(".parquet").partition(".")
    return name, dataset or None, int(path.parent.name.removeprefix("step="))


def frame(
    root: Path, models: Sequence[str], name: str | None = None, dataset: str | None = None
) -> pl.DataFrame:
    """The measures of these models, with the columns of `COLUMNS`, by model and step; raises `DamagedFile`.

    Only those with this `name` (a measure's own), and on this `dataset`, if given.
    """
    tables, labels = [SCHEMA.empty_table()], []
    for model in models:
        for path in files(root, model):
            computation, on, step = _parts(path)
            if (name or computation).startswith(computation) and dataset in (None, on):
                try:
                    tables.append(_read(path))
                except FileNotFoundError:  # another job has dropped it
                    continue
                labels += [(model, step)] * tables[-1].num_rows
    rows = pl.DataFrame(pa.concat_tables(tables))
    of = pl.DataFrame(labels, schema={key: COLUMNS[key] for key in ("model", "step")}, orient="row")
    measures = pl.concat([of, rows], how="horizontal")
    if name is not None:
        measures = measures.filter(pl.col("name") == name)
    return measures.sort("model", "step", maintain_order=True)


def _read(path: Path) -> pa.Table:
    with parquet_files.opened(path, _AGAIN) as file:
        _check_facts(path, file)
        return file.read(SCHEMA.names)


def _check_facts(path: Path, file: pq.ParquetFile) -> None:
    """Raise `DamagedFile` unless the footer says what the path says."""
    try:
        facts = json.loads(file.metadata.metadata[META_KEY.encode()])
        root = path.parents[3]
        name = path.parts[-3].removeprefix("model=")
        renamed = facts["model"] != name and models.old_name(root, name) == facts["model"]
        own = path_of(
            root, name if renamed else facts["model"], facts["step"], facts["name"], facts["dataset"]
        )
    except (KeyError, TypeError, ValueError, RecursionError, BadName) as error:
        raise DamagedFile(path, f"its footer lacks the facts of measures ({error!r})", _AGAIN) from error
    if own != path:
        raise DamagedFile(path, f"it is {own.relative_to(root)}, so it is under another's name", _AGAIN)
    if not any(map(file.schema_arrow.equals, (SCHEMA, TOKEN_SCHEMA))):
        raise DamagedFile(path, "its columns are not those of measures", _AGAIN)


def measures_problem(path: Path, *, deep: bool) -> str | None:
    """Return the fault of a file of measures, or None; `deep` reads every byte."""
    return digests.fault(path, lambda: _read(path), deep=deep)


def drop_measures(root: Path, model: str, gone: set[tuple[str, int]], left: set[int]) -> None:
    """Remove what belongs to a model's slices (dataset, step) that are gone.

    These are the measures on the slice's dataset, all of a checkpoint that has no slice any more, and all of a model
    that has none: `left` are the steps that have one.
    """
    orphaned = {step for _, step in gone} - left
    for path in files(root, model):
        _, dataset, step = _parts(path)
        if not left or step in orphaned or (dataset, step) in gone:
            layout.remove(root, path)


def folder_of(root: Path, model: str) -> Path:
    """The folder of a model's measures."""
    return root / "measures" / f"model={check_name('model', model)}"
