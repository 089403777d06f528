"""The long format in, in any order and through any door, and the same out of the matrix, whatever part is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.conftest import NewStore, ragged
from trajstore.cli import app
from trajstore.errors import MissingSlices, NothingChosen
from trajstore.importers.ingest import ingest
from trajstore.store import checks
from trajstore.store.matrix.matrix import LossMatrix
from trajstore.store.store import Store

Cell = tuple[str, int, str, int, int]
"""Model, step, dataset, context, position."""

WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    "parquet": lambda frame, path: frame.write_parquet(path),
    "arrow": lambda frame, path: frame.write_ipc(path),
    "csv": lambda frame, path: frame.write_csv(path, float_precision=None),
    "jsonl": lambda frame, path: frame.write_ndjson(path),
}
GROUP = "SELECT dataset, context, position FROM tokens WHERE token % 3 = 0"


def cells(matrix: LossMatrix) -> dict[Cell, tuple[int, float | None]]:
    """Every cell under its full label, with its token; None where it is NaN."""
    return {
        (*row, *column[:3]): (column[3], None if np.isnan(value) else float(value))
        for row, values in zip(matrix.rows.iter_rows(), matrix.values, strict=True)
        for column, value in zip(matrix.columns.iter_rows(), values, strict=True)
    }


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    lengths=st.lists(st.integers(2, 9), min_size=1, max_size=5),
    steps=st.lists(st.integers(0, 10**9), min_size=1, max_size=4, unique=True),
    door=st.sampled_from(["append", *WRITERS]),
    seed=st.integers(0, 2**16),
    data=st.data(),
)
def test_long_to_slices_to_matrix_to_long(
    tmp_path_factory: pytest.TempPathFactory,
    new_store: NewStore,
    lengths: list[int],
    steps: list[int],
    door: str,
    seed: int,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("round")
    with new_store(folder / "store") as store:
        new = {"a": ragged(lengths, seed), "b": ragged(lengths[::-1], seed + 1)}
        for name, each in new.items():
            store.add_dataset(name, each)
        ids = {name: each.ids for name, each in new.items()}
        every = [(model, name, step) for model in ("x", "y") for name in ("a", "b") for step in steps]
        there = data.draw(st.lists(st.sampled_from(every), min_size=1, unique=True), label="slices")
        known: dict[Cell, tuple[int, float]] = {}
        for model, name, step in there:
            for context, tokens in enumerate(ids[name]):
                for position in range(1, len(tokens)):
                    loss = float(np.float32(rng.gamma(2, 1.5)))
                    known[model, step, name, context, position] = (int(tokens[position]), loss)
        for name in {name for _, name, _ in there}:
            _put(store, folder, name, door, known, rng)

        model, name = data.draw(st.sampled_from(sorted({key[:2] for key in there})), label="at least")
        models = [model, *data.draw(st.lists(st.just({"x": "y", "y": "x"}[model]), max_size=1), label="also")]
        names = [name, *data.draw(st.lists(st.just({"a": "b", "b": "a"}[name]), max_size=1), label="also on")]
        by_model = [{step for m, d, step in there if m == each and d in names} for each in models]
        if common := sorted(set.intersection(*by_model)):  # a step that a model lacks would be an error
            wanted = data.draw(st.lists(st.sampled_from(common), min_size=1, unique=True), label="steps")
            _same(store, ids, known, (models, names, sorted(wanted)), data.draw(st.booleans(), label="group"))
        assert checks.check(store, deep=True) == []


def _put(
    store: Store,
    folder: Path,
    name: str,
    door: str,
    known: dict[Cell, tuple[int, float]],
    rng: np.random.Generator,
) -> None:
    """Bring all losses on a dataset in, rows in no order."""
    rows = [(model, step, c, p, *value) for (model, step, d, c, p), value in known.items() if d == name]
    if door == "append":
        for model, step in sorted({row[:2] for row in rows}, reverse=True):
            flat = [loss for *_, loss in sorted(row for row in rows if row[:2] == (model, step))]
            store.append(model=model, dataset=name, step=step, losses=np.array(flat))
        return
    kinds = {"model": pl.String, "step": pl.Int64, "context": pl.Int64, "position": pl.Int64}
    schema = {**kinds, "token": pl.Int64, "loss": pl.Float64}
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    path = folder / f"{name}.{door}"
    WRITERS[door](pl.DataFrame(shuffled, schema=schema, orient="row"), path)
    report = ingest(store, [path], dataset=name)
    assert not report.failures
    assert report.written == len({row[:2] for row in rows})


def _same(
    store: Store,
    ids: dict[str, list[np.ndarray]],
    known: dict[Cell, tuple[int, float]],
    chosen: tuple[list[str], list[str], list[int]],
    grouped: bool,
) -> None:
    """A part of the store, as a matrix, is that part of what went in, each cell once and under its own label."""
    models, names, steps = chosen
    sites = [
        (name, context, position, int(tokens[position]))
        for name in names
        for context, tokens in enumerate(ids[name])
        for position in range(1, len(tokens))
        if not grouped or tokens[position] % 3 == 0
    ]
    if grouped:
        store.groups.add("thirds", GROUP)
    group = "thirds" if grouped else None
    if not sites:
        with pytest.raises(NothingChosen):
            store.matrix(names, models, group, steps, missing="nan")
        return
    expected = {
        (model, step, *site[:3]): (site[3], known.get((model, step, *site[:3]), (0, None))[1])
        for model in models
        for step in steps
        for site in sites
    }
    assert cells(store.matrix(names, models, group, steps, missing="nan")) == expected
    if all(loss is not None for _, loss in expected.values()):
        assert cells(store.matrix(names, models, group, steps)) == expected
    elif not grouped:
        with pytest.raises(MissingSlices):
            store.matrix(names, models, group, steps)


def test_a_matrix_of_another_model_is_not_taken_in_silence(planted: Store, tmp_path: Path) -> None:
    out, at = tmp_path / "a.npy", ["-d", "d", "-s", str(planted.path)]
    assert CliRunner().invoke(app, ["matrix", str(out), "-m", "a", "-m", "b", *at]).exit_code == 0
    done = CliRunner().invoke(app, ["ingest", str(out), "-m", "copy", *at])
    assert done.exit_code == 1
    assert "a matrix of one model can be taken under another name" in done.stderr
    assert "copy" not in planted.model_names()
    assert CliRunner().invoke(app, ["matrix", str(out), "-m", "a", *at]).exit_code == 0
    done = CliRunner().invoke(app, ["ingest", str(out), "-m", "copy", *at])
    assert done.exit_code == 0
    assert "copy" in done.stderr
    np.testing.assert_array_equal(planted.matrix("d", "copy").values, planted.matrix("d", "a").values)
