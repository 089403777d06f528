"""Ablation is the gain of the loss by the definition, and only the head that a model's output depends on gains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.helpers.architectures import tiny
from trajstore.forward.model_structure import find_attention, find_blocks
from trajstore.measures import measure
from trajstore.measures.definitions import own
from trajstore.measures.heads.ablation import repeated_positions

if TYPE_CHECKING:
    from trajstore.measures import MeasureDefinition

CONTEXTS = [np.tile(np.random.default_rng(n).permutation(300)[: 5 + n], 3) for n in range(3)]


def ablation(**parameters: object) -> MeasureDefinition:
    [definition] = [each for each in own() if each.name == "ablation"]
    return definition.with_parameters(**parameters)


def test_repeated_positions() -> None:
    assert repeated_positions(np.array([7, 8, 9, 7, 8, 9, 7])).tolist() == [4, 5, 6]
    assert repeated_positions(np.array([1, 1, 1, 2])).tolist() == [2]
    assert repeated_positions(np.arange(5)).tolist() == []


def exact_losses(
    model: Any, changed: dict[int, np.ndarray] | None, head: int
) -> tuple[list[np.ndarray], Any]:
    """Losses of each context in float64, with block 1's head set to a mean; and the heads' inputs to its projection."""
    double = type(model)(model.config).double().eval()
    double.load_state_dict(model.state_dict())
    taken: list[np.ndarray] = []

    def hook(_: Any, args: Any) -> Any:
        taken.append(args[0][0].detach().numpy().copy())
        if changed is None:
            return None
        inputs = args[0].clone()
        inputs[..., head * 8 : head * 8 + 8] = torch.as_tensor(changed[head])
        return (inputs,)

    find_attention(find_blocks(double)[1]).output.register_forward_pre_hook(hook)
    losses = []
    for ids in CONTEXTS:
        with torch.no_grad():
            log_p = double(torch.as_tensor(ids)[None]).logits[0].log_softmax(1).numpy()
        losses.append(-log_p[np.arange(len(ids) - 1), ids[1:]])
    return losses, np.concatenate(taken)


@pytest.mark.parametrize("kind", ["gpt-2", "llama"])
def test_by_the_definition_in_float64(kind: str) -> None:
    model = tiny(kind)
    measures, left_out = measure(model, CONTEXTS, [ablation()])
    assert not left_out
    rows = {(row.name, row.layer, row.head, row.context): row.value for row in measures["ablation"]}
    plain, heads = exact_losses(model, None, 0)
    means = {head: heads[:, head * 8 : head * 8 + 8].mean(0) for head in range(4)}
    gains = np.zeros((4, 3))
    for head in range(4):
        without, _ = exact_losses(model, means, head)
        for context, ids in enumerate(CONTEXTS):
            at = repeated_positions(ids) - 1
            gains[head, context] = without[context][at].mean() - plain[context][at].mean()
            assert rows["ablation", 1, head, context] == pytest.approx(gains[head, context], abs=2e-5)
        assert rows["ablation", 1, head, None] == pytest.approx(gains[head].mean(), abs=2e-5)
    others = gains[1:].mean()
    assert rows["ablation_others", 1, 0, None] == pytest.approx(others, abs=2e-5)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_only_the_planted_head_gains() -> None:
    """All other heads write nothing, so that their ablation changes no loss."""
    model = tiny("gpt-2")
    with torch.no_grad():
        for number, block in enumerate(model.transformer.h):
            kept = block.attn.c_proj.weight[8:16].clone()
            block.attn.c_proj.weight.zero_()
            if number == 1:
                block.attn.c_proj.weight[8:16] = kept
    measures, _ = measure(model, CONTEXTS, [ablation(contexts=2)])
    rows = measures["ablation"]
    assert {row.context for row in rows} == {0, 1, None}
    for row in rows:
        if row.name == "ablation":
            assert (abs(row.value) > 1e-3) == ((row.layer, row.head) == (1, 1))


def test_what_cannot_be_ablated() -> None:
    left_out = measure(tiny("gpt-2"), [np.arange(9)], [ablation()]).left_out
    assert left_out["ablation"].startswith("ablation: no pair of tokens occurs twice")
    assert (
        "1 context or more" in measure(tiny("gpt-2"), CONTEXTS, [ablation(contexts=0)]).left_out["ablation"]
    )
