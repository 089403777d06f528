"""Measures in the scoring pass: the losses stay the same to the bit, and values are those of a pass for them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.helpers.architectures import STRUCTURES, UNKNOWN, ragged, tiny
from trajstore.forward.logit_tile import LogitTile, Spare
from trajstore.forward.losses import token_scores
from trajstore.forward.tiled_head import Tile
from trajstore.measures import Measure, MeasureDefinition, Stream, measure
from trajstore.measures.definitions import find_measures
from trajstore.measures.in_scoring import MeasuringWatcher

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from trajstore.measures.streams import Predictions

NAMES = [
    "interaction_energy",
    "rankme",
    "participation_ratio",
    "kl_unigram",
    "kl_bigram",
    "calibration_error",
]
IDS = ragged()
SMALL = Tile(positions=16, vocabulary=70)
pytestmark = pytest.mark.usefixtures("one_thread")


def _values(measures: dict[str, list[Measure]]) -> dict[tuple[Any, ...], float]:
    return {
        (row.name, row.layer, row.head, row.context, str(row.params)): row.value
        for rows in measures.values()
        for row in rows
    }


def _watched(model: PreTrainedModel, **how: Any) -> Any:
    watcher = MeasuringWatcher(model, IDS, find_measures(NAMES), how.get("vocabulary"))
    scores = token_scores(model, IDS, watcher=watcher, **how)
    return scores, watcher.finish()


@pytest.mark.parametrize("columns", [(), ("rank", "entropy")])
@pytest.mark.parametrize("kind", [*STRUCTURES, UNKNOWN])
def test_the_values_of_a_pass_of_their_own(kind: str, columns: tuple[str, ...]) -> None:
    model = tiny(kind)
    plain = token_scores(model, IDS, columns=columns, batch_tokens=64, tile=SMALL)
    scores, (measures, left_out) = _watched(model, columns=columns, batch_tokens=64, tile=SMALL)
    assert scores.tiled == (kind != UNKNOWN)
    for mine, theirs in zip(scores.loss, plain.loss, strict=True):
        assert np.array_equal(mine, theirs)
    own = measure(model, IDS, find_measures(NAMES))
    assert left_out == own.left_out
    mine, theirs = _values(measures), _values(own.measures)
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        assert mine[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("kind", ["gpt-neox", "gemma-2", UNKNOWN])
@pytest.mark.parametrize("vocabulary", [None, 300, 290])
def test_tiles_are_the_models_own_logits(kind: str, vocabulary: int | None) -> None:
    model, ids = tiny(kind, vocabulary=300), ragged(vocabulary=290)
    logs: dict[tuple[int, int], list[np.ndarray]] = {}
    totals: dict[tuple[int, int], float] = {}

    class Keeper(Stream):
        def tile(self, tile: LogitTile, predictions: Predictions) -> None:
            assert tile.log_shares.shape == (len(predictions), tile.rows.stop - tile.rows.start)
            assert torch.allclose(tile.shares, tile.log_shares.exp())
            entropies = torch.special.entr(tile.log_shares.exp()).sum(1)
            assert torch.allclose(tile.entropies, entropies, atol=1e-5)
            for row, log_sum, context, position in zip(
                tile.log_shares, tile.log_sums, predictions.context, predictions.position, strict=True
            ):
                logs.setdefault((context, position), []).append((row + log_sum).numpy().copy())

        def log_sums(self, log_sums: torch.Tensor, predictions: Predictions) -> None:
            for log_sum, context, position in zip(
                log_sums.tolist(), predictions.context, predictions.position, strict=True
            ):
                totals[context, position] = log_sum

        def finish(self) -> list[Measure]:
            return []

    keeper = MeasureDefinition("kept", "all", "1", stream=Keeper, needs=("logits",))
    watcher = MeasuringWatcher(model, ids, [keeper], vocabulary)
    token_scores(
        model, ids, columns=["entropy"], vocabulary=vocabulary, batch_tokens=64, tile=SMALL, watcher=watcher
    )
    for number, context in enumerate(ids):
        with torch.no_grad():
            logits = model(torch.as_tensor(context)[None].long()).logits[0, :, :vocabulary].double()
        for position in range(1, len(context)):
            mine = np.concatenate(logs[number, position]).astype(np.float64) - totals[number, position]
            assert np.allclose(mine, logits[position - 1].log_softmax(0).numpy(), atol=1e-4)


@pytest.mark.parametrize("spare", [None, Spare(torch.empty(24 * 90))])
def test_sums_over_a_tile_are_those_of_its_shares(
    spare: Spare | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trajstore.forward.logit_tile.CPU_ELEMENTS", 7 * 90)
    generator = torch.Generator().manual_seed(0)
    logs = torch.randn(24, 90, generator=generator).mul_(3).log_softmax(1)
    q = torch.rand(90, generator=generator)
    shares, exact_logs = logs.double().exp(), logs.double()
    for shares_first in (False, True):
        tile = LogitTile(slice(0, 90), logs, torch.zeros(24), spare)
        if shares_first:
            assert torch.allclose(tile.shares.double(), shares, atol=1e-6)
        of_shares, of_q = tile.log_means(q, q.log())
        assert torch.allclose(of_shares.double(), shares @ q.double().log(), atol=1e-5)
        assert torch.allclose(of_q.double(), exact_logs @ q.double(), rtol=1e-5)
        assert torch.allclose(tile.entropies.double(), torch.special.entr(shares).sum(1), atol=1e-5)
        assert torch.equal(tile.entropies, LogitTile(slice(0, 90), logs, torch.zeros(24)).entropies)
        assert torch.allclose(tile.shares.double(), shares, atol=1e-6)


def test_a_batch_that_runs_out_of_memory_is_handed_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("gpt-neox")
    _, (expected, _) = _watched(model, batch_tokens=200)
    block = model.base_model.layers[1]
    real, calls = block.forward, []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(args[0]))
        if len(args[0]) > 4:
            raise torch.OutOfMemoryError("by design")
        return real(*args, **kwargs)

    monkeypatch.setattr(block, "forward", failing)
    _, (values, left_out) = _watched(model, batch_tokens=200)
    assert max(calls) == 5
    assert not left_out
    mine, theirs = _values(values), _values(expected)
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        assert mine[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key


def test_no_second_pass_is_made() -> None:
    model = tiny("gpt-neox")
    tokens: list[int] = []
    handle = model.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: tokens.append((args[0] if args else kwargs["input_ids"]).numel()),
        with_kwargs=True,
    )
    token_scores(model, IDS)  # what is checked once, and not again where hooks are those of the pass alone
    tokens.clear()
    token_scores(model, IDS)
    plain = tokens.copy()
    tokens.clear()
    _watched(model)
    handle.remove()
    assert tokens == plain


@pytest.mark.parametrize("kind", ["gpt-neox", "gemma-2"])
def test_the_mean_logit_of_a_linear_head_takes_no_logits(kind: str) -> None:
    model, q = tiny(kind), torch.rand(300)
    means: dict[int, list[float]] = {}

    class Keeper(Stream):
        def tile(self, tile: LogitTile, predictions: Predictions) -> None:
            if kind == "gemma-2":  # its logits have a cap
                assert tile.mean_logits is None
            elif tile.rows.start == 0:
                assert tile.mean_logits is not None
                for context, value in zip(predictions.context, tile.mean_logits(q).tolist(), strict=True):
                    means.setdefault(context, []).append(value)

        def finish(self) -> list[Measure]:
            return []

    watcher = MeasuringWatcher(
        model, IDS, [MeasureDefinition("kept", "all", "1", stream=Keeper, needs=("logits",))]
    )
    token_scores(model, IDS, batch_tokens=64, tile=SMALL, watcher=watcher)
    assert sorted(means) == ([] if kind == "gemma-2" else list(range(len(IDS))))
    for number, mine in means.items():
        with torch.no_grad():
            logits = model(torch.as_tensor(IDS[number])[None].long()).logits[0, :-1].double()
        assert np.allclose(mine, (logits @ q.double()).numpy(), rtol=1e-5, atol=1e-5)
