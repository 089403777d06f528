"""Learning coefficients are those of closed forms: of quadratic and of singular losses, with and without a pull."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.architectures import tiny
from tests.helpers.forked import processes
from tests.helpers.tiny_models import random_dataset
from trajstore.errors import BadMeasures, ChainDiverged
from trajstore.measures import measure
from trajstore.measures.definitions import own
from trajstore.measures.llc.estimate import LearningCoefficient, estimate
from trajstore.measures.llc.llc import measures_of
from trajstore.measures.llc.model_loss import ModelLoss
from trajstore.measures.llc.sampler import Sampling
from trajstore.store.files.measures import Measure
from trajstore.store.files.models import ModelFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trajstore.measures import MeasureDefinition
    from trajstore.store.store import Store


class Planted:
    """A loss of some weights at 0 that is the same in every context; many of them at once, each a site."""

    def __init__(self, loss: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, int]) -> None:
        self.loss = loss
        self.weights = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        self.parameters, self.masks, self.contexts = [self.weights], [None], 1
        self.calls = 0

    def losses(self, contexts: Sequence[int]) -> list[np.ndarray]:
        with torch.no_grad():
            return [self.loss(self.weights).numpy()]

    def losses_and_gradient(self, contexts: Sequence[int]) -> list[np.ndarray]:
        self.calls += 1
        losses = self.loss(self.weights)
        losses.sum().backward()  # each site has weights of its own
        return [losses.detach().numpy()]


def site_values(result: LearningCoefficient) -> np.ndarray:
    """λ̂ of each of the independent copies."""
    return result.sampling.nbeta * result.site_means()


@pytest.mark.parametrize("gamma", [0.0, 30.0])
def test_a_quadratic_loss(gamma: float) -> None:
    """½ Σ nβhᵢ / (nβhᵢ + γ), which is d/2 without a pull; many copies at once, for a small error."""
    h = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    objective = Planted(lambda w: 0.5 * (h * w**2).sum(1), (2000, 4))
    sampling = Sampling(100.0, 2e-4, gamma, chains=2, draws=1000, burn_in=500)
    values = site_values(estimate(objective, sampling))
    stiffness = 100 * h.numpy() + gamma
    # a step of finite size adds to the variance of what is stiff
    exact = 0.5 * (100 * h.numpy() / stiffness / (1 - sampling.step_size * stiffness / 4)).sum()
    assert exact == pytest.approx(
        2 if gamma == 0 else 0.5 * (50 / 80 + 100 / 130 + 200 / 230 + 400 / 430), rel=0.03
    )
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / 2000**0.5 + 5e-3)
    assert values.std() / 2000**0.5 < 0.02
    assert torch.equal(objective.weights.detach(), torch.zeros(2000, 4, dtype=torch.float64))
    assert objective.weights.grad is None


def exact_singular(nbeta: float, gamma: float) -> float:
    """nβ E[w₁²w₂²] under exp(−nβ w₁²w₂² − γ/2 |w|²), by integration over w₂ in closed form and w₁ by sums."""
    # given w₁, w₂ is normal with variance 1 / (2nβ w₁² + γ)
    w = np.sinh(np.linspace(0, np.arcsinh(12 / np.sqrt(gamma) * 1e4), 400_001)) / 1e4
    variance = 1 / (2 * nbeta * w**2 + gamma)
    density = np.exp(-gamma / 2 * w**2) * np.sqrt(variance)
    return float(np.trapezoid(density * nbeta * w**2 * variance, w) / np.trapezoid(density, w))


def test_a_singular_loss() -> None:
    """w₁²w₂² has λ = ½ with a logarithm, where a regular loss of two weights has 1: below it, and by integration."""
    objective = Planted(lambda w: w[:, 0] ** 2 * w[:, 1] ** 2, (2000, 2))
    sampling = Sampling(2000.0, 2e-4, 10.0, chains=1, draws=3500, burn_in=2000)
    values = site_values(estimate(objective, sampling))
    exact = exact_singular(2000.0, 10.0)
    assert values.mean() == pytest.approx(exact, abs=0.03)
    assert exact < 0.5
    # with λ = ½ and multiplicity 2 it comes to ½ as 1/ln: from below, and higher for a higher nβ
    assert exact < exact_singular(200.0, 1.0) < exact_singular(1e4, 1.0) < exact_singular(1e8, 1.0) < 0.5
    assert exact_singular(1e12, 1.0) > 0.45


def test_rmsprop_on_a_quadratic_loss() -> None:
    """Where all gradients are of one size, it is SGLD with another step; the same estimate."""
    h = torch.tensor([1.0, 1.0], dtype=torch.float64)
    objective = Planted(lambda w: 0.5 * (h * w**2).sum(1), (2000, 2))
    sampling = Sampling(
        100.0, 2e-4, 20.0, method="rmsprop_sgld", chains=2, draws=1200, burn_in=600, alpha=0.999
    )
    values = site_values(estimate(objective, sampling))
    assert values.mean() == pytest.approx(100 / 120, rel=0.06)
    assert "alpha" in sampling.params
    assert "alpha" not in Sampling(1, 1, 1).params


def test_masked_entries_stay() -> None:
    """Only half of the weights are drawn, so that the estimate is of half."""
    seen = []

    def loss(w: torch.Tensor) -> torch.Tensor:
        seen.append(w.detach()[:, 1].abs().max().item())
        return 0.5 * (w**2).sum(1)

    objective = Planted(loss, (2000, 2))
    objective.masks = [torch.tensor([1.0, 0.0], dtype=torch.float64)]
    result = estimate(objective, Sampling(100.0, 4e-4, 0.0, chains=1, draws=700, burn_in=300))
    assert site_values(result).mean() == pytest.approx(0.5, rel=0.06)
    assert max(seen) == 0


def test_what_an_estimate_says() -> None:
    objective = Planted(lambda w: 0.5 * (w**2).sum(1), (3, 2))
    result = estimate(objective, Sampling(50.0, 1e-3, 5.0, chains=3, draws=60, burn_in=20))
    assert result.traces.shape == (3, 60)
    assert np.all(result.traces[:, 0] == 0)  # the first draw is the checkpoint itself
    kept = result.traces[:, 20:]
    assert result.value == pytest.approx(50 * kept.mean())
    assert result.stderr == pytest.approx(50 * kept.mean(1).std(ddof=1) / 3**0.5)
    assert result.with_burn_in == pytest.approx(50 * result.traces.mean())
    assert result.with_burn_in < result.value
    assert np.all(result.sums[0] == 3 * 40)
    assert result.site_means().mean() == pytest.approx(kept.mean())
    assert np.all(result.site_variances() > 0)
    assert result.context_values() == pytest.approx([result.value])
    rows = {row.name: row for row in measures_of(result) if row.context is None}
    assert set(rows) == {"llc", "llc_with_burn_in", "llc_r_hat", "llc_effective_draws"}
    assert rows["llc"].params["nbeta"] == 50.0
    assert (rows["llc"].params["burn_in"], rows["llc"].params["gamma"]) == (20, 5.0)
    one = estimate(objective, Sampling(50.0, 1e-3, 5.0, chains=1, draws=3, burn_in=0))
    assert [row.name for row in measures_of(one)] == ["llc", "llc", "llc_with_burn_in"]


def test_a_chain_that_diverges_is_an_error() -> None:
    objective = Planted(lambda w: (w**4).sum(1), (2, 2))
    with pytest.raises(
        ChainDiverged, match=r"^Chain 0 left the finite numbers at draw \d+: take a smaller step_size"
    ):
        estimate(objective, Sampling(1e6, 1e3, 0.0, draws=100))
    assert not objective.weights.detach().any()


CUT = Sampling(50.0, 1e-3, 5.0, chains=3, draws=20, burn_in=5)


def squares() -> Planted:
    return Planted(lambda w: (w**2).sum(1), (3, 2))


def die_in_the_second_chain(folder: Path) -> None:
    objective = squares()
    step = objective.losses_and_gradient

    def once_too_often(contexts: Sequence[int]) -> list[np.ndarray]:
        if objective.calls == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(contexts)

    objective.losses_and_gradient = once_too_often  # type: ignore[method-assign]
    estimate(objective, CUT, folder, "a")


def test_an_estimate_that_was_killed_goes_on(tmp_path: Path) -> None:
    """With the chains that are missing, and to the same numbers; other settings and subjects share nothing."""
    whole = estimate(squares(), CUT)
    worker = processes.Process(target=die_in_the_second_chain, args=(tmp_path / "chains",))
    worker.start()
    worker.join(120)
    assert worker.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / "chains").iterdir())) == 1
    again = squares()
    result = estimate(again, CUT, tmp_path / "chains", "a")
    assert again.calls == 40
    assert np.array_equal(result.traces, whole.traces)
    assert np.array_equal(result.sums, whole.sums)
    estimate(again, CUT, tmp_path / "chains", "a")
    assert again.calls == 40
    estimate(again, CUT, tmp_path / "chains", "b")
    assert again.calls == 100


def llc(**parameters: object) -> MeasureDefinition:
    [definition] = [each for each in own() if each.name == "llc"]
    return definition.with_parameters(**parameters)


CONTEXTS = [np.random.default_rng(n).integers(0, 300, 5 + n % 4) for n in range(6)]
FEW: dict[str, Any] = {
    "nbeta": 10.0,
    "step_size": 1e-4,
    "gamma": 100.0,
    "chains": 2,
    "draws": 6,
    "burn_in": 2,
}


@pytest.mark.parametrize("batch_tokens", [1, 20, 1000])
def test_losses_and_gradients_of_a_model(batch_tokens: int) -> None:
    """Of padded parts, against transformers' own loss of each context."""
    model = tiny("llama")
    objective = ModelLoss(model, CONTEXTS, batch_tokens=batch_tokens)
    chosen = [4, 0, 3]
    losses = objective.losses_and_gradient(chosen)
    mine = [parameter.grad.clone() for parameter in objective.parameters]
    model.zero_grad()
    total, tokens = torch.zeros(()), 0
    for number, own_losses in zip(chosen, losses, strict=True):
        ids = torch.as_tensor(CONTEXTS[number])[None]
        loss = model(ids, labels=ids).loss
        assert own_losses.mean() == pytest.approx(loss.item(), rel=1e-5)
        assert objective.losses([number])[0] == pytest.approx(own_losses, rel=1e-4, abs=1e-5)
        total, tokens = total + loss * (ids.shape[1] - 1), tokens + ids.shape[1] - 1
    (total / tokens).backward()
    for own_gradient, parameter in zip(mine, model.parameters(), strict=True):
        assert torch.allclose(own_gradient, parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_model_is_as_it_was() -> None:
    model = tiny("gpt-2")
    model.train()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    measures, left_out = measure(model, CONTEXTS, [llc(**FEW)])
    assert not left_out
    assert {row.name for row in measures["llc"]} >= {"llc", "llc_with_burn_in", "llc_r_hat"}
    rows = {row.context: row for row in measures["llc"] if row.name == "llc"}
    assert rows[None].stderr is not None
    assert rows.keys() == {None, *range(6)}
    # every draw has all contexts here, so that the whole is their mean by tokens
    tokens = np.array([len(ids) - 1 for ids in CONTEXTS])
    assert np.average([rows[n].value for n in range(6)], weights=tokens) == pytest.approx(rows[None].value)
    assert model.training
    for name, each in model.state_dict().items():
        assert torch.equal(each, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    again = measure(model, CONTEXTS, [llc(**FEW)]).measures
    assert again == measures
    # in the middle of training, or loaded to be run only
    model.transformer.wte.weight.grad = gradient = torch.ones(300, 32)
    model.transformer.wpe.weight.requires_grad_(False)
    assert measure(model, CONTEXTS, [llc(**FEW)]).measures == measures
    assert model.transformer.wte.weight.grad is gradient
    assert not model.transformer.wpe.weight.requires_grad
    assert measure(model.requires_grad_(False), CONTEXTS, [llc(**FEW)]).measures == measures


def test_one_block_alone() -> None:
    model = tiny("gpt-2")
    [row, *_] = measure(model, CONTEXTS, [llc(**FEW, layer=1)]).measures["llc"]
    assert row.layer == 1
    objective = ModelLoss(model, CONTEXTS, layer=1)
    assert {id(each) for each in objective.parameters} == {
        id(each) for each in model.transformer.h[1].parameters()
    }
    left_out = measure(model, CONTEXTS, [llc(**FEW, layer=2)]).left_out
    assert left_out["llc"] == "There is no block 2; there are 0 to 1."


def test_one_head_alone() -> None:
    """Entries of other heads stay while weights are drawn."""
    model = tiny("gpt-2")
    seen: list[torch.Tensor] = []
    hook = model.transformer.h[1].attn.register_forward_pre_hook(
        lambda module, _: seen.append(module.c_proj.weight.detach().clone())
    )
    measures, left_out = measure(model, CONTEXTS, [llc(**FEW, layer=1, head=2)])
    hook.remove()
    assert not left_out
    assert {(row.layer, row.head) for row in measures["llc"]} == {(1, 2)}
    moved = sum((each - seen[0]).abs() for each in seen).sum(1) > 0
    assert moved.tolist() == [16 <= row < 24 for row in range(32)]
    assert "A head is one of a layer" in measure(model, CONTEXTS, [llc(**FEW, head=2)]).left_out["llc"]


def test_each_block_and_head() -> None:
    """All in one call, as each by itself."""
    model = tiny("gpt-2")
    one = measure(model, CONTEXTS, [llc(**FEW, layer=1, head=2)]).measures["llc"]
    rows = measure(model, CONTEXTS, [llc(**FEW, layer="each", head="each")]).measures["llc"]
    assert {(row.layer, row.head) for row in rows} == {
        (block, head) for block in range(2) for head in range(4)
    }
    own_rows = [row for row in rows if (row.layer, row.head) == (1, 2)]
    assert [(row.name, row.context, row.value) for row in own_rows] == [
        (row.name, row.context, row.value) for row in one
    ]
    assert (one[0].params["layer"], rows[0].params["layer"], rows[0].params["head"]) == (1, "each", "each")
    blocks = measure(model, CONTEXTS, [llc(**FEW, layer="each")]).measures["llc"]
    assert {(row.layer, row.head) for row in blocks} == {(0, None), (1, None)}
    left_out = measure(model, CONTEXTS, [llc(**FEW, layer="all")]).left_out
    assert left_out["llc"] == "llc: layer is a number or each, and not 'all'."


def test_kept_chains_of_a_model(tmp_path: Path) -> None:
    model = tiny("gpt-2")
    first = measure(model, CONTEXTS, [llc(**FEW, folder=tmp_path)]).measures
    assert len(list(tmp_path.iterdir())) == 2
    assert measure(model, CONTEXTS, [llc(**FEW, folder=tmp_path)]).measures == first
    with torch.no_grad():
        model.transformer.wte.weight[0, 0] += 1
    assert measure(model, CONTEXTS, [llc(**FEW, folder=tmp_path)]).measures != first
    assert len(list(tmp_path.iterdir())) == 4


def test_parameters_that_draw_nothing() -> None:
    model = tiny("gpt-2")
    with pytest.raises(BadMeasures, match="llc needs a value for nbeta, step_size, gamma"):
        measure(model, CONTEXTS, [llc()])
    for wrong in ({"nbeta": 0.0}, {"burn_in": 6}, {"chains": 0}, {"gamma": -1.0}, {"method": "hmc"}):
        assert "llc" in measure(model, CONTEXTS, [llc(**{**FEW, **wrong})]).left_out
    half = measure(model.to(torch.bfloat16), CONTEXTS, [llc(**FEW)]).left_out
    assert half["llc"].startswith("Weights are drawn in float32")


def test_losses_from_a_position_on() -> None:
    model = tiny("gpt-neox")
    whole, part = ModelLoss(model, CONTEXTS), ModelLoss(model, CONTEXTS, first=3)
    for late, every in zip(
        part.losses(range(len(CONTEXTS))), whole.losses(range(len(CONTEXTS))), strict=True
    ):
        np.testing.assert_array_equal(late, every[2:])
    for late, every in zip(part.losses_and_gradient([0, 1]), whole.losses([0, 1]), strict=True):
        np.testing.assert_allclose(late, every[2:], atol=1e-5)
    with pytest.raises(BadMeasures, match="first is a position"):
        ModelLoss(model, CONTEXTS, first=0)


def test_a_group_has_a_coefficient_of_its_own_by_a_query(store: Store) -> None:
    """nβ (mean of the drawn losses − loss) over the group's tokens, by hand, in float64."""
    model = tiny("gpt-2")
    dataset = store.add_dataset("d", random_dataset([len(ids) for ids in CONTEXTS]))
    store.publish_model(ModelFacts("a"))
    store.groups.add("late", "SELECT dataset, context, position FROM tokens WHERE position > 3")
    drawn: list[list[np.ndarray]] = []
    own = ModelLoss.losses_and_gradient

    def seen(objective: ModelLoss, contexts: Sequence[int]) -> list[np.ndarray]:
        losses = own(objective, contexts)
        by_context = dict(zip(contexts, losses, strict=True))
        drawn.append([by_context[number] for number in range(len(CONTEXTS))])
        return losses

    for part in ({}, {"layer": 1, "first": 2}):
        drawn.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ModelLoss, "losses_and_gradient", seen)
            rows = measure(model, dataset.ids(), [llc(**FEW, **part)]).measures["llc"]
        first = part.get("first", 1)
        kept = [draw for number, draw in enumerate(drawn) if number % FEW["draws"] >= FEW["burn_in"]]
        means = [np.mean([draw[context] for draw in kept], axis=0) for context in range(len(CONTEXTS))]
        variances = [np.var([draw[context] for draw in kept], axis=0) for context in range(len(CONTEXTS))]
        losses = ModelLoss(model, dataset.ids(), first=first).losses(range(len(CONTEXTS)))
        added = [mean - loss for mean, loss in zip(means, losses, strict=True)]
        late = np.concatenate([of_context[4 - first :] for of_context in added])

        store.add_measures("llc", rows, model="a", step=8, dataset="d", replace=True)
        store.add_measures("rankme", [Measure("rankme", 2.0)], model="a", step=8, dataset="d", replace=True)
        (group,) = store.query("group_llc", group="late").pl().iter_rows(named=True)
        assert (group["layer"], group["tokens"]) == (part.get("layer"), len(late))
        assert group["llc"] == pytest.approx(FEW["nbeta"] * late.mean(), rel=1e-9)
        assert group["llc_all"] == pytest.approx(FEW["nbeta"] * np.concatenate(added).mean(), rel=1e-9)
        tokens = store.sql("FROM llc_tokens ORDER BY context, position").pl()
        assert tokens["position"].to_list() == [p for ids in CONTEXTS for p in range(first, len(ids))]
        np.testing.assert_allclose(tokens["added"], np.concatenate(added), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(tokens["variance"], np.concatenate(variances), rtol=1e-6, atol=1e-12)
        whole = store.sql("SELECT value FROM measures WHERE name = 'llc' AND context IS NULL").fetchall()
        assert group["llc_all"] == pytest.approx(whole[0][0]), "each draw has all contexts here"
    assert set(store.measures()["name"]) >= {"llc", "rankme"}
    spoilt = replace(rows[0], token_means=(None, 1.0))
    with pytest.raises(BadMeasures, match="not as many means as variances"):
        store.add_measures("llc", [spoilt], model="a", step=9, dataset="d")
    spoilt = replace(rows[0], token_means=(None, float("nan")), token_variances=(None, 0.0))
    with pytest.raises(BadMeasures, match="not finite"):
        store.add_measures("llc", [spoilt], model="a", step=9, dataset="d")
