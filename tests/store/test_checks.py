"""Damage is found and named, moved away, and mended; a good store has none."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.conftest import PLANTED_STEPS
from trajstore.cli import app
from trajstore.errors import DamagedFile, StoreNotFound, UnknownName
from trajstore.store import checks, lifecycle
from trajstore.store.disk import digests
from trajstore.store.files import slices
from trajstore.store.files.datasets import Dataset
from trajstore.store.files.models import ModelFacts
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLICE = "losses/model=a/dataset=d/step=8/slice.parquet"


def found(store: Store, *, deep: bool = False) -> dict[str, str]:
    return {problem.path: problem.what for problem in checks.check(store, deep=deep)}


@pytest.mark.parametrize("deep", [False, True])
def test_a_good_store_has_no_problems(planted: Store, deep: bool) -> None:
    planted.groups.add("mine", "FROM groups.digits")
    assert found(planted, deep=deep) == {}


@pytest.mark.parametrize("flips", [150, pytest.param(500, marks=pytest.mark.slow)])
def test_any_flipped_bit_names_its_file(planted: Store, flips: int) -> None:
    rng = random.Random(3)
    paths = sorted(planted.path.glob("losses/model=[ab]/*/*/slice.parquet"))
    datasets: dict[str, Dataset] = {name: planted.dataset(name) for name in planted.dataset_names()}
    for _ in range(flips):
        path = rng.choice(paths)
        good = path.read_bytes()
        at, bit = rng.randrange(len(good)), 1 << rng.randrange(8)
        path.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
        assert checks._slice_problem(path, datasets, deep=True) is not None, (path, at, bit)
        path.write_bytes(good)
    assert found(planted, deep=True) == {}


def test_a_deep_check_reads_what_a_quick_one_does_not(planted: Store) -> None:
    path = planted.path / SLICE
    data = bytearray(path.read_bytes())
    data[pq.read_metadata(path).row_group(0).column(0).data_page_offset + 20] ^= 1
    path.write_bytes(data)
    assert found(planted) == {}
    assert found(planted, deep=True) == {
        SLICE: "its bytes are not those that were written (digest of the file)"
    }


def test_other_losses_under_a_fresh_digest_are_found(planted: Store) -> None:
    """Somebody edits the numbers and seals the file anew: the hash of the losses is still that of the old ones."""
    path = planted.path / SLICE
    dataset = planted.dataset("d")
    facts, losses = slices.read_checked(path, dataset)
    path.write_bytes(slices.encode_slice(losses + np.float32(0.5), dataset.loss_keys, facts))
    assert "hash of the losses" in found(planted, deep=True)[SLICE]


def test_what_a_quick_check_finds(planted: Store, tmp_path: Path) -> None:
    root = planted.path
    (root / SLICE).write_bytes(b"PAR1")
    moved = root / "losses/model=b/dataset=d/step=9"
    moved.mkdir()
    shutil.copy(root / "losses/model=b/dataset=d/step=8/slice.parquet", moved)
    (root / "losses/model=a/notes.txt").touch()
    (root / "losses/model=linked").symlink_to(tmp_path)
    (root / "models/b.json").write_text("{")
    (root / "groups/ghost.sql").write_text("FROM groups.digits")
    shutil.rmtree(root / "tokens/dataset=e")
    problems = found(planted)
    assert problems.pop("losses/model=b/dataset=d/step=9/slice.parquet").endswith(
        "so it is under another's name"
    )
    assert problems.pop(SLICE)
    assert problems.pop("losses/model=a/notes.txt") == "it is a stray file"
    assert "symbolic link" in problems.pop("losses/model=linked")
    assert problems.pop("models/b.json")
    assert problems.pop("groups/ghost.sql") == "the catalog has no view for it"
    assert set(problems.values()) == {"there is no sound dataset 'e' for it"}
    assert len(problems) == 2 * len(PLANTED_STEPS)


NO_FACTS = {
    "{": "Expecting property name",
    "[]": "it does not hold the facts of b",
    "null": "it does not hold the facts of b",
    '{"model": "a"}': "it does not hold the facts of b",
    '{"model": "b", "n_params": "70m"}': "its n_params is '70m', and not a whole number",
    '{"model": "b", "n_params": 7.5}': "its n_params is 7.5, and not a whole number",
    '{"model": "b", "seed": true}': "its seed is True, and not a whole number",
    '{"model": "b", "n_layer": NaN}': "its n_layer is nan, and not a whole number",
    '{"model": "b", "tokens_per_step": 99999999999999999999}': "and not a whole number",
    '{"model": "b", "repo": ["x", "y"]}': "its repo is ['x', 'y'], and not a text",
    '{"model": "b", "family": {"a": 1}}': "and not a text",
    '{"model": "b", "tokenizer": 5}': "its tokenizer is 5, and not a text",
    "[" * 100_000: "recursion",
}


@pytest.mark.parametrize("text", NO_FACTS, ids=lambda text: text[:40])
def test_facts_that_are_none_are_named(planted: Store, text: str) -> None:
    (planted.path / "models" / "b.json").write_text(text)
    for use in (lambda: planted.model("b"), planted.model_names, lambda: planted.matrix("d")):
        with pytest.raises(
            DamagedFile, match=r"models/b\.json is damaged: .*Remove it; the next trajstore score"
        ):
            use()
    assert NO_FACTS[text] in found(planted)["models/b.json"]


def test_facts_of_a_later_version_are_read(planted: Store) -> None:
    text = '{"model": "b", "n_params": 7, "seed": null, "of_later": [1, 2]}'
    (planted.path / "models" / "b.json").write_bytes(digests.sealed(text, ".json"))
    assert planted.model("b") == ModelFacts("b", n_params=7)
    assert found(planted) == {}


def test_definitions_that_are_others_are_named(planted: Store) -> None:
    """A file changed by hand, and views and a macro changed in the catalog."""
    planted.groups.add("mine", "FROM groups.digits")
    planted.groups.add("other", "FROM groups.the WHERE context IN (0, 1) AND NOT false", "with words")
    planted.groups.add("gone", "FROM groups.the")
    planted.close()
    catalog = planted.path / "catalog.duckdb"
    (planted.path / "groups" / "mine.sql").write_text("FROM groups.the\n")
    (planted.path / "groups" / "gone.sql").unlink()
    rebuild = "trajstore rebuild makes the catalog anew from the files"
    with Store(planted.path) as store:
        assert {problem.path: (problem.what, problem.mend) for problem in checks.check(store)} == {
            "groups/mine.sql": ("the catalog's view is not what this group is defined as", rebuild),
            "groups/gone.sql": ("the catalog has a view, but there is no file", rebuild),
        }
    lifecycle.rebuild(planted.path)
    with Store(planted.path) as store:
        assert found(store) == {}
    good = catalog.read_bytes()
    for change, name, what in (
        (
            "CREATE OR REPLACE VIEW groups.digits AS FROM groups.the",
            "groups/digits.sql",
            "not what this group",
        ),
        (
            "CREATE OR REPLACE VIEW tokens AS SELECT 1 AS x",
            "catalog.duckdb",
            "its tokens is not what this version",
        ),
        ("DROP VIEW coverage", "catalog.duckdb", "it has no coverage"),
        ("CREATE OR REPLACE MACRO loss_at(s) AS TABLE SELECT 1", "catalog.duckdb", "its loss_at is not what"),
    ):
        catalog.write_bytes(good)
        with duckdb.connect(str(catalog)) as connection:
            connection.execute(f"SET VARIABLE store = '{planted.path}'")
            connection.execute("CREATE VIEW of_ones_own AS SELECT 1")
            connection.execute(change)
        with Store(planted.path) as store:
            problems = found(store)
        assert list(problems) == [name]
        assert what in problems[name]


def test_changed_tokens_are_found(planted: Store) -> None:
    """Other ids under the old footer."""
    path = planted.path / "tokens/dataset=d/tokens.parquet"
    facts = {key.decode(): value.decode() for key, value in pq.read_metadata(path).metadata.items()}
    table = pq.read_table(path, partitioning=None)
    changed = table.set_column(2, "token", pc.add(table["token"], pa.scalar(1, pa.int32())))
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(changed)
        writer.add_key_value_metadata(facts)
    assert "tokens/dataset=d/tokens.parquet" in found(planted, deep=True)


def test_sql_checks_find_what_they_are_for(planted: Store) -> None:
    """Each of them on its own: the order of rows, which is looked at first, would be found wrong already."""
    dataset = planted.dataset("d")
    facts, losses = slices.read_checked(planted.path / SLICE, dataset)
    context, position = dataset.loss_keys
    (planted.path / SLICE).write_bytes(slices.encode_slice(losses, (context + np.int32(1), position), facts))
    assert (
        "one loss for each token" in {each.path: each.what for each in checks._sql_problems(planted)}[SLICE]
    )
    assert found(planted, deep=True) == {SLICE: "its rows are not in the order of its dataset's tokens"}


def sealed_slice(store: Store, change: Callable[[pa.Table], pa.Table]) -> None:
    """Put a changed table in a slice's place, with the old footer and a digest that fits."""
    path = store.path / SLICE
    facts = {key.decode(): value.decode() for key, value in pq.read_metadata(path).metadata.items()}
    with pq.ParquetFile(path) as file:
        table = change(file.read())
    path.write_bytes(digests.parquet(table, facts))


FORGED: dict[str, tuple[Callable[[pa.Table], pa.Table], str, bool]] = {
    "a column of another type": (
        lambda table: table.set_column(2, "loss", table["loss"].cast(pa.float64())),
        "of types not a slice's",
        True,
    ),
    "a column more": (
        lambda table: table.append_column("more", table["loss"]),
        "of types not a slice's",
        True,
    ),
    "rows in reverse": (
        lambda table: table.take(list(range(table.num_rows))[::-1]),
        "not in the order of",
        False,
    ),
    "two positions swapped": (
        lambda table: table.take([1, 0, *range(2, table.num_rows)]),
        "not in the order of",
        False,
    ),
    "an impossible loss": (lambda table: put_loss(table, -1e30), "1e[+]30 nats, and a loss is finite", True),
}
"""Faults of the rows, the words for each, and True where a quick check sees it."""


def put_loss(table: pa.Table, loss: float) -> pa.Table:
    losses = table["loss"].to_pylist()
    losses[3] = loss
    return table.set_column(2, table.field(2), pa.array(losses, pa.float32()))


@pytest.mark.parametrize("kind", FORGED)
def test_a_deep_check_finds_all_that_a_quick_one_does(planted: Store, kind: str) -> None:
    """In a file whose digest fits, so that nothing but its content tells."""
    change, said, quick = FORGED[kind]
    sealed_slice(planted, change)
    dataset = planted.dataset("d")
    for deep in (False, True):
        if deep or quick:
            with pytest.raises(DamagedFile, match=said):
                slices.check(planted.path / SLICE, dataset, deep=deep)
    assert said.replace("[+]", "+") in found(planted, deep=True)[SLICE]


def test_partial_slices_in_another_order_are_not_read(planted: Store) -> None:
    """Two losses of one context have changed places with their positions."""
    planted.append(model="c", dataset="d", step=8, losses=np.arange(8.0), contexts=[0])
    path = planted.path / SLICE.replace("model=a", "model=c")
    assert planted.slice_losses("c", "d", 8)[:8].tolist() == list(range(8))
    facts = {key.decode(): value.decode() for key, value in pq.read_metadata(path).metadata.items()}
    with pq.ParquetFile(path) as file:
        table = file.read().take([1, 0, *range(2, 8)])
    path.write_bytes(digests.parquet(table, facts))
    with pytest.raises(DamagedFile, match="not those of whole contexts in order"):
        planted.slice_losses("c", "d", 8)


def test_quarantine_makes_room_for_a_new_slice(planted: Store) -> None:
    path = planted.path / SLICE
    good = path.read_bytes()
    path.write_bytes(good[:-9])
    runner = CliRunner()
    result = runner.invoke(app, ["check", "--deep", "--quarantine", "--json", "-s", str(planted.path)])
    assert result.exit_code == 1
    assert [row["path"] for row in json.loads(result.stdout)] == [SLICE]
    assert (planted.path / "damaged" / SLICE).read_bytes() == good[:-9]
    assert not planted.has_slice("a", "d", 8)
    again = runner.invoke(app, ["check", "--deep", "-s", str(planted.path)])
    assert again.exit_code == 0
    assert "Everything is as it was written." in again.stderr


def test_rebuild_from_files_alone(planted: Store) -> None:
    planted.groups.add("mine", "FROM groups.digits", "of digits")
    planted.close()
    (planted.path / "catalog.duckdb").write_bytes(b"junk")
    (planted.path / "catalog.duckdb.wal").write_bytes(b"junk too")
    lifecycle.rebuild(planted.path)
    with Store(planted.path) as store:
        assert store.groups.show("mine").description == "of digits"
        assert found(store, deep=True) == {}


def test_rebuild_where_no_store_is(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound):
        lifecycle.rebuild(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_drop_asks_and_removes(planted: Store) -> None:
    runner = CliRunner()
    words = ["drop", "-m", "a", "-d", "d", "--steps", "0:4", "-s", str(planted.path)]
    assert runner.invoke(app, words, input="n\n").exit_code == 1
    assert planted.steps("a", "d") == list(PLANTED_STEPS)
    assert runner.invoke(app, words, input="y\n").exit_code == 0
    assert planted.steps("a", "d") == [8, 16, 32, 64]
    assert planted.steps("a", "e") == list(PLANTED_STEPS)
    assert runner.invoke(app, ["drop", "-m", "a", "--yes", "-s", str(planted.path)]).exit_code == 0
    assert planted.model_names() == ["b"]
    assert not (planted.path / "losses/model=a").exists()
    assert found(planted, deep=True) == {}


def test_drop_of_what_is_not_there(planted: Store) -> None:
    with pytest.raises(UnknownName, match="no model 'c'"):
        planted.chosen_slices("c")
    with pytest.raises(UnknownName, match="no dataset with losses of a 'x'"):
        planted.chosen_slices("a", "x")
