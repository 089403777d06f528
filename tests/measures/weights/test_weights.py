"""Norms, ranks and distances of weights are those of NumPy; the unigram latent comes to a planted direction."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.helpers.architectures import tiny
from trajstore.errors import BadMeasures
from trajstore.measures import measure
from trajstore.measures.definitions import own
from trajstore.measures.weights.matrices import singular_values
from trajstore.measures.weights.unigram_latent import fit

if TYPE_CHECKING:
    from trajstore.measures import Measure, MeasureDefinition

CONTEXTS = [np.arange(6), np.arange(3, 9)]


def named(name: str, **parameters: object) -> MeasureDefinition:
    [definition] = [each for each in own() if each.name == name]
    return definition.with_parameters(**parameters)


def by_matrix(rows: list[Measure]) -> dict[tuple[str, int | None, object], float]:
    return {(row.name, row.layer, row.params["matrix"]): row.value for row in rows}


@pytest.mark.parametrize("kind", ["gpt-2", "olmo-2"])
def test_norms_and_ranks_of_a_model(kind: str) -> None:
    model = tiny(kind)
    measures, left_out = measure(model, CONTEXTS, [named("weight_norm"), named("effective_rank")])
    assert not left_out
    norms, ranks = by_matrix(measures["weight_norm"]), by_matrix(measures["effective_rank"])
    total = 0.0
    for full_name, parameter in model.named_parameters():
        parts = full_name.split(".")
        inside = parts[1] in ("h", "layers")
        name, layer = (".".join(parts[3:]), int(parts[2])) if inside else (full_name, None)
        values = parameter.detach().double().numpy()
        total += (values**2).sum()
        assert norms["weight_norm", layer, name] == pytest.approx(np.sqrt((values**2).sum()))
        if values.ndim == 2:
            p = np.linalg.svd(values, compute_uv=False)
            p /= p.sum()
            assert ranks["effective_rank", layer, name] == pytest.approx(
                np.exp(-(p * np.log(p)).sum()), rel=1e-6
            )
    assert norms["weight_norm", None, "all"] == pytest.approx(np.sqrt(total))
    assert len(norms) == len(list(model.parameters())) + 1


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_singular_values_in_closed_forms(shape: tuple[int, int]) -> None:
    matrix = np.zeros(shape, np.float32)
    matrix[[0, 1, 2], [0, 1, 2]] = [3, 0, 0.5]
    assert singular_values(torch.from_numpy(matrix)) == pytest.approx([3, 0.5, 0, 0], abs=1e-7)
    line = np.outer(np.arange(1, shape[0] + 1), np.arange(1, shape[1] + 1)).astype(np.float32)
    assert np.count_nonzero(singular_values(torch.from_numpy(line))) == 1


@pytest.mark.parametrize("shape", [(2100, 130), (130, 300)])
def test_singular_values_over_several_blocks_are_those_of_the_whole_matrix(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).normal(size=shape) * 10.0 ** -np.linspace(0, 4, shape[1])
    values = np.linalg.svd(matrix.astype(np.float32).astype(np.float64), compute_uv=False)
    large = values > 1e-6 * values[0]
    got = singular_values(torch.from_numpy(matrix.astype(np.float32)))
    np.testing.assert_allclose(got[large], values[large], rtol=1e-6)


def test_a_matrix_of_zeros_has_no_rank() -> None:
    model = tiny("gpt-2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight.zero_()
        model.transformer.h[1].mlp.c_proj.weight.copy_(torch.eye(128)[:, :32] * 7)
    ranks = by_matrix(measure(model, CONTEXTS, [named("effective_rank")]).measures["effective_rank"])
    assert ("effective_rank", 1, "mlp.c_fc.weight") not in ranks
    assert ranks["effective_rank", 1, "mlp.c_proj.weight"] == pytest.approx(32)


def test_distances_by_hand() -> None:
    model = tiny("gpt-neox")
    now = {name: each.clone() for name, each in model.state_dict().items()}
    last, earlier = copy.deepcopy(now), copy.deepcopy(now)
    name, other = "gpt_neox.layers.1.attention.dense.weight", "gpt_neox.final_layer_norm.bias"
    last[name][0, 0] -= 3
    last[name][0, 1] -= 4
    earlier[name][0, 0] -= 3 + 5  # the update before went along one of the two
    earlier[name][0, 1] -= 4
    earlier[other] -= 1
    last[other] -= 1
    rows = measure(model, CONTEXTS, [named("weight_distance")], previous=[last, earlier]).measures
    values = by_matrix(rows["weight_distance"])
    assert values["weight_distance", 1, "attention.dense.weight"] == pytest.approx(5)
    assert values["weight_distance_cosine", 1, "attention.dense.weight"] == pytest.approx(15 / 25)
    assert values["weight_distance", None, other] == pytest.approx(32**0.5)
    assert ("weight_distance_cosine", None, other) not in values  # it had not moved before
    assert values["weight_distance", 0, "attention.dense.weight"] == 0
    assert values["weight_distance", None, "all"] == pytest.approx((25 + 32) ** 0.5)
    assert values["weight_distance_cosine", None, "all"] == pytest.approx(15 / ((25 + 32) ** 0.5 * 5))
    one = by_matrix(
        measure(model, CONTEXTS, [named("weight_distance")], previous=[last]).measures["weight_distance"]
    )
    assert not any("cosine" in key[0] for key in one)


def test_distances_without_what_they_take() -> None:
    model = tiny("gpt-neox")
    assert (
        "takes the weights of the checkpoint before"
        in measure(model, CONTEXTS, [named("weight_distance")])[1]["weight_distance"]
    )
    left_out = measure(
        model, CONTEXTS, [named("weight_distance")], previous=[tiny("llama").state_dict()]
    ).left_out
    assert "has no gpt_neox.embed_in.weight of the same shape" in left_out["weight_distance"]


def test_unigram_latent_finds_a_planted_direction() -> None:
    """Where the head can say the frequencies exactly, the divergence goes to 0; where it cannot, it does not."""
    draw = np.random.default_rng(0)
    model = tiny("gpt-neox")
    counts = np.exp(draw.normal(scale=2, size=300))
    log_f = np.log(counts / counts.sum())
    for planted in (True, False):
        with torch.no_grad():
            weight = model.lm_head.weight
            weight.copy_(torch.as_tensor(draw.normal(size=(300, 32)) * 0.3))
            if planted:
                weight[:, 5] = torch.as_tensor(log_f - log_f.mean())
        definition = named("unigram_latent", table=counts, smoothing=0.0, steps=1500)
        rows = measure(model, CONTEXTS, [definition]).measures["unigram_latent"]
        values = {(row.name, row.params.get("direction")): row.value for row in rows}
        if planted:
            assert values["unigram_latent", "model||counts"] < 1e-3
            assert values["unigram_latent", "counts||model"] < 1e-3
            assert values["unigram_latent_distance", None] < 1
        else:
            assert values["unigram_latent", "model||counts"] > 0.3
            assert values["unigram_latent_distance", None] > 10


def test_unigram_latent_goes_down_the_gradient_of_its_definition() -> None:
    """Adam as it is written in its paper, on a numeric gradient in float64."""
    draw = np.random.default_rng(1)
    weight, log_f = draw.normal(size=(7, 3)), np.log(draw.dirichlet(np.ones(7)))

    def distance(x: np.ndarray) -> float:
        z = weight @ x
        return float(np.linalg.norm(z - np.logaddexp.reduce(z) - log_f))

    x, first, second = np.zeros(3), np.zeros(3), np.zeros(3)
    for step in range(1, 21):
        gradient = np.array([(distance(x + h) - distance(x - h)) / 2e-6 for h in 1e-6 * np.eye(3)])
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        x -= 0.01 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    mine = fit(torch.as_tensor(weight).float(), 0.0, torch.as_tensor(log_f).float(), 0.01, 20)
    assert mine.numpy() == pytest.approx(x, abs=1e-4)
    with pytest.raises(BadMeasures, match="1 step or more at a rate above 0"):
        named("unigram_latent", steps=0).make_stream()
