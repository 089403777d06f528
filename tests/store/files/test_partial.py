"""Partial slices: some whole contexts only, said wherever they are shown, and completed or replaced whole."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.conftest import PLANTED_LENGTHS, ragged
from tests.helpers.tiny_models import neox, random_dataset, save_run
from trajstore.analysis.components.pca import pca
from trajstore.analysis.trajectories import group_trajectory
from trajstore.cli import app
from trajstore.errors import (
    BadLosses,
    DamagedFile,
    LossesDiffer,
    MissingSlices,
    SliceExists,
    TrajstoreError,
    UnknownName,
)
from trajstore.pipelines import trajectories
from trajstore.pipelines.components.pca import pca as pca_of_store
from trajstore.scoring import score, token_losses
from trajstore.scoring.plan import plan
from trajstore.scoring.run import run as run_plan
from trajstore.store import checks
from trajstore.store.files import publish_slices, slices
from trajstore.store.files.slices import Provenance
from trajstore.store.matrix.matrix import SliceRead, choose_sites, each_slice
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trajstore.store.files.datasets import Dataset
    from trajstore.store.store import Store

LENGTHS = (5, 2, 9, 4)
OF = np.repeat(np.arange(4), np.array(LENGTHS) - 1)
"""The context of each loss."""
ALL = np.random.default_rng(0).gamma(2, 1.5, len(OF)).astype(np.float32)


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.add_dataset("d", ragged(LENGTHS))


def of(*contexts: int, values: np.ndarray = ALL) -> np.ndarray:
    return values[np.isin(OF, contexts)]


def add(store: Store, *contexts: int, values: np.ndarray = ALL, step: int = 7, **options: object) -> Path:
    return store.append(  # type: ignore[arg-type]
        model="m",
        dataset="d",
        step=step,
        losses=of(*contexts, values=values),
        contexts=list(contexts),
        **options,
    )


def test_what_a_partial_slice_holds(store: Store, dataset: Dataset) -> None:
    path = add(store, 0, 2)
    rows = store.sql("SELECT context, position, loss FROM raw_losses ORDER BY ALL").fetchall()
    assert [row[:2] for row in rows] == [(c, p) for c in (0, 2) for p in range(1, LENGTHS[c])]
    assert [row[2] for row in rows] == of(0, 2).tolist()
    assert store.sql("SELECT rows, path FROM coverage").fetchall() == [
        (12, "losses/model=m/dataset=d/step=7/slice.parquet")
    ]
    facts = json.loads(pq.read_metadata(path).metadata[b"trajstore"])
    assert (facts["rows"], facts["partial"]) == (12, True)
    assert not store.has_slice("m", "d", 7)
    assert store.steps("m", "d") == [7]
    assert store.slice_facts("m", "d", 7).partial
    assert np.array_equal(store.slice_losses("m", "d", 7), np.where(np.isin(OF, (0, 2)), ALL, np.nan), True)
    with pytest.raises(UnknownName, match="There is no slice 'm/d/8' here; there is: m/d/7"):
        store.slice_losses("m", "d", 8)


def test_parts_make_a_whole(store: Store, dataset: Dataset) -> None:
    add(store, 2)
    add(store, 0, 2)
    assert not store.has_slice("m", "d", 7)
    whole = add(store, 1, 3)
    assert store.has_slice("m", "d", 7)
    time = store.slice_facts("m", "d", 7).provenance.time
    alone = store.append(model="m", dataset="d", step=8, losses=ALL, provenance=Provenance(time=time))
    assert not store.slice_facts("m", "d", 7).partial
    assert pq.read_table(whole, partitioning=None).equals(pq.read_table(alone, partitioning=None))
    assert store.matrix("d").values.tolist() == [ALL.tolist()] * 2


def test_an_array_a_context(store: Store, dataset: Dataset) -> None:
    store.append(model="m", dataset="d", step=7, losses=[of(1), of(3)], contexts=[1, 3])
    assert np.array_equal(store.slice_losses("m", "d", 7), np.where(np.isin(OF, (1, 3)), ALL, np.nan), True)


def test_all_contexts_named_are_a_whole_slice(store: Store, dataset: Dataset) -> None:
    add(store, 0, 1, 2, 3)
    assert store.has_slice("m", "d", 7)


def test_parts_that_contradict_each_other(store: Store, dataset: Dataset) -> None:
    data = add(store, 0, 2).read_bytes()
    other = ALL.copy()
    other[6] += 1
    with pytest.raises(LossesDiffer) as caught:
        add(store, 1, 2, values=other)
    assert str(caught.value) == (
        f"m on d at step 7: at context 2, position 2 the store has the loss {ALL[6]!s}, this is {other[6]!s} "
        "(1 of 8 differ). The slice was left as it is; to overwrite it on purpose: replace=True."
    )
    assert add(store, 0).read_bytes()[:4] == data[:4]
    assert store.slice_losses("m", "d", 7)[6] == ALL[6]
    assert np.isnan(store.slice_losses("m", "d", 7)[4])
    add(store, 1, 2, values=other, replace=True)
    assert np.array_equal(store.slice_losses("m", "d", 7), np.where(OF == 3, np.nan, other), True)


def test_zero_and_minus_zero_differ(store: Store, dataset: Dataset) -> None:
    add(store, 1, values=np.zeros_like(ALL))
    with pytest.raises(LossesDiffer, match=r"the loss 0\.0, this is -0\.0 \(1 of 1 differ\)"):
        add(store, 1, 2, values=np.negative(np.zeros_like(ALL)))


def test_a_complete_slice_is_never_replaced_by_a_part(store: Store, dataset: Dataset) -> None:
    path = store.append(model="m", dataset="d", step=7, losses=ALL)
    data = path.read_bytes()
    with pytest.raises(SliceExists):
        add(store, 0, 2)
    assert path.read_bytes() == data
    add(store, 0, values=ALL + 1, replace=True)
    assert store.has_slice("m", "d", 7)
    assert store.slice_losses("m", "d", 7).tolist() == np.where(OF == 0, ALL + 1, ALL).tolist()


def test_a_complete_slice_takes_the_place_of_a_part(store: Store, dataset: Dataset) -> None:
    """As score does it: what the part had need not agree."""
    add(store, 0, 2, values=ALL + 1)
    store.append(model="m", dataset="d", step=7, losses=ALL)
    assert store.slice_losses("m", "d", 7).tolist() == ALL.tolist()
    with pytest.raises(SliceExists):
        store.append(model="m", dataset="d", step=7, losses=ALL)


def test_parts_of_different_origin_do_not_mix(store: Store, dataset: Dataset) -> None:
    add(store, 0, provenance=Provenance(dtype="bfloat16"))
    with pytest.raises(
        BadLosses, match=r"the losses there have dtype bfloat16, these have float32.*trajstore drop"
    ):
        add(store, 1)
    assert not np.isfinite(store.slice_losses("m", "d", 7)[OF == 1]).any()


@pytest.mark.parametrize(
    ("contexts", "losses", "message"),
    [
        ([], ALL[:0], "0 to 3, ascending and each once"),
        ([2, 0], of(0, 2), "0 to 3, ascending and each once"),
        ([1, 1], of(1), "0 to 3, ascending and each once"),
        ([3, 4], of(3), "0 to 3, ascending and each once"),
        ([-1], of(3), "0 to 3, ascending and each once"),
        (
            [0, 2],
            ALL,
            r"shape \(16,\); contexts 0, 2 of d has 12 losses \(14 tokens less the first of each of its 2",
        ),
        ([1, 2], [ALL[:1]], "losses of 1 contexts; contexts 1–2 of d has 2"),
        ([1, 2], [ALL[:1], ALL[:7]], "context 2 has 7 losses; its 9 tokens have 8"),
        ([1, 3], np.array([1, 1, np.nan, 1]), "first is nan at context 3, position 2"),
    ],
)
def test_parts_that_cannot_be_right(
    store: Store, dataset: Dataset, contexts: list[int], losses: object, message: str
) -> None:
    with pytest.raises(BadLosses, match=message):
        store.append(model="m", dataset="d", step=7, losses=losses, contexts=contexts)
    assert store.model_names() == []


def test_writers_who_add_to_one_slice_lose_nothing(store: Store, dataset: Dataset) -> None:
    failed: list[BaseException] = []

    def work(context: int, step: int) -> None:
        try:
            add(store, context, step=step)
        except BaseException as error:
            failed.append(error)

    jobs = [(context, step) for step in range(8) for context in range(4)]
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert store.matrix("d").values.tolist() == [ALL.tolist()] * 8
    assert list((store.path / "tmp").iterdir()) == []


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have another job do something once, between our look and our lock."""
    held = publish_slices.held

    def plan(work: Callable[[], object]) -> None:
        def late(path: Path) -> object:
            monkeypatch.setattr(publish_slices, "held", held)
            work()
            return held(path)

        monkeypatch.setattr(publish_slices, "held", late)

    return plan


def test_a_slice_completed_meanwhile_is_not_made_partial(
    store: Store, dataset: Dataset, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    add(store, 0)
    meanwhile(lambda: store.append(model="m", dataset="d", step=7, losses=ALL))
    with pytest.raises(SliceExists):
        add(store, 1)
    assert store.has_slice("m", "d", 7)


def test_a_slice_dropped_meanwhile_is_made_anew(
    store: Store, dataset: Dataset, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    add(store, 0)
    meanwhile(lambda: store.drop([("m", "d", 7)]))
    add(store, 1)
    assert np.flatnonzero(~np.isnan(store.slice_losses("m", "d", 7))).tolist() == [4]


def test_a_link_to_nowhere_is_no_slice(store: Store, dataset: Dataset) -> None:
    path = add(store, 0)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(DamagedFile, match="a symbolic link leads there"):
        add(store, 0)
    assert list((store.path / "tmp").iterdir()) == []


# what readers see


@pytest.fixture
def torn(planted: Store) -> Store:
    """Model b on d lacks contexts 1 and 5 at step 8, and all of step 16; on e everything is there."""
    n = np.array(PLANTED_LENGTHS) - 1
    values = planted.slice_losses("b", "d", 8)[~np.isin(np.repeat(np.arange(6), n), (1, 5))]
    planted.drop([("b", "d", 8), ("b", "d", 16)])
    planted.append(model="b", dataset="d", step=8, losses=values, contexts=[0, 2, 3, 4])
    return planted


def test_a_matrix_names_what_is_missing(torn: Store) -> None:
    with pytest.raises(MissingSlices) as caught:
        torn.matrix("d")
    assert str(caught.value) == (
        "In the store only in part: b on d at step 8 (without contexts 1, 5). Score what is missing (trajstore score), "
        "leave it out (models, datasets, steps), choose contexts that are there, or see what missing of this "
        "command does without it, if it has one (matrix: nan, pca: drop-columns or mean)"
    )
    with pytest.raises(MissingSlices) as caught:
        torn.matrix(["d", "e"], threads=1)
    assert str(caught.value) == (
        "Not in the store: b on d at step 16. In the store only in part: b on d at step 8 (without contexts 1, 5). "
        "Score what is missing (trajstore score), leave it out (models, datasets, steps), choose steps that "
        "exist, or see what missing of this command does without it, if it has one (matrix: nan, pca: drop-columns "
        "or mean)"
    )


def test_a_partial_slice_that_is_dropped_while_it_is_read_is_missing(torn: Store) -> None:
    sites = choose_sites(torn.dataset("d"), None, None, "predict", pad_first=False)

    def work(_: SliceRead) -> bool:
        torn.drop([("b", "d", 8)])
        return True

    with pytest.raises(MissingSlices, match=r"^Not in the store: b on d at step 8\. Score"):
        each_slice(torn.path, [("b", 8)], [sites], work)


def test_a_matrix_with_nan_has_what_is_there(torn: Store) -> None:
    matrix = torn.matrix(["d", "e"], models="b", missing="nan", pad_first=True)
    by_sql = torn.sql(
        "SELECT dataset, context, position, loss FROM raw_losses WHERE model = 'b' AND step = 8"
    )
    there = {row[:3]: row[3] for row in by_sql.fetchall()}
    row = matrix.values[matrix.rows["step"].to_list().index(8)]
    for value, label in zip(
        row.tolist(), matrix.columns.select("dataset", "context", "position").rows(), strict=True
    ):
        expected = there.get(label, 0.0 if label[2] == 0 else np.nan)
        assert value == expected or np.isnan([value, expected]).all(), label
    assert np.isnan(row).sum() == 1 + 39


def test_columns_that_are_all_there_are_no_miss(torn: Store) -> None:
    matrix = torn.matrix("d", models="b", steps="8", contexts="2:5")
    assert np.isfinite(matrix.values).all()
    torn.groups.add("third", "SELECT dataset, context, position FROM tokens WHERE context = 2")
    assert np.isfinite(torn.matrix("d", models="b", steps="8", group="third").values).all()
    with pytest.raises(MissingSlices, match=r"without contexts 1\)"):
        torn.matrix("d", models="b", steps="8", contexts="0:5", pad_first=True)


def test_curves_and_components_never_take_a_part_for_the_whole(torn: Store) -> None:
    with pytest.raises(MissingSlices, match="b on d at step 8"):
        trajectories.trajectories(torn, ["every_token"], Selection(["d"], ["b"], "0:8"))
    with pytest.raises(MissingSlices, match="b on d at step 8"):
        pca_of_store(torn, Selection(["d"], ["b"], "0:8"))
    matrix = torn.matrix("d", models="b", missing="nan", steps="0:8")
    assert group_trajectory(matrix)["step"].to_list() == [0, 1, 2, 4]
    with pytest.raises(TrajstoreError, match="1 of 5 checkpoints have none in its column"):
        pca(matrix)
    rows = torn.sql(
        "SELECT step, tokens FROM trajectory('every_token') WHERE model = 'b' AND dataset = 'd' AND step IN (4, 8)"
    ).fetchall()
    assert rows == [(4, 97), (8, 57)]


def test_coverage_says_partial(torn: Store) -> None:
    lines = {(line.model, line.dataset): line for line in torn.coverage()}
    assert (lines["b", "d"].partial, lines["b", "d"].missing) == ([8], [16])
    assert 8 in lines["b", "d"].steps
    assert lines["b", "e"].partial == []
    words = ["status", "-s", str(torn.path)]
    shown = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [line["partial"] for line in shown] == [[], [], [8], []]
    table = CliRunner().invoke(app, words).stdout.splitlines()
    assert table[0].split()[-4:] == ["missing", "steps", "partial", "size"]
    assert table[3].split()[:8] == ["b", "d", "7", "0", "64", "1", "16", "1"]


# checks

PART = "losses/model=b/dataset=d/step=8/slice.parquet"


def problems(store: Store, deep: bool) -> dict[str, str]:
    return {problem.path: problem.what for problem in checks.check(store, deep=deep)}


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_part_is_no_problem(torn: Store, deep: bool) -> None:
    assert problems(torn, deep) == {}


def test_any_flipped_bit_of_a_part_is_found(torn: Store) -> None:
    path, rng = torn.path / PART, random.Random(4)
    good, datasets = path.read_bytes(), {"d": torn.dataset("d")}
    for _ in range(60):
        at, bit = rng.randrange(len(good)), 1 << rng.randrange(8)
        path.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
        assert checks._slice_problem(path, datasets, deep=True) is not None, (at, bit)
    path.write_bytes(good)


def keys(lengths: np.ndarray, contexts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Context and position of each loss of some contexts of these lengths."""
    pairs = [(context, position) for context in contexts for position in range(1, lengths[context])]
    context, position = np.array(pairs, dtype=np.int32).T
    return context.copy(), position.copy()


def test_a_part_with_torn_contexts_is_damaged(torn: Store) -> None:
    """Sealed anew by somebody, with rows that are not whole contexts."""
    path, dataset = torn.path / PART, torn.dataset("d")
    facts, values = slices.read_checked(path, dataset)
    there = values[~np.isnan(values)]
    lengths = dataset.lengths.copy()
    lengths[[2, 3]] += (-1, 1)
    path.write_bytes(slices.encode_slice(there, keys(lengths, [0, 2, 3, 4]), facts))
    assert problems(torn, True) == {PART: "its rows are not those of whole contexts in order"}
    with pytest.raises(DamagedFile, match="not those of whole contexts"):
        torn.matrix("d", missing="nan")
    path.write_bytes(slices.encode_slice(there, keys(dataset.lengths, [0, 2, 3, 4]), replace(facts, rows=9)))
    assert problems(torn, False) == {PART: "it has 57 losses, d has 97"}
    path.write_bytes(
        slices.encode_slice(there, keys(dataset.lengths, [0, 2, 3, 4]), replace(facts, partial=False))
    )
    assert problems(torn, False) == {PART: "it has 57 losses, d has 97"}


def test_the_check_in_sql_finds_torn_contexts(torn: Store) -> None:
    from trajstore import sqlfiles

    (file,) = (file for file in sqlfiles.load("checks") if file.name == "losses_have_tokens")
    assert torn.sql(file.body).fetchall() == []
    path, dataset = torn.path / PART, torn.dataset("d")
    facts, values = slices.read_checked(path, dataset)
    short = values[~np.isnan(values)][:-1]
    lengths = dataset.lengths.copy()
    lengths[4] -= 1
    path.write_bytes(slices.encode_slice(short, keys(lengths, [0, 2, 3, 4]), facts))
    assert torn.sql(file.body).fetchall() == [("b", "d", 8, 1)]
    path.write_bytes(
        slices.encode_slice(
            values[~np.isnan(values)], keys(dataset.lengths, [0, 2, 3, 4]), replace(facts, partial=False)
        )
    )
    assert torn.sql(file.body).fetchall() == [("b", "d", 8, 40)]


def test_a_slice_from_before_there_were_parts_is_complete(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = slices._facts_json

    def before(facts: slices.SliceFacts) -> str:
        old = json.loads(now(facts))
        del old["partial"], old["source"]
        return json.dumps(old)

    monkeypatch.setattr(slices, "_facts_json", before)
    store.append(model="m", dataset="d", step=7, losses=ALL)
    assert store.has_slice("m", "d", 7)
    assert not store.slice_facts("m", "d", 7).partial
    assert problems(store, True) == {}


def test_score_completes_a_part(store: Store, tmp_path: Path) -> None:
    dataset = store.add_dataset("d", random_dataset((6, 9)))
    run = save_run(tmp_path / "run", [1, 2])
    store.append(model="run", dataset="d", step=1, losses=np.full(5, 9.0), contexts=[0])
    todo = plan(store, str(run), ["d"])
    assert (todo.present, [pending.checkpoint.step for pending in todo.pending]) == (0, [1, 2])
    assert run_plan(store, todo).written == 2
    expected = np.concatenate(token_losses(neox(1), dataset.ids()))
    assert np.allclose(store.slice_losses("run", "d", 1), expected, atol=1e-4)
    assert score(store, str(run), ["d"]).skipped == 2
