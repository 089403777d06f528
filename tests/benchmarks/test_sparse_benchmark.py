"""The sparse PCA benchmark at its smallest: its table is whole. Nothing asserts a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import sparse
from benchmarks.harness import page


def test_the_table_has_a_row_for_each_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "apart", lambda work, *arguments: work(*arguments))
    text = sparse.section(sparse.QUICK, tmp_path, "python -m benchmarks.sparse --quick", pinned=True)
    assert text.startswith(f"## {page.SPARSE}\n")
    lines = [
        [cell.strip() for cell in each.strip("|").split("|")] for each in text.splitlines() if "|" in each
    ]
    header, _, *rows = lines
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["Matrix"] for row in found] == ["40 × 150", "60 × 200", "60 × 400"]
    assert float(found[0]["Objective"]) <= 1.001
    for row in found[:2]:
        # At this size the difference of two fits, which an iteration's time is taken from, may be noise.
        assert np.isfinite(float(row["trajstore is faster ×"]))
    assert found[2]["scikit-learn"] == "–"
    for row in found:
        assert int(row["Iterations"]) > 1
        assert row["Peak"].endswith(" MB")
        assert 0 < float(row["Zeros"].removesuffix("%")) < 100


def test_the_losses_are_those_of_models_that_learn_the_same_tokens(tmp_path: Path) -> None:
    file = tmp_path / "losses.npy"
    sparse.save_losses(file, 2, 500, 20)
    values = np.load(file)
    assert values.shape == (40, 500)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[[0, 20]].mean(axis=1), np.log(50304), rtol=0.05)
    assert np.corrcoef(values[19], values[39])[0, 1] > 0.9
