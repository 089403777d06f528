"""The matrix against the long format, by SQL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.conftest import PLANTED_LENGTHS, PLANTED_STEPS, ragged
from trajstore.errors import (
    BadSteps,
    BadTarget,
    MissingSlices,
    NothingChosen,
    NotScored,
    TrajstoreError,
    UnknownName,
    UnknownStep,
)
from trajstore.store.files.models import ModelFacts
from trajstore.store.matrix.export import save_matrix
from trajstore.store.matrix.matrix import LossMatrix
from trajstore.store.store import Store

LOSSES = sum(PLANTED_LENGTHS) - len(PLANTED_LENGTHS)


def long(store: Store, matrix: LossMatrix) -> dict[tuple[str, int, str, int, int], tuple[int, float]]:
    """Every cell under its full label, from a matrix."""
    return {
        (*row, *column[:3]): (column[3], float(matrix.values[i, j]))
        for i, row in enumerate(matrix.rows.iter_rows())
        for j, column in enumerate(matrix.columns.iter_rows())
    }


def by_sql(store: Store, where: str = "true") -> dict[tuple[str, int, str, int, int], tuple[int, float]]:
    """The same from the view losses."""
    rows = store.sql(f"SELECT model, step, dataset, context, position, token, loss FROM losses WHERE {where}")
    return {row[:5]: (row[5], row[6]) for row in rows.fetchall()}


def test_all_of_it(planted: Store) -> None:
    matrix = planted.matrix(["d", "e"])
    assert matrix.values.shape == (2 * len(PLANTED_STEPS), 2 * LOSSES)
    assert matrix.values.dtype == np.float32
    assert long(planted, matrix) == by_sql(planted)


def test_selections(planted: Store) -> None:
    matrix = planted.matrix("e", models="b", steps="log,last", contexts="1:3", threads=1)
    assert long(planted, matrix) == by_sql(planted, "model = 'b' AND dataset = 'e' AND context IN (1, 2)")


def test_rows_are_stacked_by_model_in_order_of_size(planted: Store) -> None:
    planted.publish_model(ModelFacts("a", n_params=20))
    planted.publish_model(ModelFacts("b", n_params=10))
    rows = planted.matrix("d", steps="0,64").rows
    assert rows.rows() == [("b", 0), ("b", 64), ("a", 0), ("a", 64)]


def test_padding_by_hand(planted: Store) -> None:
    matrix = planted.matrix("d", models="a", steps="last", contexts="0:2", pad_first=True)
    assert matrix.columns["position"].to_list() == [*range(9), 0, 1]
    assert np.flatnonzero(matrix.values[0] == 0).tolist() == [0, 9]
    bare = planted.matrix("d", models="a", steps="last", contexts="0:2")
    assert matrix.values[0, matrix.values[0] != 0].tolist() == bare.values[0].tolist()


def test_a_missing_slice_is_an_error_or_nan_and_never_zero(planted: Store) -> None:
    (planted.path / "losses/model=b/dataset=e/step=4/slice.parquet").unlink()
    with pytest.raises(MissingSlices, match="Not in the store: b on e at step 4.*matrix: nan"):
        planted.matrix(["d", "e"])
    matrix = planted.matrix(["d", "e"], missing="nan")
    assert np.isnan(matrix.values).sum() == LOSSES
    hole = matrix.values[matrix.rows["model"].to_list().index("b") + 3, LOSSES:]
    assert np.isnan(hole).all()


def test_what_does_not_exist(planted: Store) -> None:
    with pytest.raises(UnknownName, match="no dataset 'dd'"):
        planted.matrix("dd")
    with pytest.raises(UnknownName, match="no model 'c'"):
        planted.matrix("d", models="c")
    with pytest.raises(
        UnknownStep,
        match="steps=3 matches no checkpoint of a, b on d.* 0, 1, 2, 4, 8, 16.$",
    ):
        planted.matrix("d", steps=3)
    with pytest.raises(TrajstoreError, match="contexts='9:12' lies beyond the last context, 5"):
        planted.matrix("d", contexts="9:12")
    with pytest.raises(TrajstoreError, match="Cannot read contexts='5'"):
        planted.matrix("d", contexts="5")
    with pytest.raises(TrajstoreError, match="The group 'digits' has no token with a loss in d"):
        planted.matrix("d", group="digits")
    with pytest.raises(TrajstoreError, match="align='behind'"):
        planted.matrix("d", align="behind")  # type: ignore[arg-type]
    with pytest.raises(TrajstoreError, match="missing='zero'"):
        planted.matrix("d", missing="zero")  # type: ignore[arg-type]


def test_a_dataset_without_slices(planted: Store) -> None:
    planted.add_dataset("new", ragged((3, 4)))
    with pytest.raises(NotScored, match="of a, b on new; .* Score one: trajstore score MODEL --dataset new"):
        planted.matrix("new")


def losses_of(store: Store, model: str, dataset: str, *steps: int) -> None:
    """Losses of a further model."""
    for step in steps:
        store.append(model=model, dataset=dataset, step=step, losses=np.ones(store.dataset(dataset).n_losses))


def test_a_model_named_in_full_never_vanishes(planted: Store) -> None:
    losses_of(planted, "c", "e", 0, 5)
    message = r"no losses of c on d; there are of: a on d, e, c on e\. Score one"
    for models in (["a", "c"], ["?", "c"]):
        with pytest.raises(NotScored, match=message if "a" in models else "no losses of c on d; .*c on e"):
            planted.matrix("d", models)
    for models in (None, ["a", "[bc]"]):
        assert set(planted.matrix("d", models).rows["model"]) == {"a", "b"}
    assert planted.matrix(["d", "e"], "c", missing="nan").rows.rows() == [("c", 0), ("c", 5)]


def test_a_dataset_twice_is_once(planted: Store) -> None:
    assert planted.matrix(["d", "d", "e", "d"]).columns.equals(planted.matrix(["d", "e"]).columns)


def test_steps_that_only_some_models_have(planted: Store) -> None:
    losses_of(planted, "c", "d", 1, 5)
    assert planted.matrix("d", steps="5").rows.rows() == [("c", 5)]
    assert planted.matrix("d", ["[ac]"], steps=[1, 5]).rows.rows() == [("a", 1), ("c", 1), ("c", 5)]
    assert planted.matrix("d", steps="5,64", missing="nan").rows.rows() == [("a", 64), ("b", 64), ("c", 5)]
    with pytest.raises(UnknownStep, match="steps=5 matches no checkpoint of a on d.*Choose models with -m"):
        planted.matrix("d", ["a", "c"], steps=5)
    with pytest.raises(UnknownStep, match="of a on d.* 1, 2, 4, 8, 16, 32.$"):
        planted.matrix("d", "a", steps=5)


def test_steps_as_numbers_of_any_kind(planted: Store) -> None:
    expected = [("a", 2), ("a", 64)]
    for steps in ([np.int64(2), 64], np.array([64, 2]), (2, 64), np.array([2, 64, 2], dtype=np.int16)):
        assert planted.matrix("d", "a", steps=steps).rows.rows() == expected  # type: ignore[arg-type]
    assert planted.matrix("d", "a", steps=np.int32(2)).rows.rows() == expected[:1]  # type: ignore[arg-type]
    for none in ([], np.array([]), None, True, [1.0]):
        with pytest.raises(BadSteps, match="Cannot read steps="):
            planted.matrix("d", steps=none)  # type: ignore[arg-type]


def test_padding_does_not_go_with_the_tokens_after(planted: Store) -> None:
    with pytest.raises(TrajstoreError, match="pad_first=True and align='after' do not go together"):
        planted.matrix("d", align="after", pad_first=True)


@pytest.mark.parametrize("contexts", ["6:", "20:", "20:30"])
def test_contexts_beyond_the_last(planted: Store, contexts: str) -> None:
    with pytest.raises(NothingChosen, match=f"contexts={contexts!r} lies beyond the last context, 5"):
        planted.matrix("d", contexts=contexts)
    for unreadable in ("3:3", "5:3", "-2:", "7", "a:"):
        with pytest.raises(TrajstoreError, match="Cannot read contexts="):
            planted.matrix("d", contexts=unreadable)


@pytest.mark.parametrize("name", ["m.npy", "m.npz", "m.parquet", "m.arrow"])
def test_export_with_labels(planted: Store, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    matrix = planted.matrix("d", contexts="0:3")
    out = tmp_path_factory.mktemp("out") / name
    files = save_matrix(matrix, out)
    assert {file.name for file in files} == {name, "m.rows.parquet", "m.columns.parquet"}
    assert sorted(out.parent.iterdir()) == sorted(files)
    assert pl.read_parquet(out.with_suffix(".rows.parquet")).equals(matrix.rows)
    assert pl.read_parquet(out.with_suffix(".columns.parquet")).equals(matrix.columns)
    if name.endswith("npy"):
        assert np.array_equal(np.load(out), matrix.values)
    elif name.endswith("npz"):
        with np.load(out, allow_pickle=False) as arrays:
            assert np.array_equal(arrays["losses"], matrix.values)
            assert list(zip(arrays["models"], arrays["steps"], strict=True)) == matrix.rows.rows()
    else:
        frame = pl.read_parquet(out) if name.endswith("parquet") else pl.read_ipc(out)
        assert frame.columns == ["model", "step", "losses"]
        assert np.array_equal(np.array(frame["losses"].to_list(), dtype=np.float32), matrix.values)


def test_export_to_what_is_not_known(planted: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("out")
    matrix = planted.matrix("d")
    with pytest.raises(TrajstoreError, match=r"it must end in .npy or .npz or .parquet or .arrow"):
        save_matrix(matrix, folder / "m.csv")
    with pytest.raises(TrajstoreError, match="There is no folder"):
        save_matrix(matrix, folder / "none" / "m.npy")
    assert list(folder.iterdir()) == []


def test_export_by_a_suffix_in_capitals(planted: Store, tmp_path: Path) -> None:
    matrix = planted.matrix("d")
    save_matrix(matrix, tmp_path / "m.NPY")
    assert np.array_equal(np.load(tmp_path / "m.NPY"), matrix.values)
    assert (tmp_path / "m.rows.parquet").exists()
    save_matrix(matrix, tmp_path / "n.Parquet")
    assert pl.read_parquet(tmp_path / "n.Parquet").height == matrix.rows.height


@pytest.mark.parametrize(("first", "second"), [("m.npy", "m.arrow"), ("m.parquet", "m.npz")])
def test_labels_belong_to_one_file_of_values(planted: Store, tmp_path: Path, first: str, second: str) -> None:
    save_matrix(planted.matrix("d"), tmp_path / first)
    before = contents(tmp_path)
    with pytest.raises(BadTarget, match=rf"{first} is there, and {second} .* Choose another name"):
        save_matrix(planted.matrix("e"), tmp_path / second)
    for labels in ("m.rows.parquet", "x.columns.parquet"):
        with pytest.raises(BadTarget, match="a name for a matrix's labels"):
            save_matrix(planted.matrix("e"), tmp_path / labels)
    assert contents(tmp_path) == before
    save_matrix(planted.matrix("e"), tmp_path / first)
    save_matrix(planted.matrix("e"), tmp_path / f"other.{second}")
    assert contents(tmp_path) != before


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_old_values_never_stand_under_new_labels(
    planted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    save_matrix(planted.matrix("d"), out / "m.npy")
    before = contents(out)
    calls = []

    def full(*_: object) -> None:
        calls.append(_)
        if len(calls) == fails:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(BadTarget, match=r"Cannot write .*m\.npy: No space left on device"):
            save_matrix(planted.matrix("e"), out / "m.npy")
    assert contents(out) == before
    calls.clear()
    replace = Path.replace

    def renamed(self: Path, target: Path) -> Path:
        full(target)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", renamed)
        with pytest.raises(BadTarget, match="No space left"):
            save_matrix(planted.matrix("e"), out / "m.npy")
    assert sorted(contents(out)) == ["m.columns.parquet", "m.rows.parquet"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
