"""The matrix against the long format, by SQL."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from conftest import PLANTED_LENGTHS, PLANTED_STEPS, ragged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trajstore.errors import MissingSlices, TrajstoreError, UnknownName, UnknownStep
from trajstore.store.export import save_matrix
from trajstore.store.matrix import LossMatrix
from trajstore.store.models import ModelFacts
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
    with pytest.raises(MissingSlices, match="1 slices .* b on e at step 4.*--missing nan"):
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
    with pytest.raises(UnknownStep, match="--steps 3 matches no checkpoint of a on d"):
        planted.matrix("d", steps=3)
    with pytest.raises(TrajstoreError, match="--contexts 9:12 lies beyond the last context, 5"):
        planted.matrix("d", contexts="9:12")
    with pytest.raises(TrajstoreError, match="Cannot read --contexts '5'"):
        planted.matrix("d", contexts="5")
    with pytest.raises(TrajstoreError, match="The group 'digits' has no token with a loss in d"):
        planted.matrix("d", group="digits")
    with pytest.raises(TrajstoreError, match="--align 'behind'"):
        planted.matrix("d", align="behind")  # type: ignore[arg-type]
    with pytest.raises(TrajstoreError, match="--missing 'zero'"):
        planted.matrix("d", missing="zero")  # type: ignore[arg-type]


def test_a_dataset_without_slices(planted: Store) -> None:
    planted.add_dataset("new", ragged((3, 4)))
    with pytest.raises(UnknownName, match="Score one: trajstore score MODEL --dataset new"):
        planted.matrix("new")


@pytest.mark.parametrize("name", ["m.npy", "m.parquet"])
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
    else:
        frame = pl.read_parquet(out)
        assert frame.columns == ["model", "step", "losses"]
        assert np.array_equal(np.array(frame["losses"].to_list(), dtype=np.float32), matrix.values)


def test_export_to_what_is_not_known(planted: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("out")
    matrix = planted.matrix("d")
    with pytest.raises(TrajstoreError, match=r"it must end in .npy or .parquet"):
        save_matrix(matrix, folder / "m.csv")
    with pytest.raises(TrajstoreError, match="There is no folder"):
        save_matrix(matrix, folder / "none" / "m.npy")
    assert list(folder.iterdir()) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(2, 12), min_size=1, max_size=6),
    steps=st.lists(st.integers(0, 10**12), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 2**16),
    data=st.data(),
)
def test_long_to_slices_to_matrix_to_long(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    steps: list[int],
    seed: int,
    data: st.DataObject,
) -> None:
    """Whatever goes in comes out under its own label: ragged datasets, slices in any order, some missing."""
    rng = np.random.default_rng(seed)
    with Store.create(tmp_path_factory.mktemp("s") / "store") as store:
        made = store.add_dataset("d", ragged(lengths, seed))
        expected = {}
        for model in ("x", "y"):
            for step in data.draw(st.permutations(steps)):
                values = rng.gamma(2, 1, made.n_losses).astype(np.float32)
                if model == "x" and step == steps[0] and len(steps) > 1:
                    continue
                store.append(model=model, dataset="d", step=step, losses=values)
                places = ((c, p) for c, n in enumerate(lengths) for p in range(1, n))
                ids = made.ids()
                for (c, p), value in zip(places, values.tolist(), strict=True):
                    expected[model, step, "d", c, p] = (int(ids[c][p]), value)
        assert long(store, store.matrix("d")) == expected
        assert by_sql(store) == expected
