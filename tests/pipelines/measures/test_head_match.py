"""Heads of two models matched: planted pairs, the exact nulls by brute force, and how often unrelated heads agree."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import trajstore
from tests.helpers.commands import run
from tests.helpers.tiny_models import random_dataset
from tests.pipelines.measures.test_head_kinds import PLANTED, plant_heads
from trajstore import Selection
from trajstore.analysis.head_match import DRAWS, layer_agreement, layers_needed, match_heads
from trajstore.arguments.spelling import spelled
from trajstore.cli.option_spelling import CommandLineSpelling
from trajstore.errors import BadOption, TrajstoreError
from trajstore.store.files.models import ModelFacts

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store


@pytest.fixture
def planted(store: Store) -> Store:
    store.add_dataset("d", random_dataset([4, 4]))
    for model in ("a", "bb"):
        plant_heads(store, model)
    store.publish_model(ModelFacts("ccc"))
    return store


def test_planted_heads_find_each_other_and_alike_ones_are_ambiguous(planted: Store) -> None:
    result = trajstore.head_match(planted, Selection(models=["a", "bb"]))
    frame = result.frame
    alike = {(0, 0), (0, 1)}
    for pair in frame.iter_rows(named=True):
        head, other = (pair["layer"], pair["head"]), (pair["other_layer"], pair["other_head"])
        assert other in (alike if head in alike else {head})
        assert pair["kind"] == pair["other_kind"] == PLANTED[head][0]
        assert pair["ambiguous"] == (head in alike)
        assert pair["ambiguous"] or pair["distance"] < pair["next_distance"]
        assert pair["next_distance"] < pair["random_distance"]
    layers = result.table("head_match_layers").row(0, named=True)
    # Layers of 3, 3 and 1 heads: 3! · 3! · 1! of 7! orders of heads keep all in their layers, 1 of 3! orders of layers.
    assert (layers["pairs"], layers["ambiguous"], layers["same_layer"], layers["layers_apart"]) == (
        7,
        2,
        7,
        0,
    )
    assert layers["same_layer_expected"] == pytest.approx(19 / 7)
    assert layers["layers_apart_expected"] == pytest.approx((3 * 3 * 2 + 3 * 2 + 3 * 2 * 2) / 49)
    assert layers["p_heads"] == pytest.approx(36 / 5040)
    assert layers["p_layers"] == layers["least_p"] == pytest.approx(1 / 6)
    assert layers["answer"] == "cannot tell"


def test_the_matching_is_the_best_one_of_all() -> None:
    courses, others = np.random.default_rng(0).uniform(0, 1, (2, 5, 3, 4))
    found = match_heads(courses, others[:4])
    distances = cdist(courses.reshape(5, -1), others[:4].reshape(4, -1)) / 3**0.5
    best = min(distances[list(rows), range(4)].sum() for rows in itertools.permutations(range(5), 4))
    assert found.distances.sum() == pytest.approx(best)
    for head, other, own, following, random in zip(*vars(found).values(), strict=True):
        rest = [*np.delete(distances[head], other), *np.delete(distances[:, other], head)]
        assert own == pytest.approx(distances[head, other])
        assert following == pytest.approx(min(rest))
        assert random == pytest.approx(np.mean(rest))
    assert np.isinf(match_heads(courses[:1], others[:1]).next_distances).all()


def test_both_nulls_are_those_of_all_permutations() -> None:
    rng = np.random.default_rng(1)
    for layers, others in rng.integers(0, 3, (6, 2, 6)):
        found = layer_agreement(layers, others, 0.05)
        apart = np.abs(layers - others).sum()
        every = np.array([np.abs(layers - order).sum() for order in itertools.permutations(others)])
        assert found.p_heads == pytest.approx((every <= apart).mean())
        assert (found.apart_expected, found.apart) == pytest.approx((every.mean() / 6, apart / 6))
        numbers = np.unique(others)
        renamed = [dict(zip(numbers, order, strict=True)) for order in itertools.permutations(numbers)]
        sums = np.array(
            [sum(abs(a - name[b]) for a, b in zip(layers, others, strict=True)) for name in renamed]
        )
        assert found.p_layers == pytest.approx((sums <= apart).mean())
        assert found.least_p == pytest.approx(max((every == every.min()).mean(), 1 / len(sums)))
    many = np.repeat(np.arange(12), 2)
    assert layer_agreement(many, many, 0.05).p == 1 / (DRAWS + 1)
    assert layer_agreement(many, many, 0.00005).answer == "cannot tell"


@pytest.mark.parametrize(("kinds", "low", "high"), [("free", 0, 0.05), ("orders", 0, 0.1), ("same", 0.9, 1)])
def test_unrelated_heads_agree_as_seldom_as_said_and_related_ones_often(
    kinds: str, low: float, high: float
) -> None:
    """4 layers of 4 heads: kinds free of layers; of layers, in an order of each model's own; of the same layers."""
    rng = np.random.default_rng(3)
    layer = np.repeat(np.arange(4), 4)
    agree, by_heads = [], []
    for seed in range(60):
        of_layer = rng.permutation(5)[:4]
        sides = []
        for _ in range(2):
            order = rng.permutation(4) if kinds == "orders" else np.arange(4)
            kind = rng.integers(0, 5, 16) if kinds == "free" else of_layer[order][layer]
            sides.append(0.8 * np.eye(5)[kind, None, :4] + rng.normal(0, 0.1, (16, 6, 4)))
        found = match_heads(*sides, seed)
        agreement = layer_agreement(layer[found.heads], layer[found.others], 0.05, seed)
        agree.append(agreement.answer == "agree")
        by_heads.append(agreement.p_heads <= 0.05)
    assert low <= np.mean(agree) <= high
    if kinds == "orders":
        assert np.mean(by_heads) > 0.15, "the null of heads alone is not enough where layers are of a kind"


def test_heads_that_cannot_be_told_apart_do_not_agree_by_the_order_that_they_stand_in() -> None:
    layer = np.repeat(np.arange(4), 4)
    same = np.zeros((16, 3, 2))
    found = [match_heads(same, same, seed) for seed in range(40)]
    p = [layer_agreement(layer, layer[each.others], 0.05).p for each in found]
    assert np.mean(np.array(p) <= 0.05) <= 0.1


def test_the_command_keeps_what_python_finds(planted: Store, tmp_path: Path) -> None:
    result = trajstore.head_match(planted, Selection(models=["a", "bb"], steps="2:"))
    words = ["heads", "match", "-m", "a,bb", "--steps", "2:", "-s", str(planted.path)]
    printed = json.loads(run(*words, "--json", "--plot", str(tmp_path / "pairs.html")).stdout)
    layers = result.table("layers").row(0, named=True)
    assert printed == {
        "finding": result.request.default_name,
        "pairs": result.frame.to_dicts(),
        "layers": layers,
    }
    assert "Matched heads of a and bb" in (tmp_path / "pairs.html").read_text(encoding="utf-8")
    printed = run(*words)
    assert "cannot tell" in printed.stdout
    assert "layer, head, kind: of a; other_layer, other_head, other_kind: of bb." in printed.stderr
    reason = "even the best agreement would have p = 0.17, above 0.05: 3 layers, and 4 at least are needed"
    assert result.reason == reason
    assert f"Cannot tell: {reason}." in printed.stderr
    with spelled(CommandLineSpelling()), pytest.raises(TrajstoreError, match="Choose two: --model A,B$"):
        trajstore.head_match(planted, Selection(models=["a"]))
    rows = planted.sql("SELECT * EXCLUDE finding FROM head_matches ORDER BY layer, head").pl()
    assert rows.equals(result.frame)
    assert planted.sql("SELECT * EXCLUDE finding FROM head_match_layers").pl().row(0, named=True) == layers
    with pytest.raises(TrajstoreError, match="between two models that are measured; chosen: a, bb, ccc"):
        trajstore.head_match(planted)
    with pytest.raises(BadOption, match="ratio"):
        trajstore.head_match(planted, ratio=0)


def test_layers_that_are_needed() -> None:
    assert [layers_needed(chance) for chance in (0.5, 0.2, 0.05, 0.01, 1e-6)] == [2, 3, 4, 5, None]
