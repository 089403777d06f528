"""A slice holds what was appended, and is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.conftest import ragged
from trajstore.errors import BadLosses, BadName, DamagedFile, SliceExists, UnknownName
from trajstore.store import checks
from trajstore.store.disk import digests, layout
from trajstore.store.files import slices
from trajstore.store.files.slices import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.files.datasets import Dataset
    from trajstore.store.store import Store

LENGTHS = (5, 2, 9)


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.add_dataset("d", ragged(LENGTHS))


def losses(n: int = 13, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2, 1.5, n).astype(np.float32)


def append(store: Store, values: object, step: int = 7, **options: object) -> Path:
    return store.append(model="m", dataset="d", step=step, losses=values, **options)  # type: ignore[arg-type]


def test_long_format_by_hand(store: Store, dataset: Dataset) -> None:
    values = losses()
    append(store, values)
    rows = store.sql("SELECT context, position, loss FROM raw_losses ORDER BY ALL").fetchall()
    places = [(c, p) for c, n in enumerate(LENGTHS) for p in range(1, n)]
    assert [row[:2] for row in rows] == places
    assert [row[2] for row in rows] == values.tolist()
    tokens = store.sql("SELECT token FROM losses ORDER BY context, position").fetchall()
    assert [t for (t,) in tokens] == [int(t) for ids in dataset.ids() for t in ids[1:]]


def test_encodings_and_footer(store: Store, dataset: Dataset) -> None:
    values = losses()
    path = append(
        store, values, provenance=Provenance(revision="step7", weights="sha256:ab", tokens_seen=700)
    )
    meta = pq.read_metadata(path)
    encodings = {
        meta.row_group(0).column(i).path_in_schema: meta.row_group(0).column(i).encodings for i in range(3)
    }
    assert "BYTE_STREAM_SPLIT" in encodings["loss"]
    assert set(encodings["context"]) | set(encodings["position"]) <= {"PLAIN", "RLE"}
    assert {meta.row_group(0).column(i).compression for i in range(3)} == {"ZSTD"}
    facts = store.slice_facts("m", "d", 7)
    assert facts.tokens_sha256 == dataset.tokens_sha256
    assert facts.loss_sha256 == "sha256:" + hashlib.sha256(values.tobytes()).hexdigest()
    assert (facts.rows, facts.provenance.revision, facts.provenance.dtype) == (13, "step7", "float32")
    assert facts.provenance.time is not None
    assert store.sql("SELECT step, revision, tokens_seen FROM checkpoints").fetchall() == [(7, "step7", 700)]


def test_digest_finds_any_flipped_bit(store: Store, dataset: Dataset) -> None:
    data = append(store, losses()).read_bytes()
    assert digests.is_sealed(data)
    rng = random.Random(1)
    for _ in range(300):
        at, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        assert not digests.is_sealed(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
    assert not digests.is_sealed(data[:-1])


def test_an_array_a_context_and_a_torch_tensor_are_the_same(store: Store, dataset: Dataset) -> None:
    values = losses()
    append(store, np.split(values, [4, 5]), step=0)
    append(store, torch.tensor(values), step=1)
    matrix = store.matrix("d")
    assert matrix.values.tolist() == [values.tolist()] * 2


def test_tensors_of_a_graph_and_of_half_the_bits(store: Store, dataset: Dataset) -> None:
    values = torch.tensor(losses(), requires_grad=True)
    append(store, values, step=0)
    append(store, list(values.split([4, 1, 8])), step=1)
    append(store, list(values), step=2)
    half = values.to(torch.bfloat16)
    append(store, half, step=3)
    append(store, half.split([4, 1, 8]), step=4)
    pulled = store.matrix("d").values
    assert pulled[:3].tolist() == [losses().tolist()] * 3
    assert pulled[3:].tolist() == [half.float().tolist()] * 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (losses(12), r"shape \(12,\); d has 13 losses"),
        (losses(14), r"shape \(14,\); d has 13 losses"),
        (np.ones((13, 1)), r"losses of 13 contexts; d has 3"),
        ([losses(4), losses(2), losses(8)], r"context 1 has 2 losses; its 2 tokens have 1"),
        (np.where(np.arange(13) == 5, np.nan, 1.0), r"first is nan at context 2, position 1"),
        (
            np.where(np.arange(13) >= 4, np.inf, 1.0),
            r"9 of 13 losses .* first is inf at context 1, position 1",
        ),
        (np.ma.array(losses(), mask=np.arange(13) == 5), "a masked array; losses are plain numbers"),
        ([np.ma.array(losses(4)), losses(1), losses(8)], "a masked array"),
        (losses() + 1j, "an array of complex"),
        (torch.tensor(losses()) + 1j, "an array of complex"),
        ([str(value) for value in losses()], "an array of <U"),
        ([["1"] * 4, [1.0], [1.0] * 8], "an array of <U"),
        (losses() > 1, "an array of bool"),
        (torch.tensor(losses() > 1), "an array of bool"),
        ([None] * 13, "an array of object"),
        ([1.0, [2.0]] * 6 + [1.0], "these are not losses"),
        ([losses(4), 1.0, losses(8)], "each context must be one flat array"),
        (np.where(np.arange(13) == 5, 1e300, 1.0), "first is inf at context 2, position 1"),
        (np.where(np.arange(13) == 0, -2e-3, 1.0), r"first is -0.002.* at context 0, position 1"),
    ],
)
def test_losses_that_cannot_be_right(store: Store, dataset: Dataset, bad: object, message: str) -> None:
    with pytest.raises(BadLosses, match=message):
        append(store, bad)
    assert store.model_names() == []
    assert list((store.path / "tmp").iterdir()) == []


def test_rounding_below_zero_is_kept_as_it_is(store: Store, dataset: Dataset) -> None:
    values = losses()
    values[3] = -2e-5
    append(store, values)
    assert store.matrix("d").values[0, 3] == np.float32(-2e-5)
    values[3] = -0.05
    append(store, values, step=8, provenance=Provenance(dtype="bfloat16"))


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "null", "NULL", "a b", "a=b", "é"])
def test_names_that_cannot_be_folders(store: Store, dataset: Dataset, name: str) -> None:
    with pytest.raises(BadName, match="cannot be a model name"):
        store.append(model=name, dataset="d", step=0, losses=losses())
    assert [entry.name for entry in (store.path / "losses").iterdir()] == ["model=.empty"]


def test_unknown_dataset(store: Store, dataset: Dataset) -> None:
    with pytest.raises(UnknownName, match="There is no dataset 'dd' here; there is: d. Did you mean d"):
        store.append(model="m", dataset="dd", step=0, losses=losses())


def test_a_slice_never_changes_unless_replaced(store: Store, dataset: Dataset) -> None:
    first = append(store, losses(seed=0)).read_bytes()
    with pytest.raises(SliceExists, match="exists already"):
        append(store, losses(seed=1))
    assert layout.slice_path(store.path, "m", "d", 7).read_bytes() == first
    append(store, losses(seed=1), replace=True)
    assert store.matrix("d").values[0].tolist() == losses(seed=1).tolist()


def test_a_race_has_one_winner(store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job publishes between our look and our link."""
    link = os.link

    def late(source: Path, target: Path) -> None:
        if not target.exists():
            shutil.copy(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(SliceExists):
        append(store, losses())
    assert list((store.path / "tmp").iterdir()) == []


def test_a_repeated_link_over_nfs_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reply got lost: the file is linked, and the call says that it exists."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", twice)
    assert layout.publish(tmp_path, tmp_path / "a" / "b.bin", b"x")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"x"


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_full_disk_leaves_nothing(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            append(store, losses())
    assert not store.has_slice("m", "d", 7)
    assert list((store.path / "tmp").iterdir()) == []
    append(store, losses())


def test_colleagues_can_read(store: Store, dataset: Dataset) -> None:
    umask = os.umask(0o022)
    try:
        path = append(store, losses())
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_slice_under_another_label_is_refused(store: Store, dataset: Dataset) -> None:
    """Stale data under a new label, one of the mistakes this store exists to prevent."""
    path = append(store, losses())
    other = layout.slice_path(store.path, "m", "d", 8)
    other.parent.mkdir()
    shutil.copy(path, other)
    with pytest.raises(DamagedFile, match="it holds m on d at step 7, so it is under another's name"):
        store.matrix("d")


def test_losses_of_other_tokens_are_refused(store: Store, dataset: Dataset) -> None:
    append(store, losses())
    shutil.rmtree(store.path / "tokens" / "dataset=d")
    store.add_dataset("d", ragged(LENGTHS, seed=9))
    with pytest.raises(DamagedFile, match="of other tokens than those of d"):
        store.matrix("d")


def test_damaged_pages_are_an_error_and_not_a_number(store: Store, dataset: Dataset) -> None:
    path = append(store, losses())
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(2)
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 4
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match="slice.parquet is damaged.*score"):
        store.matrix("d")


@pytest.mark.parametrize("cut", [0, 3, 200])
def test_a_cut_file_is_named(store: Store, dataset: Dataset, cut: int) -> None:
    path = append(store, losses())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamagedFile, match=r"step=7/slice.parquet is damaged"):
        store.matrix("d")


def test_footer_is_plain_json(store: Store, dataset: Dataset) -> None:
    path = append(store, losses())
    facts = json.loads(pq.read_metadata(path).metadata[b"trajstore"])
    assert {
        "format",
        "model",
        "dataset",
        "step",
        "rows",
        "tokens_sha256",
        "loss_sha256",
        "dtype",
    } <= facts.keys()


def test_columns_are_kept_beside_the_loss_and_asked_for_in_sql(store: Store, dataset: Dataset) -> None:
    values, rank = losses(), np.arange(13)
    entropy = np.linspace(0, 2, 13, dtype=np.float32)
    append(store, values, step=0)
    append(store, values, step=1, columns={"rank": np.split(rank, [4, 5]), "entropy": entropy})
    append(store, values, step=2, columns={"entropy": torch.tensor(entropy)})
    rows = store.sql("SELECT loss, rank, entropy FROM scores ORDER BY step, context, position").fetchall()
    assert rows[:13] == [(loss, None, None) for loss in values.tolist()]
    assert rows[13:26] == list(zip(values.tolist(), range(13), entropy.tolist(), strict=True))
    assert rows[26:] == [
        (loss, None, each) for loss, each in zip(values.tolist(), entropy.tolist(), strict=True)
    ]
    assert store.sql("SELECT count(*) FROM losses").fetchall() == [(39,)]
    assert store.matrix("d").values.tolist() == [values.tolist()] * 3
    path = layout.slice_path(store.path, "m", "d", 1)
    assert slices.read_column(path, dataset, "rank").tolist() == rank.tolist()  # type: ignore[union-attr]
    assert slices.read_column(layout.slice_path(store.path, "m", "d", 0), dataset, "rank") is None
    assert checks.check(store, deep=True) == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"margin": np.zeros(13)}, "'margin' is not kept beside the loss; there are rank, entropy"),
        ({"rank": np.zeros(12)}, r"rank has the shape \(12,\); it takes one number for each of the 13"),
        ({"entropy": np.full(13, np.nan)}, "entropy has numbers that are not finite"),
        ({"rank": np.full(13, -1)}, "rank has numbers that are not finite, or below 0"),
    ],
)
def test_columns_that_cannot_be_right(
    store: Store, dataset: Dataset, columns: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(BadLosses, match=message):
        append(store, losses(), columns=columns)
    assert store.steps("m", "d") == []


def test_a_dataset_made_anew_is_read_anew(store: Store, dataset: Dataset) -> None:
    """A store that is open notices that a dataset's files are others."""
    assert store.dataset("d") is store.dataset("d")
    shutil.rmtree(dataset.folder)
    with pytest.raises(UnknownName):
        store.dataset("d")
    again = store.add_dataset("d", ragged([3, 2], seed=9))
    assert store.dataset("d").lengths.tolist() == [3, 2]
    assert [ids.tolist() for ids in store.dataset("d").ids()] == [ids.tolist() for ids in again.ids()]
