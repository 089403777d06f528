"""The demo's lines on single measures, from frames made by hand: each says what is seen, and that nothing is."""

from __future__ import annotations

import json
from collections.abc import Sequence

import polars as pl
import pytest

from trajstore.demo.measure_lines import LINES, Measured, measure_lines

SCHEMA = {
    "model": pl.String,
    "step": pl.Int64,
    "name": pl.String,
    "layer": pl.Int32,
    "head": pl.Int32,
    "value": pl.Float64,
    "stderr": pl.Float64,
    "params": pl.String,
}
STEPS = [0, 10, 20, 30]


def course(
    name: str,
    values: Sequence[float],
    layer: int | None = None,
    head: int | None = None,
    *,
    stderr: float | None = None,
    model: str = "m",
    **params: object,
) -> pl.DataFrame:
    text = json.dumps(params)
    rows = [
        (model, step, name, layer, head, value, stderr, text)
        for step, value in zip(STEPS, values, strict=False)
    ]
    return pl.DataFrame(rows, SCHEMA, orient="row")


def gaps(*values: float) -> pl.DataFrame:
    return pl.DataFrame({"step": STEPS[: len(values)], "value": values, "stderr": [0.01] * len(values)})


def line(name: str, *frames: pl.DataFrame, gap: pl.DataFrame | None = None) -> str:
    """The line on a measure of these frames, of which head 1.0 of the model m copies."""
    kinds = pl.DataFrame({"model": ["m"], "layer": [1], "head": [0], "nearest": ["prefix_matching"]})
    measured = Measured(pl.concat(frames), gaps(0, 0) if gap is None else gap, kinds)
    heading, *lines = measure_lines(measured)
    assert heading.startswith("Measure by measure, m from step 0 to ")
    [text] = [text for text in lines if text.startswith(f"{name}: ")]
    return text


def test_there_is_no_line_without_a_measure() -> None:
    other = Measured(course("rankme", [1, 2], 0), gaps(), pl.DataFrame())
    assert measure_lines(other) == []


def test_predictions_that_change_and_that_do_not() -> None:
    assert line("top_1", course("top_1", [0.001, 0.35], stderr=0.01)).endswith("0.1% → 35.0% of the tokens.")
    assert line("rank", course("rank", [9, 8], stderr=1)).endswith("no change that can be told.")
    sure = course("entropy", [6, 5, 4, 3])
    said = line("entropy", sure, gap=gaps(0.1, 0.5, 0.2, -0.3))
    assert "by 0.50 nats at step 10, the most, and less sure at step 30 (−0.30 ± 0.02)" in said
    assert line("entropy", sure, gap=gaps(-0.2, -0.1)).endswith("never surer than right.")
    said = line("calibration_error", course("calibration_error", [0.01, 0.07, 0.02]))
    assert said.endswith("by 0.010 → 0.020, highest at step 10 (0.070).")


@pytest.mark.parametrize(
    ("pairs", "order"),
    [([5, 3, 2], "frequencies first"), ([1, 2, 3], "pairs first"), ([2, 1, 3], "both at once")],
)
def test_whether_frequencies_or_pairs_are_predicted_first(pairs: list[float], order: str) -> None:
    one, two = (
        course(name, values, direction="model||counts")
        for name, values in (("kl_unigram", [2, 0.5, 3]), ("kl_bigram", pairs))
    )
    back = course("kl_bigram", [0, 9, 9], direction="counts||model")
    assert line("kl_bigram", one, two, back).endswith(f"alone): {order}.")


def test_geometry_of_the_last_layer() -> None:
    ranks = course("rankme", [40, 30, 20, 25], 2)
    for values, way in (
        ([4, 3, 2, 2.5], "with"),
        ([1, 2, 3, 2.5], "against"),
        ([1, 3, 3, 1], "its own way beside"),
    ):
        assert f"it goes {way} RankMe" in line("alpha_req", course("alpha_req", values, 2), ranks)
    low = course("twonn", [9, 9], 1, number=64)
    said = line("twonn", low, course("twonn", [3, 8, 5], 2, number=64))
    assert "layer 2 has the dimension 3.0 → 5.0, highest at step 10 (8.0); of 64 states" in said
    said = line("participation_ratio", course("participation_ratio", [13, 2], 1, 0))
    assert "1.0 (prefix_matching) 13.0 → 2.0" in said
    assert "0.1 0.20 → −0.40" in line("ov_copying", course("ov_copying", [0.2, -0.4], 0, 1))


def test_the_heads_that_compose_more_than_by_chance() -> None:
    pairs = [
        course("composition", values, 1, head, model=model, kind="K", from_layer=0, from_head=1)
        for model, head, values in (
            ("m", 0, [0.12, 0.21]),
            ("m", 1, [0.13, 0.14]),
            ("n", 0, [0.13, 0.12]),
            ("n", 1, [0.11, 0.12]),
        )
    ]
    said = line("composition", *pairs)
    assert "in m 1.0 of 0.1 by its keys, 0.12 → 0.21; in n none more than at the start" in said


def test_weights_and_their_updates() -> None:
    norms = course("weight_norm", [9, 8], 0, matrix="w"), course("weight_norm", [30, 60], matrix="all")
    assert line("weight_norm", *norms).endswith("all weights 30.0 → 60.0, highest at the end.")
    ranks = course("effective_rank", [50, 25], 1, matrix="a"), course("effective_rank", [60, 55], matrix="b")
    assert line("effective_rank", *ranks).endswith("a of block 1 changes most of 2 matrices, 50.0 → 25.0.")
    cosines = course("weight_distance_cosine", [0.7, 0.1, 0.3, -0.1], matrix="all")
    moved = course("weight_distance", [1, 2], matrix="all")
    said = line("weight_distance", moved, cosines)
    assert (
        "most at step 0 (cosine 0.70), later most at step 20 (0.30); at step 30 they turn back (−0.10)"
        in said
    )
    assert "do not turn back" in line("weight_distance", moved, cosines[:3])


def test_attention_that_distance_tells() -> None:
    sums = [
        course(f"translational_symmetry_{way}", [value], 1, head)
        for head, values in ((0, (2, 8)), (1, (9, 8)))
        for way, value in zip(("along", "across"), values, strict=True)
    ]
    said = line("translational_symmetry", *sums)
    assert "1.0 0.25 (prefix_matching), 1.1 1.12; below 0.5, where distance tells it, in 1 of 2 heads" in said
    assert line("diagonal_score", course("diagonal_score", [50], 1, 0, stderr=1)).endswith(
        "most in 1.0, 50 ± 2."
    )
    assert "no head" in line("diagonal_score", course("diagonal_score", [1], 1, 0, stderr=1))


def test_kinds_of_text_beside_shuffled_ones() -> None:
    told = [
        course("text_type_probe", [0.8, value], layer, stderr=0.02, classes=3)
        for layer, value in ((0, 0.9), (2, 0.95))
    ]
    chance = course("text_type_probe_shuffled", [0.3, 0.4], 2, stderr=0.02)
    said = line("text_type_probe", *told, chance)
    assert "3 kinds of text are told from layer 2 in 80% → 95%" in said
    assert said.endswith("(labels shuffled 40%), from the embeddings alone in 80% → 90%.")
    same = course("text_type_probe_shuffled", [0.8, 0.93], 2, stderr=0.02)
    assert "cannot be told from layer 2, 95%, as by chance" in line("text_type_probe", *told, same)


def test_every_measure_has_a_line_or_a_sentence() -> None:
    """Measures of `measure list` that have no line are in sentences of their own, and noise comes with an option."""
    from trajstore.demo.measured import OF_FIRST, OF_HEADS, OF_TEXT
    from trajstore.measures.definitions import SETS, own

    elsewhere = {*OF_TEXT, *SETS[OF_HEADS[0]], "ablation", "unigram_latent", "llc"}
    noise = {definition.name for definition in own() if definition.argument}
    assert {definition.name for definition in own()} == {*LINES, *elsewhere, *noise}
    assert set(OF_FIRST) <= set(LINES)
