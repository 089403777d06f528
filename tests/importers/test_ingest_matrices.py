"""Matrices of losses computed elsewhere come back bit-equal, and what does not fit is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tests.conftest import ragged
from tests.importers.conftest import IDS, SITES, losses, reasons, run, write
from trajstore.cli import app
from trajstore.importers.ingest import ingest
from trajstore.store.matrix.export import save_matrix
from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("_dataset")

# matrices


@pytest.mark.parametrize("name", ["m.npy", "m.npz", "m.parquet", "m.arrow"])
@pytest.mark.parametrize("pad_first", [False, True])
def test_our_own_matrices_come_back_bit_equal(
    planted: Store, tmp_path: Path, name: str, pad_first: bool
) -> None:
    planted.drop([("b", "d", 4)])
    before = planted.matrix(["d", "e"], missing="nan", pad_first=pad_first)
    save_matrix(before, tmp_path / name)
    planted.drop(planted.chosen_slices("a") + planted.chosen_slices("b"))
    for dataset, empty in (("d", 1), ("e", 0)):
        report = ingest(planted, tmp_path / name, dataset=dataset)
        assert (report.written, report.failures, report.tally.empty) == (16 - empty, [], empty)
        assert report.tally.padding == 16 * 6 * pad_first
    after = planted.matrix(["d", "e"], missing="nan", pad_first=pad_first)
    assert after.values.tobytes() == before.values.tobytes()
    assert after.rows.equals(before.rows)
    assert ingest(planted, tmp_path / name, dataset="e", model="a", step=[4, 8]).skipped == 2


def test_a_part_of_a_matrix(planted: Store, tmp_path: Path) -> None:
    save_matrix(planted.matrix("d", models="a", steps="8", contexts="1:3"), tmp_path / "m.npy")
    planted.drop([("a", "d", 8)])
    report = ingest(planted, tmp_path / "m.npy", dataset="d")
    assert "4 of 6 contexts are missing (0, 3–5)" in next(iter(reasons(report).values()))
    assert ingest(planted, tmp_path / "m.npy", dataset="d", partial=True).partial == 1
    planted.groups.add("odd", "SELECT dataset, context, position FROM tokens WHERE position % 2 = 1")
    save_matrix(planted.matrix("d", models="a", steps="4", group="odd"), tmp_path / "g.npy")
    planted.drop([("a", "d", 4)])
    report = ingest(planted, tmp_path / "g.npy", dataset="d", partial=True)
    assert "context 0 lacks losses at positions 2, 4, 6, 8, and 4 other contexts lack some" in next(
        iter(reasons(report).values())
    )


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "f2"])
def test_bare_arrays(store: Store, tmp_path: Path, dtype: str) -> None:
    values = np.array([losses(0), losses(1)]).astype(dtype)
    path = tmp_path / "m.npy"
    np.save(path, values)
    assert ingest(store, path, dataset="d", model="m", step=[3, 4]).written == 2
    assert store.matrix("d").values.tolist() == values.astype("f4").tolist()
    padded = np.insert(np.asfortranarray(values), [0, 4, 5], 0, axis=1)
    np.save(tmp_path / "p.npy", np.asfortranarray(padded))
    report = ingest(store, tmp_path / "p.npy", dataset="d", model="m", step=[3, 4])
    assert (report.skipped, report.tally.padding) == (2, 6)
    np.save(tmp_path / "one.npy", values[0])
    assert ingest(store, tmp_path / "one.npy", dataset="d", model="m", step=3).skipped == 1


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(store: Store, tmp_path: Path, save: Any) -> None:
    values = np.array([losses(0), losses(1)], dtype=np.float32)
    save(tmp_path / "m.npz", losses=values, steps=np.array([7, 9]))
    assert ingest(store, tmp_path / "m.npz", dataset="d", model="m").written == 2
    assert store.steps("m", "d") == [7, 9]
    assert store.matrix("d").values.tolist() == values.tolist()
    save(tmp_path / "f.npz", losses=np.asfortranarray(values), steps=np.array([7, 9]))
    assert ingest(store, tmp_path / "f.npz", dataset="d", model="m").skipped == 2
    assert ingest(store, tmp_path / "f.npz", dataset="d", model="m", step=9).tally.left_out == 1


def test_contexts_of_one_length_may_be_an_axis(store: Store, tmp_path: Path) -> None:
    store.add_dataset("box", ragged((4, 4)))
    values = np.random.default_rng(0).gamma(2, 1, (3, 2, 4)).astype(np.float32)
    values[:, :, 0] = 0
    np.save(tmp_path / "m.npy", values)
    assert ingest(store, tmp_path / "m.npy", dataset="box", model="m", step=[0, 1, 2]).written == 3
    assert store.matrix("box", pad_first=True).values.tolist() == values.reshape(3, 8).tolist()


@pytest.mark.parametrize(
    ("factor", "unit", "warns"), [(1.0, "nats", False), (1.4427, "nats", True), (1.4427, "bits", False)]
)
def test_a_guess_in_bits_taken_as_nats_is_noted(
    store: Store, tmp_path: Path, factor: float, unit: str, warns: bool
) -> None:
    """The losses at initialisation are near ln V nats, or log2 V bits."""
    data = store.dataset("d")
    guess = np.log(data.tokenizer.size) + 0.1 * np.random.default_rng(0).standard_normal(data.n_losses)
    np.save(tmp_path / "m.npy", np.array([factor * guess, factor * guess / 2], np.float32))
    report = ingest(store, tmp_path / "m.npy", dataset="d", model="m", step=[0, 500], unit=unit)
    assert (report.written, report.failures) == (2, [])
    assert report.tally.like_bits.startswith("m at step 0: their mean is") is warns


def test_matrices_that_do_not_fit(store: Store, tmp_path: Path) -> None:
    def reason(
        array: Any, labels: pl.DataFrame | None = None, step: Any = (3,), model: str | None = "m"
    ) -> str:
        np.save(tmp_path / "m.npy", array)
        beside = tmp_path / "m.columns.parquet"
        beside.unlink(missing_ok=True)
        if labels is not None:
            labels.write_parquet(beside)
        (found,) = reasons(ingest(store, tmp_path / "m.npy", dataset="d", model=model, step=step)).values()
        return found.replace(str(tmp_path), "")

    row = np.array([losses(0)], dtype=np.float32)
    sites = pl.DataFrame(SITES, schema=["context", "position"], orient="row")
    assert reason(row[:, :5]) == (
        "has 5 columns; d has 8 losses (11 with each position 0), and there is no m.columns.parquet beside it to say "
        "which these are."
    )
    assert reason(row, step=(3, 4)) == "has 1 row; given are 2 steps."
    assert reason(row, step=None).startswith(
        "has 1 row, does not say of which steps, and there is no m.rows.parquet"
    )
    assert reason(row, model=None) == "does not say which model its losses are of: model=M"
    assert reason(row.astype(int)) == "holds int64; losses are floating-point numbers."
    assert "Python objects in dtype" in reason(np.array([[None] * 8], dtype=object))
    assert reason(
        np.insert(row, 0, 3.5, axis=1)[:, :8], sites.with_columns(position=pl.col("position") - 1)
    ) == (
        "row 0 (from 0) of /m.npy: column 0 is of a position 0, which has no loss (0 or NaN), and holds 3.5"
    )
    low = row.copy()
    low[0, 5:7] = -1, np.inf
    assert reason(low) == (
        "row 0 (from 0) of /m.npy: 2 losses cannot be right; the first is -1.0 at context 2, position 1 (a loss is "
        "finite, at least -0.001 and at most 131008 nats)"
    )
    low[0, 5] = np.nan
    low[0, 6] = 1
    assert reason(low) == "context 2 lacks losses at positions 1; a context is there whole or not at all"
    assert reason(row, sites.head(7)) == "/m.columns.parquet has labels for 7 columns; the matrix has 8."
    assert (
        reason(row, sites.drop("context"))
        == "/m.columns.parquet has no column 'context'; its columns are: position."
    )
    assert reason(row, sites.with_columns(dataset=pl.lit("q"))) == (
        "/m.columns.parquet has no column of the dataset d; they are of: q."
    )
    assert reason(row, sites.with_columns(context=pl.col("context") + 1)) == (
        "/m.columns.parquet names context 1, position 2 for column 1 (from 0), which d does not have."
    )
    tokens = pl.Series("token", [IDS[c][p] for c, p in SITES])
    assert reason(row, sites.with_columns(tokens.scatter(2, 9))) == (
        "/m.columns.parquet names the token 9 at context 0, position 3; d has 3 there."
    )
    assert reason(row, pl.concat([sites.head(7), sites.head(1)])) == (
        "/m.columns.parquet names a context and position of d for two columns."
    )
    assert store.model_names() == []


def test_arrays_that_are_not_losses(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    for arrays, message in (
        ({"loss": [1.0]}, "has no array 'losses'; it needs losses and steps and has: loss."),
        ({"losses": [[1.0]]}, "has no array 'steps'; it needs losses and steps and has: losses."),
        (
            {"losses": [[1.0]], "steps": [0.5]},
            "has steps of float64 (1,); they are a list of whole numbers.",
        ),
        (
            {"losses": np.array([[None]]), "steps": [1]},
            "holds Python objects; losses are floating-point numbers.",
        ),
    ):
        np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
        assert reasons(ingest(store, path, dataset="d", model="m")) == {str(path): message}
    write(tmp_path / "w.parquet", pl.DataFrame({"losses": [[1.0] * 8]}))
    assert (
        "has no column 'step'"
        in reasons(ingest(store, tmp_path / "w.parquet", dataset="d", model="m"))[str(tmp_path / "w.parquet")]
    )
    write(
        tmp_path / "w.parquet", pl.DataFrame({"model": "m", "step": [0, 1], "losses": [[1.0] * 8, [1.0] * 7]})
    )
    report = ingest(store, tmp_path / "w.parquet", dataset="d")
    assert (report.written, list(reasons(report).values())) == (
        1,
        ["has 7 losses in row 1 (from 0), 8 in others."],
    )
    write(path.with_suffix(".parquet"), pl.DataFrame({"step": [None, 1], "losses": [[1.0] * 8] * 2}))
    (reason,) = reasons(ingest(store, path.with_suffix(".parquet"), dataset="d", model="m")).values()
    assert reason == "has a row whose step is None; a step is a whole number."


@pytest.mark.parametrize("name", ["m.npy", "m.npz", "m.parquet", "m.arrow"])
def test_an_export_of_one_model_is_taken_under_another_name(
    planted: Store, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    command = ["matrix", str(file), "-d", "d", "-s", str(planted.path), "-m"]
    assert CliRunner().invoke(app, [*command, "a"]).exit_code == 0
    result = run(planted, file, "-d", "d", "-m", "copy")
    assert result.exit_code == 0, result.stderr
    assert f"The losses of a in {file} are taken as those of copy." in result.stderr
    assert planted.steps("copy", "d") == planted.steps("a", "d") != []
    step = planted.steps("a", "d")[-1]
    np.testing.assert_array_equal(
        planted.slice_losses("copy", "d", step), planted.slice_losses("a", "d", step)
    )
    assert CliRunner().invoke(app, [*command, "a,b", "--steps", "8"]).exit_code == 0
    result = run(planted, file, "-d", "d", "-m", "other")
    assert result.exit_code == 1
    assert "has losses of a, b, and none of other" in result.stderr
    assert "other" not in planted.model_names()


def test_of_several_matrices_the_model_asked_for_is_taken(planted: Store, tmp_path: Path) -> None:
    for model in ("a", "b"):
        command = ["matrix", str(tmp_path / f"{model}.npz"), "-d", "d", "-s", str(planted.path), "-m", model]
        assert CliRunner().invoke(app, command).exit_code == 0
    result = run(planted, tmp_path / "a.npz", tmp_path / "b.npz", "-d", "d", "-m", "a")
    assert result.exit_code == 0
    assert "0 slices written" in result.stderr
    assert "of other datasets, models or steps" in result.stderr
