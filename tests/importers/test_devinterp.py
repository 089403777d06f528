"""Losses of draws in devinterp's Zarr: they come in bit-equal, and give a group's own learning coefficient in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import ragged
from trajstore.errors import BadSource
from trajstore.importers.ingest import ingest

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store

zarr = pytest.importorskip("zarr")

CHAINS, DRAWS, BUFFER = 2, 3, 2
LENGTHS = (4, 4, 4)
GROUP_LLC = """
WITH drawn AS (
  SELECT dataset, context, position, avg(loss) AS mean, var_pop(loss) AS variance, count(*) AS draws
  FROM losses WHERE dataset = 'd' AND model LIKE 'samples-chain%'
  GROUP BY ALL
)
SELECT 30 * avg(mean - loss) AS llc
FROM drawn JOIN losses USING (dataset, context, position) JOIN groups.late USING (dataset, context, position)
WHERE model = 'm' AND step = 8
"""


def draws(seed: int = 0) -> np.ndarray:
    """Losses (chain, draw, context, position − 1)."""
    shape = (CHAINS, DRAWS, len(LENGTHS), LENGTHS[0] - 1)
    return np.random.default_rng(seed).gamma(2, 1.5, shape).astype(np.float32)


def save(path: Path, **observables: tuple[np.ndarray, np.ndarray]) -> Path:
    """A store as devinterp's sample writes it, with (losses, ids) of each observable."""
    root = zarr.open_group(path, mode="w")
    for name, (losses, ids) in observables.items():
        axes = {"dimension_names": ("chain", "draw", f"batch_{name}", "token_pos"), "fill_value": np.nan}
        root.create_array(f"loss_{name}", data=losses, chunks=(1, BUFFER, *losses.shape[2:]), **axes)
        root.create_array(f"input_ids_{name}", data=ids, dimension_names=(f"batch_{name}", "token"))
    size = (CHAINS, DRAWS, 1, 3)
    root.create_array("sampling_loss", data=np.zeros(size, np.float32))  # of batches that are not kept
    root.create_array("init_loss", data=np.zeros(size[::3], np.float32))
    root.attrs["completed"] = 1
    return path


@pytest.fixture
def ids(store: Store) -> np.ndarray:
    return np.stack(store.add_dataset("d", ragged(LENGTHS)).ids()).astype(np.int64)


def test_draws_are_steps_of_a_model_a_chain(store: Store, ids: np.ndarray, tmp_path: Path) -> None:
    losses = draws()
    path = save(tmp_path / "samples.zarr", code=(losses, ids))
    report = ingest(store, path, dataset="d")
    assert (report.written, report.failures, report.tally.unchecked) == (CHAINS * DRAWS, [], 0)
    for chain in range(CHAINS):
        for draw in range(DRAWS):
            stored = store.slice_losses(f"samples-chain{chain}", "d", draw)
            assert stored.tobytes() == losses[chain, draw].tobytes()
    assert ingest(store, path, dataset="d", format="devinterp").skipped == CHAINS * DRAWS


def test_of_several_observables_the_dataset_is_taken(store: Store, ids: np.ndarray, tmp_path: Path) -> None:
    path = save(tmp_path / "s.zarr", d=(draws(), ids), other=(draws(1), ids + 1))
    report = ingest(store, path, dataset="d", model="s-chain1", step=2)
    assert (report.written, report.failures) == (1, [])
    assert store.slice_losses("s-chain1", "d", 2).tobytes() == draws()[1, 2].tobytes()


def test_the_learning_coefficient_of_a_group(store: Store, ids: np.ndarray, tmp_path: Path) -> None:
    """nβ (mean of the drawn losses − the checkpoint's) over the group's tokens, by hand and in one query."""
    losses, nbeta = draws(), 30.0
    own = draws(5)[0, 0]
    store.append(model="m", dataset="d", step=8, losses=own.ravel())
    ingest(store, save(tmp_path / "samples.zarr", code=(losses, ids)), dataset="d")
    store.groups.add("late", "SELECT dataset, context, position FROM tokens WHERE position >= 2")
    excess = losses.astype(np.float64).mean(axis=(0, 1)) - own
    ((llc,),) = store.sql(GROUP_LLC).fetchall()
    assert llc == pytest.approx(nbeta * excess[:, 1:].mean(), rel=1e-12)


def test_what_is_no_store_of_draws(store: Store, ids: np.ndarray, tmp_path: Path) -> None:
    (empty := tmp_path / "empty.zarr").mkdir()
    (file := tmp_path / "file.zarr").touch()
    short = save(tmp_path / "short.zarr", code=(draws(), ids[:, 1:]))
    none = save(tmp_path / "none.zarr")
    with pytest.raises(BadSource, match="is a file; devinterp is a folder"):
        ingest(store, file, dataset="d")
    report = ingest(store, [empty, short, none], dataset="d")
    reasons = [failure.reason for failure in report.failures]
    for reason, message in zip(
        reasons, ("cannot be read as devinterp: Group", "are to be", "has no losses of draws"), strict=True
    ):
        assert message in reason


def test_a_damaged_chunk_is_named_and_leaves_whole_draws(
    store: Store, ids: np.ndarray, tmp_path: Path
) -> None:
    """It is refused, however much of what stands before it DuckDB has read by then."""
    path = save(tmp_path / "samples.zarr", code=(draws(), ids))
    (path / "loss_code" / "c" / "1" / "0" / "0" / "0").write_bytes(b"damaged")
    report = ingest(store, path, dataset="d")
    assert [failure.what for failure in report.failures] == [str(path)]
    assert "cannot be read as devinterp" in report.failures[0].reason
    kept = store.steps("samples-chain0", "d") if report.written else []
    assert len(kept) == report.written < DRAWS + 1
    for draw in kept:
        assert store.slice_losses("samples-chain0", "d", draw).tobytes() == draws()[0, draw].tobytes()
