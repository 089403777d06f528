"""The Gram matrix against products written out, and centring against H G H."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from trajstore.analysis.components.gram import (
    _ELEMENTS,
    _WIDTH,
    ArrayBlocks,
    RowCentring,
    Treatment,
    axes,
    centred_products,
    combined,
    of_centred,
    prepared,
    products,
    products_of,
)
from trajstore.errors import BadOption, TrajstoreError

MODELS = ["a"] * 4 + ["b"] * 5
RNG = np.random.default_rng(4)
X = RNG.gamma(2, 2, size=(9, 37)).astype(np.float32)


class InPieces:
    """Blocks of seven columns that share one memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values, values.shape

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        memory = np.empty((len(self.values), 7), dtype=np.float32)
        for first in range(0, self.shape[1], 7):
            part = self.values[:, first : first + 7]
            memory[:, : part.shape[1]] = part
            yield first, memory[:, : part.shape[1]]


def holed() -> np.ndarray:
    values = X.copy()
    values[0, 3] = values[5, 3] = values[2, 20] = np.nan
    values[:4, 11] = np.nan
    values[:, 30] = np.nan
    return values


def treated(values: np.ndarray, models: list[str] = MODELS, **options: object) -> np.ndarray:
    treatment = Treatment(**options)  # type: ignore[arg-type]
    rows = RowCentring.of(models, treatment.center)
    return np.hstack([part.values.copy() for part in prepared(InPieces(values), rows, treatment)])


def test_products_are_those_of_rows_less_the_reference() -> None:
    rows = RowCentring.of(MODELS, "all")
    less = X.astype(float) - X[rows.reference]
    for blocks in (InPieces(X), ArrayBlocks(X)):
        np.testing.assert_allclose(products(blocks, rows, Treatment()), less @ less.T, rtol=1e-12)
    new = np.array([1, 6])
    np.testing.assert_allclose(
        products_of(InPieces(X), rows, new, Treatment()), (less @ less.T)[new], rtol=1e-12
    )


def test_the_reference_changes_nothing_that_is_centred() -> None:
    wide = RNG.normal(size=(9, _WIDTH + 5)) + 100
    first, last = (
        products(ArrayBlocks(wide), RowCentring.of(MODELS, "all", at), Treatment()) for at in (0, 8)
    )
    parts = np.zeros(9, dtype=int)
    np.testing.assert_allclose(centred_products(first, parts), centred_products(last, parts), atol=1e-8)


def test_single_precision_is_off_by_less_than_its_rounding_and_double_is_not() -> None:
    wide = RNG.gamma(2, 2, size=(9, 3 * _WIDTH)).astype(np.float32)
    rows = RowCentring.of(MODELS, "all")
    less = wide.astype(float) - wide[rows.reference]
    expected, new = less @ less.T, np.array([1, 6])
    double, single = Treatment(), Treatment(precision="single")
    np.testing.assert_allclose(products(ArrayBlocks(wide), rows, double), expected, rtol=1e-13)
    for found, true in (
        (products(ArrayBlocks(wide), rows, single), expected),
        (products_of(ArrayBlocks(wide), rows, new, single), expected[new]),
    ):
        off = np.abs(found - true).max() / expected.max()
        assert 1e-12 < off < 1e-6


class InBands(ArrayBlocks):
    """Four rows at a time, in halves of the columns, that share one memory."""

    def bands(self) -> Iterator[tuple[int, int, np.ndarray]]:
        half = self.shape[1] // 2
        memory = np.empty((4, self.shape[1]), dtype=np.float32)
        for first, end in ((0, half), (half, self.shape[1])):
            for row in range(0, len(self.values), 4):
                part = self.values[row : row + 4, first:end]
                band = memory[: len(part), : end - first]
                band[:] = part
                yield row, first, band


def test_sums_of_rows_are_a_product_of_matrices() -> None:
    weights = RNG.normal(size=(3, 9))
    wide = RNG.gamma(2, 2, size=(9, _ELEMENTS // 9 + 50)).astype(np.float32)
    for values in (X, wide):
        expected = weights @ values.astype(float)
        for blocks in (ArrayBlocks(values), InBands(values)):
            np.testing.assert_allclose(combined(blocks, weights), expected, rtol=1e-11, atol=1e-11)
    with pytest.raises(TrajstoreError, match="missing now.*Run it again"):
        combined(ArrayBlocks(holed()), weights)


@pytest.mark.parametrize("center", ["all", "model"])
def test_centring_is_hgh(center: str) -> None:
    rows = RowCentring.of(MODELS, center)  # type: ignore[arg-type]
    same = np.array([[one == other or center == "all" for one in MODELS] for other in MODELS])
    h = np.eye(9) - same / same.sum(axis=1, keepdims=True)
    gram = products(ArrayBlocks(X), rows, Treatment())
    np.testing.assert_allclose(centred_products(gram, rows.parts), h @ gram @ h, atol=1e-9)
    np.testing.assert_allclose(of_centred(X.astype(float), rows.parts), h @ X, atol=1e-9)
    found = axes(gram, rows, 20)
    assert found.freedom == 9 - (1 if center == "all" else 2) == len(found.values)
    assert found.total == pytest.approx(np.square(h @ X.astype(float)).sum())
    np.testing.assert_allclose(found.values.sum(), found.total, rtol=1e-12)


def test_scaled_columns_are_scikit_learns() -> None:
    values = X.copy()
    values[:, 5] = 3.25  # does not vary
    ours = of_centred(treated(values, scale=True), np.zeros(9, dtype=int))
    np.testing.assert_allclose(ours, StandardScaler().fit_transform(values.astype(float)), atol=1e-12)
    by_model = of_centred(treated(values, center="model", scale=True), RowCentring.of(MODELS, "model").parts)
    about = of_centred(values.astype(float), RowCentring.of(MODELS, "model").parts)
    expected = np.divide(about, about.std(axis=0), out=np.zeros_like(about), where=values.std(axis=0) > 0)
    np.testing.assert_allclose(by_model, expected, atol=1e-12)


def test_scaled_by_model_a_column_that_only_models_differ_in_is_zero() -> None:
    """It does not vary about the means that are subtracted, and is divided by nothing."""
    models = ["a"] * 8 + ["b"] * 11
    levels = np.random.default_rng(0).gamma(2, 2, size=(2, 50)).astype(np.float32)
    values = np.repeat(levels, [8, 11], axis=0)
    values[3, 0] += 1
    found = treated(values, models, center="model", scale=True)
    deviations = of_centred(found, RowCentring.of(models, "model").parts)
    assert np.abs(deviations[:, 1:]).max() < 1e-12
    assert np.sqrt(np.mean(deviations[:, 0] ** 2)) == pytest.approx(1)


def test_what_is_missing_has_the_mean_that_is_subtracted() -> None:
    parts = np.zeros(9, dtype=int)
    values = holed().astype(float)
    expected = np.nan_to_num(values - np.nanmean(np.where(np.isnan(values).all(axis=0), 0, values), axis=0))
    np.testing.assert_allclose(of_centred(treated(holed(), missing="mean"), parts), expected, atol=1e-6)
    by_model = of_centred(
        treated(holed(), center="model", missing="mean"), RowCentring.of(MODELS, "model").parts
    )
    for own in (slice(0, 4), slice(4, 9)):
        there = values[own]
        lacking = np.isnan(there).all(axis=0)
        mean = np.nanmean(np.where(lacking, 0, there), axis=0)
        np.testing.assert_allclose(by_model[own], np.nan_to_num(there - mean) * ~lacking, atol=1e-6)


def test_columns_with_a_hole_are_left_out() -> None:
    left = [3, 11, 20, 30]
    found = treated(holed(), missing="drop-columns")
    np.testing.assert_array_equal(found[:, left], 0)
    np.testing.assert_array_equal(np.delete(found, left, 1), np.delete(treated(X), left, 1))
    kept = [
        part.kept
        for part in prepared(InPieces(holed()), RowCentring.of(MODELS, "all"), Treatment(missing="mean"))
    ]
    assert np.flatnonzero(~np.concatenate(kept)).tolist() == [30]


def test_what_cannot_be() -> None:
    with pytest.raises(TrajstoreError, match="2 of 9 checkpoints have none in its column 3.*missing='mean'"):
        treated(holed())
    with pytest.raises(BadOption, match="center='mode'"):
        Treatment(center="mode")  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="precision='half'.*double or single"):
        Treatment(precision="half")  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="missing='zero'.*error or drop-columns or mean"):
        Treatment(missing="zero")  # type: ignore[arg-type]
    same = np.repeat(RNG.normal(size=(2, 40)), [4, 5], axis=0)
    rows = RowCentring.of(MODELS, "model")
    with pytest.raises(TrajstoreError, match="Nothing varies"):
        axes(products(ArrayBlocks(same), rows, Treatment()), rows, 3)
