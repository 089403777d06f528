"""Kinds of heads, of planted heads: which cluster they are in, what it is called, and since when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import trajstore
from tests.helpers.commands import run
from tests.helpers.tiny_models import random_dataset
from trajstore import Measure, Selection
from trajstore.analysis.head_kinds import KINDS, cluster_heads
from trajstore.errors import BadOption, NothingChosen, TrajstoreError, UnknownStep
from trajstore.measures.definitions import SETS
from trajstore.store.files.models import ModelFacts

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store

STEPS = [0, 1, 2, 4, 8, 16, 32, 64]
PLANTED = {
    (0, 0): ("previous_token", 2),
    (0, 1): ("previous_token", 2),
    (0, 2): ("none", 0),
    (1, 0): ("prefix_matching", 8),
    (1, 1): ("duplicate_token", 1),
    (1, 2): ("bos_attractor", 0),
    (2, 0): ("prefix_matching", 32),
}
"""Kind and first step at which it is so, by layer and head; the two of prefix matching form at other times."""


def plant_heads(store: Store, model: str, kinds: tuple[str, ...] = KINDS, dataset: str = "d") -> None:
    rng = np.random.default_rng(len(model))
    store.publish_model(ModelFacts(model))
    for step in STEPS:
        for kind in kinds:
            rows = []
            for (layer, head), (own, since) in PLANTED.items():
                value = (0.9 if own == kind and step >= since else 0.05) + rng.normal(0, 0.02)
                of_contexts = [Measure(kind, 7.0, layer, head, context) for context in (0, 1)]
                rows += [Measure(kind, value, layer, head), *of_contexts]
            store.add_measures(kind, rows, model=model, step=step, dataset=dataset)


@pytest.fixture
def planted(store: Store) -> Store:
    store.add_dataset("d", random_dataset([4, 4]))
    store.add_dataset("e", random_dataset([4, 4]))
    for model in ("a", "bb"):
        plant_heads(store, model)
    return store


def test_planted_heads_have_their_kinds_and_those_that_took_one_course_a_cluster(planted: Store) -> None:
    frame = trajstore.head_kinds(planted).frame
    assert frame.height == 2 * len(PLANTED)
    for row in frame.iter_rows(named=True):
        kind, since = PLANTED[row["layer"], row["head"]]
        assert (row["kind"], row["nearest"], row["since"]) == (kind, kind, since)
        assert row["distance"] == pytest.approx(0.1 if kind == "none" else 0.0175**0.5, abs=0.04)
    clusters = {
        (row["layer"], row["head"]): row["cluster"] for row in frame.filter(model="a").iter_rows(named=True)
    }
    assert clusters == {
        (row["layer"], row["head"]): row["cluster"] for row in frame.filter(model="bb").iter_rows(named=True)
    }
    assert clusters[0, 0] == clusters[0, 1] == 1, "the largest"
    assert len(set(clusters.values())) == len(PLANTED) - 1
    assert trajstore.head_kinds(planted, apart=9).frame["cluster"].unique().to_list() == [1]
    assert tuple(KINDS) == SETS["heads"]


def test_the_last_step_is_the_last_of_those_that_all_models_have(planted: Store) -> None:
    rows = [Measure(kind, 0.5, layer, head) for kind in KINDS for layer, head in PLANTED]
    for kind in KINDS:
        own = [row for row in rows if row.name == kind]
        planted.add_measures(kind, own, model="a", step=128, dataset="d")
    assert trajstore.head_kinds(planted, Selection(steps="last")).steps == (64,)
    assert trajstore.head_kinds(planted, Selection(models=["a"], steps="last")).steps == (128,)


def test_no_two_heads_of_a_cluster_are_further_apart_than_allowed() -> None:
    courses = np.random.default_rng(0).uniform(0, 1, (40, 5, 2))
    found = cluster_heads(courses, KINDS[:2], 0.4)
    distances = np.sqrt(((courses[:, None] - courses[None]) ** 2).sum(3).mean(2))
    same = found.of_head[:, None] == found.of_head[None]
    assert distances[same].max() <= 0.4
    sizes = np.bincount(found.of_head)[1:]
    assert (sizes > 0).all()
    assert (np.diff(sizes) <= 0).all()
    assert 1 < len(sizes) < 40
    last = courses[:, -1]
    above = np.where(last.max(1) > 0.5, last.argmax(1), 2)
    assert found.nearest == tuple((*KINDS[:2], "none")[number] for number in above)
    assert cluster_heads(courses[:1], KINDS[:2], 0.4).of_head.tolist() == [1]


def test_the_command_keeps_what_python_finds(planted: Store, tmp_path: Path) -> None:
    found = trajstore.head_kinds(planted, Selection(models="a", steps="2:"))
    words = ["heads", "kinds", "-m", "a", "--steps", "2:", "-s", str(planted.path)]
    printed = json.loads(run(*words, "--json", "--plot", str(tmp_path / "kinds.html")).stdout)
    assert printed == {"finding": found.request.default_name, "heads": found.frame.to_dicts()}
    assert found.keep(replace="same") == printed["finding"]
    assert "1: previous_token, 2 heads" in (tmp_path / "kinds.html").read_text(encoding="utf-8")
    rows = planted.sql("SELECT * EXCLUDE finding FROM head_kinds ORDER BY cluster, layer, head").pl()
    assert rows.equals(found.frame)
    (kept,) = planted.findings()
    assert str(kept.subject).startswith("a on d; ")


def test_what_cannot_be_compared_is_refused_or_said(planted: Store) -> None:
    plant_heads(planted, "few", KINDS[:2])
    found = trajstore.head_kinds(planted, Selection(models=["a", "few"]))
    assert found.measures == KINDS[:2]
    assert found.left_out == {kind: ["few"] for kind in KINDS[2:]}
    plant_heads(planted, "few", KINDS[:1], "e")
    with pytest.raises(TrajstoreError, match="prefix_matching of few has several values of dataset: d, e"):
        trajstore.head_kinds(planted)
    assert trajstore.head_kinds(planted, Selection("d")).measures == KINDS[:2]
    with pytest.raises(BadOption, match="above 0"):
        trajstore.head_kinds(planted, apart=0)
    with pytest.raises(UnknownStep):
        trajstore.head_kinds(planted, Selection("d", steps="3"))
    planted.publish_model(ModelFacts("bare"))
    with pytest.raises(NothingChosen, match="trajstore measure heads"):
        trajstore.head_kinds(planted, Selection(models="bare"))
    alone = [Measure(KINDS[0], 0.5, 9, 9)]
    planted.add_measures(KINDS[0], alone, model="a", step=64, dataset="d", replace=True)
    with pytest.raises(TrajstoreError, match="a, layer 0, head 0 lacks a measure"):
        trajstore.head_kinds(planted, Selection(models="a"))
