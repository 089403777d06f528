"""Scores of attention patterns: 1 for a planted head of each kind, and those of the definition for a model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.helpers.architectures import tiny
from trajstore.errors import BadMeasures, NotMeasurable
from trajstore.measures import Batch, PassFacts, measure
from trajstore.measures.definitions import own

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajstore.measures import Measure, MeasureDefinition

REPEATS = [np.tile(np.random.default_rng(n).permutation(300)[:9], 3) for n in range(4)]


def named(name: str, **parameters: object) -> MeasureDefinition:
    [definition] = [each for each in own() if each.name == name]
    return definition.with_parameters(**parameters)


def pattern(ids: np.ndarray, target: Callable[[int], int | None]) -> np.ndarray:
    """A head that attends to one position from every token; to itself where there is none."""
    weights = np.zeros((len(ids), len(ids)))
    for i in range(len(ids)):
        goal = target(i)
        weights[i, i if goal is None else goal] = 1
    return weights


def planted(ids: np.ndarray) -> np.ndarray:
    """Five heads: induction by the last occurrence, previous token, duplicate token, first token, itself."""
    before = [max((j for j in range(i) if ids[j] == ids[i]), default=None) for i in range(len(ids))]
    return np.stack(
        [
            pattern(ids, lambda i: None if before[i] is None else before[i] + 1),
            pattern(ids, lambda i: i - 1 if i else None),
            pattern(ids, lambda i: before[i]),
            pattern(ids, lambda i: 0),
            pattern(ids, lambda i: None),
        ]
    )


def scores(definition: MeasureDefinition, ids: list[np.ndarray]) -> list[Measure]:
    """The measures of planted heads, in one padded batch."""
    stream = definition.make_stream()
    stream.begin(PassFacts(tiny("llama"), ids, 300))
    longest = max(map(len, ids))
    weights = np.full((len(ids), 5, longest, longest), 9.0)  # what stands in the padding does not count
    for row, context in zip(weights, ids, strict=True):
        row[:, : len(context), : len(context)] = planted(context)
    batch = Batch(list(range(len(ids))), ids)
    stream.attention(1, torch.as_tensor(weights, dtype=torch.float32), batch)
    return stream.finish()


@pytest.mark.parametrize(
    ("name", "head"),
    [("prefix_matching", 0), ("previous_token", 1), ("duplicate_token", 2), ("bos_attractor", 3)],
)
def test_one_for_a_planted_head(name: str, head: int) -> None:
    ids = [REPEATS[0], REPEATS[1][:20], REPEATS[2]]
    rows = scores(named(name), ids)
    means = {row.head: row.value for row in rows if row.context is None}
    assert means[head] == pytest.approx(1)
    assert all(value < 0.2 for other, value in means.items() if other != head)
    assert {row.layer for row in rows} == {1}
    assert sorted(row.context for row in rows if row.head == head and row.context is not None) == [0, 1, 2]
    [mean] = [row for row in rows if row.head == head and row.context is None]
    assert mean.stderr == pytest.approx(0, abs=1e-7)


def test_offsets_and_occurrences_are_explicit() -> None:
    """A head at the token itself instead of the next, and one that spreads over all earlier repeats."""
    ids = [REPEATS[0]]
    by_offset = {
        offset: scores(named("prefix_matching", offset=offset), ids)[-1 - 2 * 4].value for offset in (0, 1)
    }
    assert by_offset == {0: pytest.approx(0, abs=1e-6), 1: pytest.approx(1)}
    assert scores(named("prefix_matching", offset=0), ids)[2 * 2].value == pytest.approx(1)
    assert scores(named("prefix_matching"), ids)[0].params == {"offset": 1, "occurrences": "all"}
    spread = np.zeros((1, 1, 27, 27))
    for i in range(9, 27):
        earlier = np.arange(i % 9, i, 9)
        spread[0, 0, i, earlier + 1] = 1 / len(earlier)
    for occurrences, exact in (("all", 1.0), ("last", (1 + 0.5) / 2)):
        stream = named("prefix_matching", occurrences=occurrences).make_stream()
        stream.begin(PassFacts(tiny("llama"), ids, 300))
        stream.attention(0, torch.as_tensor(spread, dtype=torch.float32), Batch([0], ids))
        assert stream.finish()[0].value == pytest.approx(exact)


def by_definition(name: str, ids: np.ndarray, weights: np.ndarray) -> float:
    """Token by token, float64."""
    total, tokens = 0.0, 0
    for i in range(len(ids)):
        match name:
            case "prefix_matching":
                goals = [j + 1 for j in range(i) if ids[j] == ids[i]]
            case "duplicate_token":
                goals = [j for j in range(i) if ids[j] == ids[i]]
            case "previous_token":
                goals = [i - 1] * (i > 0)
            case _:
                goals = [0] * (i > 0)
        total += sum(weights[i, j] for j in goals)
        tokens += bool(goals)
    return total / tokens


@pytest.mark.parametrize("name", ["prefix_matching", "previous_token", "duplicate_token", "bos_attractor"])
def test_a_models_own_heads(name: str) -> None:
    model = tiny("qwen2")
    rows = measure(model, REPEATS, [named(name)], batch_tokens=60).measures[name]
    assert len(rows) == 2 * 4 * (4 + 1)
    model.set_attn_implementation("eager")
    for context, ids in enumerate(REPEATS):
        with torch.no_grad():
            attentions = model(torch.as_tensor(ids)[None], output_attentions=True).attentions
        for row in rows:
            if row.context == context:
                weights = attentions[row.layer][0, row.head].double().numpy()
                assert row.value == pytest.approx(by_definition(name, ids, weights), abs=1e-5)


def test_what_comes_after_the_last_attention_is_not_run() -> None:
    model = tiny("qwen2")
    runs: list[int] = []
    for number, block in enumerate(model.base_model.layers):
        block.mlp.register_forward_hook(lambda *_, number=number: runs.append(number))
    alone = measure(model, REPEATS, [named("previous_token")]).measures
    assert runs == [0]
    beside = measure(model, REPEATS, [named("previous_token"), named("interaction_energy")]).measures
    assert runs == [0, 0, 1]
    assert alone["previous_token"] == beside["previous_token"]
    assert not any(block.self_attn._forward_hooks for block in model.base_model.layers)


def test_the_first_token_is_bos_or_not() -> None:
    model = tiny("gpt-2")
    model.config.bos_token_id = 7
    for first, target in ((7, "bos"), (8, "first")):
        ids = [np.array([first, 3, 9, 4]), np.array([7, 5, 6])]
        rows = measure(model, ids, [named("bos_attractor")]).measures["bos_attractor"]
        assert {row.params["target"] for row in rows} == {target}
    model.config.sliding_window = 3
    stream: Any = named("bos_attractor").make_stream()
    stream.begin(PassFacts(model, [np.arange(8)], 300))
    assert stream.pairs[0][0].tolist() == [1, 2]


def test_contexts_without_repeats() -> None:
    for name in ("prefix_matching", "duplicate_token"):
        with pytest.raises(NotMeasurable, match="no token of these contexts occurs twice"):
            scores(named(name), [np.arange(12)])
    rows = scores(named("duplicate_token"), [np.arange(12), REPEATS[0]])
    assert {row.context for row in rows} == {1, None}
    with pytest.raises(BadMeasures, match="occurrences are all or last"):
        named("prefix_matching", occurrences="first").make_stream()
