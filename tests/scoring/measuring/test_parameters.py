"""Measures that are there with other parameters, or of other parts or counts, are not taken for those asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import trajstore
from tests.measures.llc.test_llc import FEW
from trajstore.errors import (
    BadMeasures,
)
from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_learning_coefficient_of_a_part_is_not_taken_for_that_of_all(scored: Store, tmp_path: Path) -> None:
    values = {**FEW, "batch": 2}
    how = {"datasets": "d", "device": "cpu", "steps": "8"}
    with pytest.raises(BadMeasures, match="llc needs a value for"):
        trajstore.measure(scored, "run", "llc", **how)
    report = trajstore.measure(scored, "run", "llc", parameters=values, **how)
    assert (report.written, report.left_out) == (1, [])
    assert json.loads(scored.measures("run", "llc")["params"][0])["nbeta"] == 10.0
    with pytest.raises(BadMeasures, match="is there with layer = None, and not 1"):
        trajstore.measure(scored, "run", "llc", parameters={**values, "layer": 1}, **how)
    with pytest.raises(BadMeasures, match="is there with first = None, and not 2"):
        trajstore.measure(scored, "run", "llc", parameters={**values, "first": 2}, **how)
    values["folder"] = str(tmp_path)  # which no value depends on
    assert trajstore.measure(scored, "run", "llc", parameters=values, **how).skipped == 1


def test_another_value_of_a_parameter_is_not_taken_for_what_is_there(scored: Store) -> None:
    how = {"probe": "repeats", "device": "cpu", "steps": "8"}
    trajstore.measure(scored, "run", "prefix_matching", **how)
    with pytest.raises(BadMeasures, match="is there with offset = 1, and not 0.*replace=True"):
        trajstore.measure(scored, "run", "prefix_matching", parameters={"offset": 0}, **how)
    again = trajstore.measure(scored, "run", "prefix_matching", parameters={"offset": 1}, **how)
    assert again.skipped == 1
    trajstore.measure(
        scored, "run", "prefix_matching", parameters={"prefix_matching.offset": 0}, replace=True, **how
    )
    params = scored.measures("run", "prefix_matching")["params"].unique().to_list()
    assert [json.loads(text)["offset"] for text in params] == [0]


def test_a_divergence_from_other_counts_is_not_taken_for_what_is_there(scored: Store, tmp_path: Path) -> None:
    how = {"datasets": "d", "device": "cpu", "steps": "8"}
    table = tmp_path / "counts.npy"
    np.save(table, np.arange(1, 65))
    trajstore.measure(scored, "run", "kl_unigram", **how)
    with pytest.raises(BadMeasures, match="is there with unigram = contexts, and not sha256:"):
        trajstore.measure(scored, "run", "kl_unigram", parameters={"table": str(table)}, **how)
    trajstore.measure(scored, "run", "kl_unigram", parameters={"table": str(table)}, replace=True, **how)
    again = trajstore.measure(scored, "run", "kl_unigram", parameters={"table": str(table)}, **how)
    assert again.skipped == 1
    with pytest.raises(BadMeasures, match="is there with unigram = sha256:.*, and not contexts"):
        trajstore.measure(scored, "run", "kl_unigram", parameters={"table": None}, **how)
