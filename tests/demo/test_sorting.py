"""The demo of sorting, in a tiny form: a few steps, and the words of courses made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trajstore.demo.sorting import run as sorting
from trajstore.demo.sorting.lists import FIRST_SORTED, LENGTH, MARK, draw_lists
from trajstore.demo.sorting.sentences import sentences
from trajstore.demo.sorting.train import MODEL, SortingRecipe
from trajstore.demo.sorting.vocabulary_share import heads_apart, stretches
from trajstore.progress import SILENT
from trajstore.store.store import Store


def test_lists_are_sorted() -> None:
    lists = draw_lists(np.random.default_rng(0), 50)
    for row in lists:
        assert sorted(set(row[:LENGTH])) == row[FIRST_SORTED:].tolist()
        assert row[LENGTH] == MARK


def test_shares_that_split_the_vocabulary() -> None:
    shares = np.array([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    assert (heads_apart(shares), stretches(shares)) == (1, 2)
    assert (heads_apart(np.full((2, 6), 0.5)), stretches(np.full((2, 6), 0.5))) == (0, 1)


def course(last_llc: float, apart: float, stretches: int, r_hat: float = 1.01) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "step": [0, 100, 200],
            "loss": [4.0, 0.05, 0.01],
            "llc": [1.0, 50.0, last_llc],
            "llc_stderr": [0.1, 1.0, 1.0],
            "r_hat": [1.0, 1.02, r_hat],
            "apart": [0.01, 0.3, apart],
            "stretches": [25, 12, stretches],
            "diagonal_0": [-1.0, 5.0, 9.0],
            "diagonal_1": [0.0, -5.0, -9.0],
        }
    )


def test_what_is_said_of_a_course() -> None:
    said = " ".join(sentences(course(30.0, 0.95, 4), SortingRecipe()))
    assert "below a fortieth of that from step 100 on" in said
    assert "R̂ is 1.02 at most" in said
    assert "on their sum: head 0." in said
    assert "so it does here" in said
    assert "falls from 50.0 at step 100 to 30.0" in said
    other = " ".join(sentences(course(49.0, 0.3, 20, r_hat=1.5), SortingRecipe()))
    assert "R̂ is above 1.1 at step 200" in other
    assert "here it does not by the last step" in other
    assert "does not fall from its highest" in other


def test_the_demo_of_sorting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {**sorting.LLC, "chains": 2, "draws": 6, "burn_in": 2, "batch": 4}
    monkeypatch.setattr(sorting, "LLC", few)
    recipe = SortingRecipe(checkpoints=(0, 20), measured=(20,), width=16, batch=16)
    done = sorting.run_sorting(tmp_path, SILENT, recipe, lists=16)
    first, last = done.by_step.rows(named=True)
    assert last["loss"] < first["loss"]
    assert first["llc"] is None
    assert np.isfinite(last["llc"])
    with Store(done.store) as store:
        rows = store.measures(MODEL, "vocabulary_share")
        assert set(rows["head"]) == {0, 1}
        assert rows["value"].is_between(0, 1).all()
        assert store.dataset("lists").tokenizer.name == "none"
    again = sorting.run_sorting(tmp_path, SILENT, recipe, lists=16)
    assert again.sentences == done.sentences
