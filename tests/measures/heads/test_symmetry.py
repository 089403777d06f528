"""Symmetry sums: 0 along the diagonals of a Toeplitz matrix, across those of a Hankel matrix, else entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import hankel, toeplitz

from tests.helpers.architectures import tiny
from trajstore.errors import BadMeasures
from trajstore.measures import MeasureDefinition, measure, run
from trajstore.measures.definitions import own
from trajstore.measures.heads import symmetry
from trajstore.measures.heads.symmetry import symmetry_sums


def named(name: str, **parameters: object) -> MeasureDefinition:
    [definition] = [each for each in own() if each.name == name]
    return definition.with_parameters(**parameters)


def by_definition(matrix: np.ndarray, *, causal: bool) -> tuple[float, float]:
    """Entry by entry."""
    along = across = 0.0
    n = len(matrix)
    for i in range(n - 1):
        for j in range(n):
            inside = not causal or j <= i
            if j + 1 < n and inside:
                along += abs(matrix[i + 1, j + 1] - matrix[i, j])
            if j >= 1 and inside:
                across += abs(matrix[i + 1, j - 1] - matrix[i, j])
    return along, across


@pytest.mark.parametrize("causal", [False, True])
def test_closed_forms(causal: bool) -> None:
    draw = np.random.default_rng(0)
    first, last = draw.normal(size=9), draw.normal(size=9)
    last[0] = first[-1]
    exact_toeplitz = toeplitz(first, draw.normal(size=9))
    matrices = torch.as_tensor(np.stack([exact_toeplitz, hankel(first, last), draw.normal(size=(9, 9))]))
    along, across = symmetry_sums(matrices, causal=causal)
    assert (along[0], across[1]) == pytest.approx((0, 0), abs=1e-12)
    assert min(across[0], along[1]) > 1
    for number, matrix in enumerate(matrices.numpy()):
        assert (along[number], across[number]) == pytest.approx(
            by_definition(matrix, causal=causal), abs=1e-9
        )


def test_attention_of_a_model() -> None:
    model = tiny("gpt-neox")
    contexts = [np.random.default_rng(n).integers(0, 300, 6 + 2 * n) for n in range(3)]
    names = ["translational_symmetry", "diagonal_score"]
    measures, left_out = measure(model, contexts, [named(name) for name in names])
    assert not left_out
    model.set_attn_implementation("eager")
    rows = {
        (row.name, row.layer, row.head, row.context): row.value for name in names for row in measures[name]
    }
    for context, ids in enumerate(contexts):
        with torch.no_grad():
            attentions = model(torch.as_tensor(ids)[None], output_attentions=True).attentions
        for layer, head in np.ndindex(2, 4):
            along, across = by_definition(attentions[layer][0, head].double().numpy(), causal=True)
            assert rows["translational_symmetry_along", layer, head, context] == pytest.approx(
                along, abs=1e-5
            )
            assert rows["translational_symmetry_across", layer, head, context] == pytest.approx(
                across, abs=1e-5
            )
            assert rows["diagonal_score", layer, head, context] == pytest.approx(across - along, abs=1e-5)
    assert ("diagonal_score", 0, 0, None) in rows


def test_qk_matrices_of_a_small_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    monkeypatch.setattr(run, "_run", None)  # no pass is made
    contexts = [np.arange(5)]
    rows = measure(model, contexts, [named("translational_symmetry", matrix="qk")]).measures[
        "translational_symmetry"
    ]
    embedding = model.model.embed_tokens.weight.detach().double().numpy()
    attention = model.model.layers[1].self_attn
    query = embedding @ attention.q_proj.weight.detach().double().numpy()[16:24].T
    key = embedding @ attention.k_proj.weight.detach().double().numpy()[8:16].T
    along, across = by_definition(query @ key.T, causal=False)
    own_rows = {row.name: row.value for row in rows if (row.layer, row.head) == (1, 2)}
    assert own_rows["translational_symmetry_along"] == pytest.approx(along, rel=1e-5)
    assert own_rows["translational_symmetry_across"] == pytest.approx(across, rel=1e-5)
    assert {row.context for row in rows} == {None}
    monkeypatch.setattr(symmetry, "MOST_TOKENS", 299)
    left_out = measure(model, contexts, [named("diagonal_score", matrix="qk")]).left_out
    assert left_out["diagonal_score"].startswith("A QK matrix of 300 tokens is not made")
    with pytest.raises(BadMeasures, match="attention or qk"):
        named("diagonal_score", matrix="ov").make_stream()
