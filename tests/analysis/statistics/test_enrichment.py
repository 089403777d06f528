"""Enrichment of groups among marked tokens, against the hypergeometric distribution, simulation and permutation."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.statistics.enrichment import SCHEMA, design_effect, enrichment, holm


def table(tokens: int, of_group: int, marked: int, both: int) -> tuple[np.ndarray, np.ndarray]:
    """(group, marked) masks of independent tokens with these counts."""
    group = np.arange(tokens) < of_group
    chosen = np.zeros(tokens, dtype=bool)
    chosen[:both] = True
    chosen[of_group : of_group + marked - both] = True
    return group, chosen


@pytest.mark.parametrize("counts", [(2000, 300, 40, 15), (2000, 20, 100, 0), (500, 400, 60, 30)])
def test_of_independent_tokens_p_is_hypergeometric(counts: tuple[int, int, int, int]) -> None:
    tokens, of_group, marked, both = counts
    group, chosen = table(*counts)
    found = enrichment([("g", group)], chosen, np.arange(tokens), Interval(resamples=200)).row(0, named=True)
    law = stats.hypergeom(tokens, marked, of_group)
    assert found["p"] == pytest.approx(min(1, 2 * min(law.cdf(both), law.sf(both - 1))), rel=1e-9)
    assert found["design_effect"] == pytest.approx(1, abs=1e-9)
    assert (found["tokens"], found["marked"]) == (of_group, both)
    assert found["share"] == both / of_group
    assert found["rest"] == (marked - both) / (tokens - of_group)
    assert found["ratio"] == pytest.approx(found["share"] / found["rest"])


def test_p_against_a_permutation_of_contexts() -> None:
    """Marks that come in whole contexts: contexts' marks dealt anew to contexts' groups say how often it is chance."""
    rng = np.random.default_rng(3)
    contexts, length = 120, 20
    of_group = np.where(rng.random(contexts) < 0.4, 18, 1)
    of_marks = np.where(rng.random(contexts) < 0.15 + 0.01 * of_group, rng.integers(3, 9, contexts), 0)
    group = np.concatenate([np.arange(length) < n for n in of_group])
    marked = np.concatenate([rng.permutation(length) < n for n in of_marks])
    units = np.repeat(np.arange(contexts), length)
    found = enrichment([("g", group)], marked, units, Interval(kind="none")).row(0, named=True)
    in_both = (group & marked).reshape(contexts, length).sum()
    by_context = marked.reshape(contexts, length)
    dealt = [
        (group.reshape(contexts, length) & by_context[rng.permutation(contexts)]).sum() for _ in range(4000)
    ]
    chance = 2 * min(np.mean(np.array(dealt) >= in_both), np.mean(np.array(dealt) <= in_both))
    assert 2 < found["design_effect"] < 8
    assert abs(stats.norm.isf(found["p"] / 2) - stats.norm.isf(chance / 2)) < 0.5, (found["p"], chance)


def test_false_alarms_and_coverage_of_clustered_marks() -> None:
    """400 simulated stores in which the group is not enriched: p below 0.05 and intervals that miss 1, both rare."""
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(100), 30)
    alarms = missed = 0
    for _ in range(400):
        rate = rng.beta(0.5, 4.5, 100)  # strongly clustered
        marked = rng.random(3000) < np.repeat(rate, 30)
        group = rng.random(3000) < np.repeat(rng.beta(1, 4, 100), 30)
        row = enrichment([("g", group)], marked, units, Interval(resamples=200)).row(0, named=True)
        alarms += row["p"] < 0.05
        missed += not row["low"] <= 1 <= row["high"]
    assert alarms / 400 < 0.08
    assert missed / 400 < 0.09


def test_few_contexts_have_intervals_by_student_s_t() -> None:
    rng = np.random.default_rng(1)
    units = np.repeat(np.arange(12), 50)
    marked = rng.random(600) < 0.2
    group = rng.random(600) < 0.3
    row = enrichment([("g", group)], marked, units).row(0, named=True)
    assert 0 < row["low"] < row["ratio"] < row["high"]
    assert row["low"] * row["high"] == pytest.approx(row["ratio"] ** 2), "even on a log scale"


def test_few_contexts_against_the_jackknife() -> None:
    """Contexts differ much in how many of their tokens are marked, in the group and out of it alike."""
    rng = np.random.default_rng(2)
    units = np.repeat(np.arange(30), 200)
    marked = rng.random(6000) < np.repeat(rng.uniform(0.05, 0.5, 30), 200)
    group = rng.random(6000) < 0.3
    row = enrichment([("g", group)], marked, units).row(0, named=True)

    def log_ratio(kept: np.ndarray) -> float:
        return float(np.log(marked[group & kept].mean() / marked[~group & kept].mean()))

    without = np.array([log_ratio(units != unit) for unit in range(30)])
    error = np.sqrt(29 / 30 * ((without - without.mean()) ** 2).sum())
    half = stats.t.ppf(0.975, 29) * error
    assert np.log(row["high"] / row["low"]) / 2 == pytest.approx(half, rel=0.05)


def test_marks_that_are_more_even_than_chance_count_as_independent() -> None:
    """Each context has one marked token of the group and one of the rest: no surer than independent ones."""
    marks, tokens = np.ones(40), np.full(40, 5.0)
    assert design_effect(tokens, marks, tokens, marks) == 1


def test_what_cannot_be_said_is_null() -> None:
    group, chosen = table(100, 10, 20, 0)
    all_or_none = [("all", np.ones(100, dtype=bool)), ("none", np.zeros(100, dtype=bool))]
    found = enrichment([*all_or_none, ("g", group)], chosen, np.arange(100) // 2)
    assert found["group"].to_list() == ["g"]
    assert found.select("ratio", "low", "high").row(0) == (0.0, None, None)
    single = enrichment([("g", group)], chosen, np.zeros(100, dtype=int))
    assert single.select("p", "p_adjusted", "low").row(0) == (None, None, None)
    assert enrichment([], chosen, np.arange(100)).schema == pl.Schema(SCHEMA)


def test_the_design_effect_of_whole_contexts_is_their_length() -> None:
    """Contexts that are marked whole, and in the group whole, are as many tokens as one."""
    marked = np.array([1.0, 0, 0, 0] * 50)
    group = np.array([1.0] * 100 + [0.0] * 100)
    found = design_effect(10 * group, 10 * group * marked, 10 * (1 - group), 10 * (1 - group) * marked)
    assert found == pytest.approx(10 * (200 / 199) / (2000 / 1999))


def test_holm_by_hand() -> None:
    adjusted = holm(pl.Series([0.01, None, 0.04, 0.03, 0.005], dtype=pl.Float64))
    assert adjusted[[4, 0, 3, 2]] == pytest.approx([0.02, 0.03, 0.06, 0.06])
    assert np.isnan(adjusted[1])
    assert holm(pl.Series([0.6, 0.7])).tolist() == [1, 1]
