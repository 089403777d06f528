"""Passes over a model whose weights change in place: what holds for all weights is looked for once, nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.forward.test_causality import model_of
from tests.helpers.architectures import KINDS, UNKNOWN, exact, ragged, tiny
from tests.helpers.tiny_models import random_dataset, save_run
from trajstore.errors import NotCausal
from trajstore.forward import causality, losses
from trajstore.forward.losses import token_losses, token_scores
from trajstore.forward.model_pass import Forward
from trajstore.forward.workspace import Workspace
from trajstore.scoring import score

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_budget_holds_for_contexts_no_longer_with_the_same_columns() -> None:
    workspace = Workspace()
    assert workspace.budget(["rank"], 10) is None
    workspace.keep_budget(["rank", "entropy"], 100, 5000)
    assert workspace.budget(("entropy", "rank"), 100) == workspace.budget(["rank", "entropy"], 3) == 5000
    assert workspace.budget(["rank", "entropy"], 101) is None
    assert workspace.budget([], 100) is None
    workspace.keep_budget(["rank", "entropy"], 40, 2000)  # where memory ran out since
    assert workspace.budget(["rank", "entropy"], 100) == 2000


def test_a_gpu_is_asked_for_its_room_once_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[int | None] = []

    def in_batches(lengths: Any, work: Any, budget: int | None, *_: Any, **__: Any) -> int:
        budgets.append(budget)
        work(list(range(len(lengths))))
        return 400

    monkeypatch.setattr(losses, "in_batches", in_batches)
    workspace, model = Workspace(), tiny("llama")
    token_scores(model, ragged(), workspace=workspace)
    assert budgets.pop() is None
    token_scores(model, ragged(), workspace=workspace)
    assert budgets.pop() is None  # a CPU has its default
    monkeypatch.setattr(losses, "runs_ahead", lambda device: True)
    token_scores(model, ragged(), workspace=workspace)
    token_scores(tiny("llama", seed=1), ragged(), workspace=workspace)
    token_scores(model, ragged(lengths=(41,)), workspace=workspace)
    token_scores(model, ragged(), workspace=workspace, batch_tokens=77)
    token_scores(model, ragged())
    assert budgets == [None, 400, None, 77, None]


def put(model: Any, weights: Any) -> None:
    """Another checkpoint's weights in the memory of this one's, and its folder beside them."""
    model.name_or_path = model.config.name_or_path = f"run/step{id(weights)}"
    with torch.no_grad():
        for own, other in zip(model.state_dict().values(), weights.state_dict().values(), strict=True):
            own.copy_(other)


@pytest.mark.parametrize("kind", [*KINDS, UNKNOWN])
def test_other_weights_in_the_same_model_give_the_losses_of_a_new_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, contexts, checks = tiny(kind), ragged(), []
    token_losses(model, contexts)
    whole = Forward._checked_head
    monkeypatch.setattr(Forward, "_checked_head", lambda *args: checks.append(1) or whole(*args))
    for seed in (1, 2):
        put(model, tiny(kind, seed=seed))
        swapped = token_scores(model, contexts, columns=["rank", "entropy"])
        assert len(checks) == (2 * seed - 1 if kind == UNKNOWN else seed - 1)
        fresh = token_scores(tiny(kind, seed=seed), contexts, columns=["rank", "entropy"])
        for name in ("loss", "rank", "entropy"):
            for one, other in zip(getattr(swapped, name), getattr(fresh, name), strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_job_checks_its_model_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[str] = []
    head, reads_back = Forward._checked_head, causality._reads_back
    monkeypatch.setattr(Forward, "_checked_head", lambda *args: checks.append("head") or head(*args))
    monkeypatch.setattr(
        causality, "_reads_back", lambda *args: checks.append("causality") or reads_back(*args)
    )
    for name in ("d", "e"):
        store.add_dataset(name, random_dataset())
    run = save_run(tmp_path / "run", [1, 2, 3])
    report = score(store, str(run), ["d", "e"], device="cpu", attention="eager")
    assert report.written == 6
    assert checks == ["head", "causality"]


@pytest.mark.parametrize(("field", "value"), [("logit_scale", 0.5), ("final_logit_softcapping", 2.0)])
def test_a_head_of_zeros_does_not_decide_for_later_weights(field: str, value: float) -> None:
    """Any scale and cap give its logits, also those that the configuration names and the model does not have."""
    model, contexts = tiny("olmo-2"), ragged()
    setattr(model.config, field, value)
    weight = model.lm_head.weight.detach().clone()
    model.lm_head.weight.data.zero_()
    np.testing.assert_allclose(np.concatenate(token_losses(model, contexts)), np.log(300), rtol=1e-6)
    model.lm_head.weight.data.copy_(weight)
    wanted = np.concatenate([each.loss for each in exact(model, contexts)])
    np.testing.assert_allclose(np.concatenate(token_losses(model, contexts)), wanted, rtol=0, atol=1e-5)


def test_attention_of_zeros_does_not_prove_a_model_causal() -> None:
    model, contexts = model_of("bert"), ragged(64)
    dense = [layer.attention.output.dense for layer in model.bert.encoder.layer]
    weights = [layer.weight.detach().clone() for layer in dense]
    for layer in dense:
        layer.weight.data.zero_()
    token_losses(model, contexts)
    for layer, weight in zip(dense, weights, strict=True):
        layer.weight.data.copy_(weight)
    with pytest.raises(NotCausal, match="is not a causal language model"):
        token_losses(model, contexts)
