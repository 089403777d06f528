"""The demo's words on measures, from frames made by hand: each says what is seen, and what is not."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from trajstore.demo import measure_sentences as words
from trajstore.demo.sentences import Stretch, Training

TRAINING = Training([0, 100, 200, 400, 600, 800, 1000], 700)


def kinds(*rows: tuple[str, int, int, str, int]) -> pl.DataFrame:
    names = ["model", "layer", "head", "nearest", "since"]
    return pl.DataFrame(rows, schema=names, orient="row")


def events(*rows: tuple[str, str, int, int, float]) -> pl.DataFrame:
    names = ["series", "kind", "low", "high", "value"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(step=pl.col("high"))


def curve(values: list[float], **columns: Any) -> pl.DataFrame:
    frame = pl.DataFrame({"step": TRAINING.steps[: len(values)], "value": values})
    return frame.with_columns(pl.lit(value).alias(name) for name, value in {"model": "m", **columns}.items())


@pytest.mark.parametrize(
    ("low", "high", "order"),
    [(0, 100, "before"), (0, 200, ""), (200, 400, ""), (400, 600, "after"), (500, 800, "after")],
)
def test_order_is_told_where_stretches_share_nothing(low: int, high: int, order: str) -> None:
    other = Stretch(100, 400) if order else Stretch(150, 300)
    assert Stretch(low, high).order(other) == order


def test_a_stretch_within_a_checkpoint_of_the_mix_is_a_change_of_data() -> None:
    assert "change of data" not in TRAINING.text(Stretch(200, 400))
    assert "change of data" in TRAINING.text(Stretch(400, 600))
    assert "change of data" in TRAINING.text(Stretch(800, 1000))
    assert TRAINING.since(400) == Stretch(200, 400)


def test_heads_that_formed_and_none() -> None:
    said = words.heads_formed(
        kinds(
            ("a", 0, 0, "previous_token", 400), ("a", 1, 0, "prefix_matching", 200), ("b", 0, 0, "none", 0)
        ),
        TRAINING,
    )
    assert (
        "a: 1.0 prefix_matching between steps 100 and 200, 0.0 previous_token between steps 200 and 400"
        in said
    )
    assert said.endswith("b: not seen in any of 1.")


def test_sinks_and_induction_are_put_in_order_or_cannot_be() -> None:
    scores = pl.DataFrame({"model": ["b"], "layer": [1], "head": [0], "step": [400], "value": [0.2]})
    rows = kinds(
        ("a", 0, 0, "bos_attractor", 600),
        ("a", 1, 0, "prefix_matching", 200),
        ("b", 1, 0, "prefix_matching", 200),
    )
    said = words.sinks_and_induction(rows, scores, TRAINING)
    assert "In a induction forms before sinks (between steps 100 and 200; between steps 400 and 600)" in said
    assert "cannot tell in b, where not both are seen" in said
    assert "at most 0.20, 1.0 of b at step 400" in said
    together = words.sinks_and_induction(rows[:2].with_columns(since=pl.lit(200)), scores, TRAINING)
    assert "when sinks do, as far as steps tell" in together


def test_the_head_that_is_missed_most_with_its_interval() -> None:
    names = ["model", "layer", "head", "value", "stderr"]
    rows = [("a", 0, 0, 2.0, 0.1), ("a", 0, 1, 0.5, 0.1), ("b", 0, 0, 0.1, 0.1)]
    said = words.missed_heads(
        pl.DataFrame(rows, schema=names, orient="row"), kinds(("a", 0, 0, "previous_token", 0))
    )
    assert "0.0 of a (previous_token): 2.00 (1.80 to 2.20)" in said
    assert said.endswith("no head of b is missed.")


def test_induction_by_position_embedding() -> None:
    models = pl.DataFrame(
        {
            "model": ["a", "b", "c", "d"],
            "n_layer": [2, 2, 1, 2],
            "position_embedding": ["rotary"] * 3 + ["learned"],
        }
    )
    early, late = Stretch(100, 200), Stretch(400, 600)
    said = words.embeddings_and_induction(models, {"a": early, "b": early, "d": late})
    assert "It comes later with learned ones (one seed) than with rotary ones (2 seeds); so few" in said
    assert "c" not in said.split(":")[1:][0].split()
    assert "not at a time apart" in words.embeddings_and_induction(models, {"a": early, "b": late, "d": late})
    without = words.embeddings_and_induction(models, {"a": early, "b": early})
    assert "learned: not seen in d" in without
    assert without.endswith("cannot tell.")


def test_the_phases_of_unigram_first_that_are_seen_and_those_that_are_not() -> None:
    rows = [
        ("m", "d", 1, "KL low", "seen", 100, 400),
        ("m", "d", 2, "KL rises", "not seen", None, None),
        ("m", "d", 3, "energy rises", "cannot tell", None, None),
        ("n", "d", 3, "energy rises", "seen", 600, 800),
        ("o", "d", 3, "energy rises", "seen", 600, 800),
    ]
    names = ["model", "dataset", "phase", "course", "answer", "low", "high"]
    said = words.unigram_first(pl.DataFrame(rows, schema=names, orient="row"))
    assert said == (
        "Unigram first on d (phases: 1 KL low; 2 KL rises; 3 energy rises)? "
        "m: 1 seen, ends between steps 100 and 400; 2 not seen; 3 cannot tell. "
        "n, o: 3 seen, begins between steps 600 and 800."
    )


def test_rankme_and_the_fit_to_unigrams() -> None:
    values = curve([40.0, 20.0, 30.0], layer=2, dataset="d")
    moves = events(
        ("rankme, layer 2", "fastest_fall", 0, 100, 20), ("rankme, layer 1", "fastest_rise", 0, 100, 20)
    )
    said = words.collapse(moves, values, TRAINING)
    assert said.endswith("lowest 20.0 at step 100, 30.0 at step 200; falls fastest between steps 0 and 100.")
    assert words.collapse(moves[:0], values, TRAINING).endswith("no fall or rise is seen.")
    fits = pl.concat([curve([3.0, 0.1], dataset="d"), curve([0.1, 0.2], dataset="d", model="n")])
    assert words.unigram_fit(fits).endswith("m 3.00 → 0.10, n 0.10 → 0.20, not nearer.")


def test_the_end_of_the_coefficients_plateau() -> None:
    values, r_hat = curve([1.0, 1.0, 1.0, 90.0], dataset="d"), curve([1.0, 1.0, 1.0, 1.2])
    moves = [("llc", "fastest_rise", 200, 400, 90), ("half", "fastest_fall", 100, 400, 1)]
    said = words.plateau(events(*moves), values, r_hat, "half", TRAINING)
    assert (
        "1 → 90 between steps 200 and 400, its fastest rise, where half is learned, as far as steps tell"
        in said
    )
    assert "chains do not agree at steps 400 (R̂ at most 1.20)" in said
    moves[1] = ("half", "fastest_fall", 400, 600, 1)
    assert "before half is learned" in words.plateau(events(*moves), values, r_hat[:3], "half", TRAINING)
    assert words.plateau(events(*moves[1:]), values, r_hat, "half", TRAINING).endswith(
        "no plateau is seen to end."
    )
