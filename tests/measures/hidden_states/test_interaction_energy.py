"""Interaction energies are those of the definition in float64, in batches, in blocks and in closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trajstore.measures.hidden_states import interaction_energy as module
from trajstore.measures.hidden_states.interaction_energy import interaction_energy


def by_definition(states: np.ndarray) -> float:
    """In float64, pair by pair."""
    directions = states.astype(np.float64) / np.linalg.norm(states.astype(np.float64), axis=1, keepdims=True)
    return float(np.exp(directions @ directions.T).sum() / len(states) ** 2)


def energy(states: np.ndarray) -> float:
    hidden = torch.as_tensor(states, dtype=torch.float32)[None]
    return interaction_energy(hidden, torch.tensor([len(states)]), padded=False).item()


def test_closed_forms() -> None:
    assert energy(np.array([[3.0, 4.0]])) == pytest.approx(np.e, rel=1e-6)
    assert energy(np.outer([1, 2, 0.5, 7], [1.0, 2, 3])) == pytest.approx(np.e, rel=1e-6)
    assert energy(np.array([[1.0, 1], [-2, -2]])) == pytest.approx(np.cosh(1), rel=1e-6)
    for n in (2, 5, 64):
        assert energy(3 * np.eye(64)[:n]) == pytest.approx(1 + (np.e - 1) / n, rel=1e-6)


@pytest.mark.parametrize("width", [3, 512])
def test_a_context_of_512_tokens(width: int) -> None:
    """Also where all states share a large part, as in trained models."""
    draw = np.random.default_rng(width)
    states = draw.normal(size=(512, width)).astype(np.float32)
    for shared in (0.0, 3.0, 300.0):
        assert energy(states + np.float32(shared)) == pytest.approx(
            by_definition(states + np.float32(shared)), abs=1e-5
        )


@pytest.mark.parametrize("held", [1, 50, 1 << 20])
def test_padded_batches_in_blocks(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is held at a time, and whatever stands in the padding."""
    monkeypatch.setattr(module, "CPU_COSINES", held)
    draw = np.random.default_rng(0)
    lengths = [9, 1, 4, 12]
    states = draw.normal(size=(4, 12, 5)).astype(np.float32)
    exact = [by_definition(states[number, :length]) for number, length in enumerate(lengths)]
    assert interaction_energy(torch.from_numpy(states), torch.tensor(lengths)).numpy() == pytest.approx(
        np.array(exact), abs=1e-6
    )
