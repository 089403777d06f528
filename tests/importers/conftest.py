"""A dataset of three short contexts, and tables of losses on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tests.conftest import ragged
from trajstore.cli import app
from trajstore.importers.ingest import Report
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable


Row = dict[str, Any]
LENGTHS = (5, 2, 4)
IDS = ((0, 1, 2, 3, 4), (5, 6), (7, 8, 9, 10))
"""The tokens that `ragged(LENGTHS)` draws; the fixture makes sure."""
COLUMNS = "model, step, context, position, token, loss"
SITES = [(c, p) for c, n in enumerate(LENGTHS) for p in range(1, n)]


@pytest.fixture
def _dataset(request: pytest.FixtureRequest) -> None:
    if "planted" not in request.fixturenames:
        store: Store = request.getfixturevalue("store")
        made = store.add_dataset("d", ragged(LENGTHS))
        assert [ids.tolist() for ids in made.ids()] == [list(ids) for ids in IDS]


def losses(seed: int) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).gamma(2, 1.5, len(SITES)).astype(np.float32)]


def rows(model: str = "m", step: int = 0, seed: int = 0) -> list[Row]:
    return [
        {"model": model, "step": step, "context": c, "position": p, "token": IDS[c][p], "loss": loss}
        for (c, p), loss in zip(SITES, losses(seed), strict=True)
    ]


def write(path: Path, table: list[Row] | pl.DataFrame) -> Path:
    frame = (
        table
        if isinstance(table, pl.DataFrame)
        else pl.DataFrame(table, infer_schema_length=None, strict=False)
    )
    writers = {
        ".csv": frame.write_csv,
        ".parquet": frame.write_parquet,
        ".jsonl": frame.write_ndjson,
        ".arrow": frame.write_ipc,
        ".arrows": frame.write_ipc_stream,
    }
    writers[path.suffix](path)
    return path


def there(store: Store) -> dict[tuple[str, int, int, int], float]:
    found = store.sql("SELECT model, step, context, position, loss FROM raw_losses").fetchall()
    return {row[:4]: row[4] for row in found}


def of(*parts: list[Row]) -> dict[tuple[str, int, int, int], float]:
    return {(r["model"], r["step"], r["context"], r["position"]): r["loss"] for part in parts for r in part}


def reasons(report: Report) -> dict[str, str]:
    return {failure.what: failure.reason for failure in report.failures}


def change(number: int, **values: Any) -> Callable[[list[Row]], None]:
    return lambda table: table[number].update(values)


def everywhere(**of_row: Callable[[Row], Any]) -> Callable[[list[Row]], None]:
    def apply(table: list[Row]) -> None:
        for row in table:
            row.update({name: make(row) for name, make in of_row.items()})

    return apply


LOSS = "a loss is finite, at least -0.001 and at most 131008 nats"
SHIFTED = "these tokens stand one position further: position here is that of the predicted token"
WHOLE = "a context is there whole or not at all"


def run(store: Store, *words: object) -> Any:
    result = CliRunner().invoke(app, ["ingest", *map(str, words), "-s", str(store.path)])
    assert result.stdout == ""
    return result
