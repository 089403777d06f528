"""Blocks of columns against the matrix pulled whole."""

from __future__ import annotations

import numpy as np
import pytest

from trajstore.errors import MissingSlices
from trajstore.progress import Progress
from trajstore.store.matrix.blocks import SliceBlocks
from trajstore.store.matrix.matrix import choose_sites
from trajstore.store.store import Store

ROWS = [(model, step) for model in ("a", "b") for step in (0, 1, 2, 4, 8, 16, 32, 64)]


class Heard(Progress):
    """Keeps what is said of each slice."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def advance(self, amount: int, note: str = "") -> None:
        self.said.append(note)


def blocks_of(store: Store, group: str | None, limit: int, **options: object) -> SliceBlocks:
    sites = []
    for name in ("d", "e"):
        dataset = store.dataset(name)
        members = None if group is None else store.groups.members(group, dataset)
        sites.append(choose_sites(dataset, members, None, "predict", pad_first=False))
    return SliceBlocks(store.path, ROWS, sites, limit=limit, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("group", [None, "second_half", "digits"])
@pytest.mark.parametrize("limit", [1, 4 * 16 * 13, 1 << 20])
def test_side_by_side_they_are_the_matrix(planted: Store, group: str | None, limit: int) -> None:
    if group == "digits":  # a group without a token in d
        planted.groups.add("of_e", "SELECT dataset, context, position FROM tokens WHERE dataset = 'e'")
        group = "of_e"
    blocks = blocks_of(planted, group, limit)
    expected = planted.matrix(["d", "e"], group=group).values
    assert blocks.shape == expected.shape
    for _ in range(2):  # they can be gone through again
        starts, parts = zip(*((start, block.copy()) for start, block in blocks), strict=True)
        assert all(part.nbytes <= max(limit, 4 * 16) for part in parts)
        assert list(starts) == np.cumsum([0, *(part.shape[1] for part in parts)])[:-1].tolist()
        np.testing.assert_array_equal(np.hstack(parts), expected)
    assert blocks.reads == (0 if len(parts) == 1 else len(parts) * 16)


@pytest.mark.parametrize("group", [None, "of_e"])
@pytest.mark.parametrize("limit", [1, 4 * 97 * 5, 1 << 20])
def test_bands_have_every_loss_once_and_read_every_slice_once(
    planted: Store, group: str | None, limit: int
) -> None:
    planted.groups.add("of_e", "SELECT dataset, context, position FROM tokens WHERE dataset = 'e'")
    read: list[str] = []
    blocks = blocks_of(planted, group, limit, progress=Heard(read))
    expected, n = blocks.band_reads, 0
    found = np.full(blocks.shape, np.nan, dtype=np.float32)
    for row, column, band in blocks.bands():
        at = found[row : row + band.shape[0], column : column + band.shape[1]]
        assert np.isnan(at).all()
        at[:] = band
        n += 1
    np.testing.assert_array_equal(found, planted.matrix(["d", "e"], group=group).values)
    assert len(read) == expected == 16 * (2 if group is None else 1)
    assert n > 1 or limit == 1 << 20
    assert blocks.band_reads == (0 if limit == 1 << 20 else expected)


def test_what_is_missing_is_an_error_or_nan(planted: Store) -> None:
    planted.drop([("a", "d", 4)])
    with pytest.raises(MissingSlices, match="a on d at step 4"):
        list(blocks_of(planted, None, 1000))
    whole = np.hstack([block.copy() for _, block in blocks_of(planted, None, 1000, missing="nan")])
    np.testing.assert_array_equal(whole, planted.matrix(["d", "e"], missing="nan").values)
    assert np.isnan(whole).sum() == 97
