"""Divergences, means and the calibration error are those of the definition in float64, whatever the tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.helpers.architectures import exact, ragged, tiny
from trajstore.errors import BadMeasures
from trajstore.measures import LogitTile, PassFacts, Predictions, measure
from trajstore.measures.definitions import own
from trajstore.measures.predictions.calibration_error import calibration_error

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.measures import Measure, MeasureDefinition

CONTEXTS = ragged(vocabulary=300)
VOCABULARY = 300


def named(name: str, **parameters: object) -> MeasureDefinition:
    [definition] = [each for each in own() if each.name == name]
    return definition.with_parameters(**parameters)


def fed(
    definition: MeasureDefinition, contexts: list[np.ndarray], logits: np.ndarray, width: int
) -> list[Measure]:
    """The measures of logits (predictions, vocabulary) that come in tiles of this width, some predictions at a time."""
    stream = definition.make_stream()
    stream.begin(PassFacts(None, contexts, logits.shape[1]))  # type: ignore[arg-type]
    predictions = Predictions.of(range(len(contexts)), contexts)
    for at in range(0, len(predictions), 7):
        part = predictions[at : at + 7]
        own_logits = torch.as_tensor(logits[at : at + 7].copy(), dtype=torch.float32)
        for start in range(0, logits.shape[1], width):
            rows = own_logits[:, start : start + width]
            sums = rows.logsumexp(1)
            stream.tile(LogitTile(slice(start, start + width), rows - sums[:, None], sums), part)
        stream.log_sums(own_logits.logsumexp(1), part)
    return stream.finish()


def bigram(smoothing: float, contexts: list[np.ndarray], vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """The unigram (vocabulary,) and the bigram (vocabulary, vocabulary), counted one by one."""
    single, pairs = np.zeros(vocabulary), np.zeros((vocabulary, vocabulary))
    for ids in contexts:
        for place, token in enumerate(ids):
            single[token] += 1
            if place:
                pairs[ids[place - 1], token] += 1
    f = (single + smoothing) / (single + smoothing).sum()
    return f, (pairs + smoothing * f) / (pairs.sum(1, keepdims=True) + smoothing)


def means(rows: list[Measure], direction: str) -> dict[int | None, float]:
    return {row.context: row.value for row in rows if row.params["direction"] == direction}


@pytest.mark.parametrize("name", ["kl_unigram", "kl_bigram"])
@pytest.mark.parametrize("width", [1, 13, 300])
def test_divergences_of_random_logits(name: str, width: int) -> None:
    draw = np.random.default_rng(0)
    predictions = Predictions.of(range(len(CONTEXTS)), CONTEXTS)
    logits = draw.normal(scale=4, size=(len(predictions), VOCABULARY))
    logits += draw.normal(scale=200, size=(len(predictions), 1))  # exp of which is no number
    rows = fed(named(name, smoothing=0.7), CONTEXTS, logits, width)
    f, after = bigram(0.7, CONTEXTS, VOCABULARY)
    logits = logits.astype(np.float32).astype(np.float64)
    log_p = logits - np.logaddexp.reduce(logits, 1, keepdims=True)
    q = np.broadcast_to(f, log_p.shape) if name == "kl_unigram" else after[predictions.previous]
    for direction, exact_values in (
        ("model||counts", (np.exp(log_p) * (log_p - np.log(q))).sum(1)),
        ("counts||model", (q * (np.log(q) - log_p)).sum(1)),
    ):
        by_context = [exact_values[predictions.context == number].mean() for number in range(len(CONTEXTS))]
        mine = means(rows, direction)
        for number, value in enumerate(by_context):
            assert mine[number] == pytest.approx(value, abs=2e-3)  # float32 of logits about 200
        assert mine[None] == pytest.approx(np.mean(by_context), abs=1e-3)
    assert rows[0].params == {"unigram": "contexts", "smoothing": 0.7, "direction": "model||counts"}


@pytest.mark.parametrize("name", ["kl_unigram", "kl_bigram"])
def test_zero_for_the_model_that_is_the_distribution(name: str) -> None:
    predictions = Predictions.of(range(len(CONTEXTS)), CONTEXTS)
    f, after = bigram(1.0, CONTEXTS, VOCABULARY)
    q = (
        np.broadcast_to(f, (len(predictions), VOCABULARY))
        if name == "kl_unigram"
        else after[predictions.previous]
    )
    rows = fed(named(name), CONTEXTS, np.log(q) + 3, 50)
    assert all(row.value == pytest.approx(0, abs=2e-6) for row in rows)
    assert len(rows) == 2 * (len(CONTEXTS) + 1)


def test_a_models_own_predictions() -> None:
    """Through its pass, with every other measure of predictions, against its logits in float64."""
    model = tiny("gpt-neox")
    names = ("kl_unigram", "kl_bigram", "entropy", "rank", "top_1", "calibration_error")
    measures, left_out = measure(model, CONTEXTS, [named(name) for name in names], batch_tokens=50)
    assert not left_out
    own_scores = exact(model, CONTEXTS)
    f, after = bigram(1.0, CONTEXTS, VOCABULARY)
    double = type(model)(model.config).double().eval()
    double.load_state_dict(model.state_dict())
    confidence, right = [], []
    for number, ids in enumerate(CONTEXTS):
        with torch.no_grad():
            logits = double(torch.as_tensor(ids, dtype=torch.long)[None]).logits[0, :-1].numpy()
        log_p = logits - np.logaddexp.reduce(logits, 1, keepdims=True)
        confidence.append(np.exp(log_p).max(1))
        right.append(logits.argmax(1) == ids[1:])
        for name, q in (("kl_unigram", np.broadcast_to(f, log_p.shape)), ("kl_bigram", after[ids[:-1]])):
            value = (np.exp(log_p) * (log_p - np.log(q))).sum(1).mean()
            assert means(measures[name], "model||counts")[number] == pytest.approx(value, abs=1e-4)
            value = (q * (np.log(q) - log_p)).sum(1).mean()
            assert means(measures[name], "counts||model")[number] == pytest.approx(value, abs=1e-4)
        score = own_scores[number]
        for name, value in (
            ("entropy", score.entropy.mean()),
            ("rank", score.rank.mean()),
            ("top_1", (score.rank == 0).mean()),
        ):
            [row] = [row for row in measures[name] if row.context == number]
            assert row.value == pytest.approx(value, rel=1e-4)
    bins = np.minimum(np.floor(np.concatenate(confidence) * 15), 14)
    gaps = [
        abs(np.concatenate(right)[bins == b].mean() - np.concatenate(confidence)[bins == b].mean())
        * (bins == b).mean()
        for b in np.unique(bins)
    ]
    assert measures["calibration_error"][0].value == pytest.approx(sum(gaps), abs=1e-4)


def test_calibration_error_in_closed_forms() -> None:
    sure = np.ones(8)
    assert calibration_error(sure, np.ones(8, bool), 15) == 0
    assert calibration_error(sure, np.arange(8) < 2, 15) == pytest.approx(0.75)
    both = np.array([0.25] * 4 + [0.8] * 5)
    right = np.array([1, 0, 0, 0, 1, 1, 1, 1, 0], bool)
    assert calibration_error(both, right, 10) == pytest.approx(0, abs=1e-12)
    assert calibration_error(both, ~right, 10) == pytest.approx((4 * 0.5 + 5 * 0.6) / 9)
    tied = named("calibration_error")
    logits = np.zeros((len(CONTEXTS[0]) - 1, VOCABULARY))
    logits[np.arange(len(logits)), CONTEXTS[0][1:]] = 5
    [row] = fed(tied, CONTEXTS[:1], logits, 17)
    assert row.value == pytest.approx(1 - np.exp(5) / (np.exp(5) + VOCABULARY - 1), abs=1e-6)


def test_a_table_of_counts(tmp_path: Path) -> None:
    counts = np.random.default_rng(1).integers(0, 9, VOCABULARY)
    np.save(tmp_path / "counts.npy", counts)
    predictions = Predictions.of(range(len(CONTEXTS)), CONTEXTS)
    logits = np.broadcast_to(np.log(counts + 0.5), (len(predictions), VOCABULARY))
    for table in (counts, tmp_path / "counts.npy", str(tmp_path / "counts.npy")):
        rows = fed(named("kl_unigram", smoothing=0.5, table=table), CONTEXTS, logits, 100)
        assert all(row.value == pytest.approx(0, abs=1e-6) for row in rows)
        assert str(rows[0].params["unigram"]).startswith("sha256:")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("kl_unigram", {"smoothing": 0.0}, "leave tokens without probability"),
        ("kl_unigram", {"table": np.ones(5)}, r"has the shape \(5,\); it takes \(300,\)"),
        ("kl_unigram", {"table": "no/such.npy"}, "cannot be read: No such file"),
        ("kl_unigram", {"table": np.full(300, np.nan)}, "leave tokens without probability"),
        ("kl_bigram", {"table": np.ones(300), "smoothing": 0.0}, "a smoothing above 0"),
        ("calibration_error", {"bins": 0}, "1 bin or more"),
    ],
)
def test_parameters_that_cannot_be(name: str, parameters: dict[str, Any], message: str) -> None:
    logits = np.zeros((len(Predictions.of(range(len(CONTEXTS)), CONTEXTS)), VOCABULARY))
    with pytest.raises(BadMeasures, match=message):
        fed(named(name, **parameters), CONTEXTS, logits, 300)
