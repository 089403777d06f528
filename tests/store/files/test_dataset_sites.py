"""A dataset's contexts, positions and losses lie where a list of all of its tokens has them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import PLANTED_LENGTHS
from trajstore.store.store import Store

SITES = [(context, position) for context, n in enumerate(PLANTED_LENGTHS) for position in range(n)]
CONTEXT, POSITION = np.array(SITES).T
ROWS = np.arange(len(SITES))


def test_rows_and_sites_are_each_other_s_inverse(planted: Store) -> None:
    dataset = planted.dataset("d")
    assert dataset.tokens_at(CONTEXT, POSITION).tolist() == ROWS.tolist()
    assert [dataset.site_of(row) for row in ROWS.tolist()] == SITES
    assert dataset.contexts_of(ROWS[::-1]).tolist() == CONTEXT[::-1].tolist()
    assert dataset.offsets.tolist() == [0, *np.flatnonzero(np.diff(CONTEXT)) + 1, len(SITES)]


def test_losses_are_those_of_every_position_but_the_first(planted: Store) -> None:
    dataset = planted.dataset("d")
    context, position = dataset.loss_keys
    assert list(zip(context.tolist(), position.tolist(), strict=True)) == [site for site in SITES if site[1]]
    assert dataset.losses_at(context, position).tolist() == list(range(dataset.n_losses))
    assert [dataset.site_of_loss(loss) for loss in range(dataset.n_losses)] == [
        site for site in SITES if site[1]
    ]
    chosen = np.array([1, 4])
    assert dataset.losses_in(chosen).tolist() == [site[0] in (1, 4) for site in SITES if site[1]]


@pytest.mark.parametrize(
    ("context", "position", "known"),
    [
        (0, 0, True),
        (0, PLANTED_LENGTHS[0] - 1, True),
        (0, PLANTED_LENGTHS[0], False),
        (-1, 0, False),
        (0, -1, False),
    ],
)
def test_only_sites_of_the_dataset_are_known(
    planted: Store, context: int, position: int, known: bool
) -> None:
    dataset = planted.dataset("d")
    assert dataset.has_sites(np.array([context, 2]), np.array([position, 1])).tolist() == [known, True]
    assert not dataset.has_sites(np.array([len(PLANTED_LENGTHS)]), np.array([0])).any()
