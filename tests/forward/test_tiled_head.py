"""Tiles of the head against whole rows of logits: ties, ranks that must not count themselves, entropies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.architectures import by_definition
from trajstore.forward import tiled_head
from trajstore.forward.output_heads import Head
from trajstore.forward.tiled_head import Tile, of_logits, tiled

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = ("rank", "entropy")


def problem(n: int = 70, width: int = 24, rows: int = 500) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, weights of which each ten rows are the same row, and targets.

    Small whole numbers over eight: their products and sums are exact, so that equal logits are equal to the bit.
    """
    torch.manual_seed(0)
    weight = torch.randint(-4, 5, (rows // 10, width)).repeat(10, 1) / 8
    return torch.randint(-4, 5, (n, width)) / 8.0, weight, torch.randint(0, rows, (n,))


def assert_by_definition(found: tiled_head.Columns, logits: torch.Tensor, targets: torch.Tensor) -> None:
    wanted = by_definition(
        np.vstack([logits.double().numpy(), np.zeros((1, logits.shape[1]))]), np.r_[0, targets.numpy()]
    )
    np.testing.assert_allclose(found.loss.numpy(), wanted.loss, rtol=0, atol=1e-5)
    assert found.rank is not None
    assert found.entropy is not None
    np.testing.assert_array_equal(found.rank.numpy(), wanted.rank)
    np.testing.assert_allclose(found.entropy.numpy(), wanted.entropy, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tile", [Tile(), Tile(16, 64), Tile(7, 13), Tile(1, 500), Tile(70, 1)])
@pytest.mark.parametrize("change", [(1.0, None), (0.3, None), (1.0, 4.0)])
def test_ties_do_not_count(tile: Tile, change: tuple[float, float | None]) -> None:
    hidden, weight, targets = problem()
    head = Head(weight, None, *change)
    exact = hidden.double() @ weight[:50].double().T * change[0]
    if change[1] is not None:
        exact = change[1] * torch.tanh(exact / change[1])
    assert_by_definition(tiled(hidden, head, targets, tile, ALL), exact.repeat(1, 10), targets)


def test_a_target_whose_logit_came_out_otherwise_before_is_counted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden, weight, targets = problem()
    again = []
    first, second = tiled_head.TiledHead._logits_at, tiled_head.TiledHead._higher
    monkeypatch.setattr(tiled_head.TiledHead, "_logits_at", lambda *args: first(*args) * (1 - 1e-7) - 1e-6)

    def counted(*args: torch.Tensor) -> torch.Tensor:
        again.append(len(args[1]))
        return second(*args)

    monkeypatch.setattr(tiled_head.TiledHead, "_higher", counted)
    found = tiled(hidden, Head(weight), targets, Tile(32, 64), ALL)
    assert again == [32, 32, 6]
    assert_by_definition(found, (hidden.double() @ weight[:50].double().T).repeat(1, 10), targets)


@pytest.mark.parametrize("width", [16, 64, 96, 128])
def test_the_targets_logits_are_those_of_the_tiles_so_that_one_pass_is_enough(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not needed for a right rank, but for a quick one."""
    torch.manual_seed(0)
    hidden, weight, targets = (
        torch.randn(300, width),
        torch.randn(2096, width),
        torch.randint(0, 2096, (300,)),
    )
    monkeypatch.delattr(tiled_head.TiledHead, "_higher")
    assert tiled(hidden, Head(weight), targets, Tile(), ["rank"]).rank is not None


def test_logits_in_pieces() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 40) * 3, torch.randint(0, 40, (50,))
    logits[:, 3] = -torch.inf  # an id that the model rules out
    targets[targets == 3] = 4
    finite = logits.clone()
    finite[:, 3] = -1e9
    for tile in (Tile(), Tile(3, 40), Tile(1, 1)):
        assert_by_definition(of_logits(logits, targets, tile, ALL), finite, targets)


def test_entropy_of_a_certain_and_of_an_even_prediction() -> None:
    hidden = torch.tensor([[0.0], [1.0]])
    weight = torch.zeros(1000, 1)
    weight[123] = 200.0
    found = tiled(hidden, Head(weight), torch.tensor([5, 123]), Tile(2, 64), ALL)
    assert found.entropy is not None
    assert found.rank is not None
    np.testing.assert_allclose(found.entropy, [np.log(1000), 0.0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.loss, [np.log(1000), 0.0], rtol=1e-6, atol=1e-9)
    assert found.rank.tolist() == [0, 0]


def test_confident_losses_are_not_far_below_zero() -> None:
    """Differences of large float32 numbers: −1e-3 is where a loss is refused."""
    torch.manual_seed(0)
    weight = torch.randn(5000, 32)
    hidden = 40 * torch.nn.functional.normalize(torch.randn(200, 32), dim=1)
    logits = hidden @ weight.T
    targets = logits.argmax(1)
    found = tiled(hidden, Head(weight), targets, Tile(64, 256))
    wanted = (logits.double().logsumexp(1) - logits.double().amax(1)).numpy()
    assert logits.max() > 150
    np.testing.assert_allclose(found.loss, wanted, rtol=0, atol=5e-5)
