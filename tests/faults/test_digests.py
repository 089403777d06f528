"""Every file of a store carries a digest of itself, by which one changed bit is found; older stores get them."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import plant
from tests.helpers import killed
from tests.helpers.older_stores import answers, with_hidden_stand_ins
from trajstore.errors import DamagedFile, StoreTooOld
from trajstore.schema import CATALOG, DIGEST_KEY, META_KEY, is_stand_in
from trajstore.store import checks, lifecycle, stand_ins
from trajstore.store.catalog.migrate import DEFINITIONS
from trajstore.store.disk import digests
from trajstore.store.files import coverage, datasets, group_files, group_tables, models
from trajstore.store.files.measures import Measure
from trajstore.store.files.models import ModelFacts
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conftest import NewStore


def fill(store: Store) -> Store:
    """A store with every kind of file: datasets, slices, facts, measures, a finding, groups of each kind."""
    plant(store)
    store.publish_model(ModelFacts("a", n_params=7))
    store.groups.add("mine", "FROM groups.digits", "of digits")
    store.groups.add("given", pl.DataFrame({"dataset": ["d"], "context": [0], "position": [1]}))
    store.add_measures("noise", [Measure("noise", 0.5)], model="a", step=8, dataset="d")
    with store.add_finding("phases", "first", {"of": "a"}) as writer:
        row = {"model": ["a"], "dataset": ["d"], "series": ["mean"], "event": ["minimum"], "step": [8]}
        writer.add("events", pl.DataFrame({**row, "low": [4], "high": [16], "value": [1.0]}))
    return store


@pytest.fixture(scope="module")
def _filled(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "store"
    fill(new_store(path)).close()
    return path


@pytest.fixture
def path(_filled: Path, store_path: Path) -> Path:
    return shutil.copytree(_filled, store_path)


def found(path: Path, *, deep: bool = True) -> dict[str, str]:
    with Store(path) as store:
        return {problem.path: problem.what for problem in checks.check(store, deep=deep)}


def own_files(path: Path) -> list[Path]:
    """Every file of a store but the catalog and the lock beside it, which is empty."""
    skipped = {path / CATALOG, path / f"{CATALOG}.wal", path / "catalog.lock"}
    return sorted(
        each
        for each in path.rglob("*")
        if each.is_file() and each not in skipped and each.parts[len(path.parts)] not in ("cache", "tmp")
    )


def of_each_kind(path: Path) -> list[Path]:
    """Its files, of slices and stand-ins a few."""
    every = own_files(path)
    of_many = [each for each in every if each.name == "slice.parquet"]
    stand_ins = [each for each in every if is_stand_in(each)]
    return [each for each in every if each not in of_many + stand_ins] + of_many[1:4] + stand_ins[:6]


def flip(path: Path, rng: random.Random) -> tuple[int, int]:
    data = bytearray(path.read_bytes())
    at, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
    data[at] ^= bit
    path.write_bytes(data)
    return at, bit


def test_every_file_carries_one(path: Path) -> None:
    assert found(path) == {}
    for file in own_files(path):
        assert digests.problem(file) is None or file == path / stand_ins.MODELS, file


@pytest.mark.parametrize("flips", [8, pytest.param(152, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_one_flip_anywhere_names_its_file(path: Path, flips: int) -> None:
    """Through `check --deep` itself: each kind of file in turn, in the slow form eight times."""
    rng = random.Random(11)
    files = of_each_kind(path)
    rng.shuffle(files)
    for number in range(flips):
        file = files[number % len(files)]
        good = file.read_bytes()
        where = flip(file, rng)
        assert str(file.relative_to(path)) in found(path), (file, where)
        file.write_bytes(good)


@pytest.mark.parametrize("flips", [600, pytest.param(6000, marks=pytest.mark.slow)])
def test_one_flip_anywhere_changes_what_the_digest_says(path: Path, flips: int) -> None:
    rng = random.Random(12)
    files = [file for file in own_files(path) if file != path / stand_ins.MODELS]
    for number in range(flips):
        file = files[number % len(files)]
        good = file.read_bytes()
        where = flip(file, rng)
        assert digests.problem(file) is not None, (file, where)
        file.write_bytes(good)


def test_a_group_changed_by_hand_works_and_is_named(path: Path) -> None:
    """The digest costs nobody the right to edit: the message says how to keep the change."""
    file = path / "groups/mine.sql"
    file.write_text(file.read_text().replace("groups.digits", "groups.the"))
    with Store(path) as store:
        problems = {problem.path: problem for problem in checks.check(store)}
        assert store.groups.definition("mine").sql == "FROM groups.the"
    assert problems["groups/mine.sql"].mend == checks._REBUILD  # its view is another
    lifecycle.rebuild(path)
    with Store(path) as store:
        (problem,) = checks.check(store)
    assert (problem.path, problem.what) == ("groups/mine.sql", digests.CHANGED)
    assert "remove its line with sha256 and run trajstore rebuild" in problem.mend
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "sha256" not in line))
    assert found(path) == {"groups/mine.sql": digests.MISSING}
    lifecycle.rebuild(path)
    assert found(path) == {}
    with Store(path) as store:
        assert store.groups.show("mine").sql == "FROM groups.the"
        assert store.groups.show("mine").description == "of digits"


def test_facts_changed_by_hand_are_named(path: Path) -> None:
    file = path / "models/a.json"
    file.write_text(file.read_text().replace("7", "8"))
    assert found(path, deep=False) == {"models/a.json": digests.CHANGED}
    file.write_text(json.dumps({"model": "a", "n_params": 8}))
    assert found(path, deep=False) == {"models/a.json": digests.MISSING}
    lifecycle.rebuild(path)
    assert found(path) == {}
    with Store(path) as store:
        assert store.model("a") == ModelFacts("a", n_params=8)


# stores of before


def without_digests(path: Path) -> None:
    """Take the digests from a store's files, but of slices, measures and findings."""
    for file in [*path.glob("models/*.json"), *path.glob("groups/*.sql")]:
        data = file.read_bytes()
        if file.suffix == ".sql":
            file.write_text(digests.without_line(data.decode()))
        elif not is_stand_in(file):
            facts = json.loads(data)
            del facts["sha256"]
            file.write_text(json.dumps(facts, indent=1) + "\n")
    inside = {file: str(file.relative_to(path)) for file in own_files(path) if file.suffix == ".parquet"}
    for file, name in inside.items():
        if name.startswith((".", "tokens/")) or is_stand_in(name):
            strip(file, pq.read_table(file, partitioning=None))


def make_older(path: Path) -> None:
    """Make a store what the version before digests wrote."""
    with_hidden_stand_ins(path)
    without_digests(path)
    with duckdb.connect(str(path / CATALOG)) as connection:
        connection.execute("DELETE FROM migrations WHERE name = '0002_digests'")


def strip(file: Path, table: pa.Table, keep: Iterable[str] = (META_KEY,)) -> None:
    """Write a table in a file's place with what its footer says, without a digest."""
    facts = {key.decode(): value for key, value in (pq.read_metadata(file).metadata or {}).items()}
    with pq.ParquetWriter(file, table.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({key: facts[key] for key in keep if key in facts})


def test_migrate_gives_an_older_store_its_digests(path: Path) -> None:
    with Store(path) as store:
        matrix = store.matrix("d").values
        trajectory = store.trajectory(datasets="d", resamples=100).frame
    make_older(path)
    before = answers(path)
    assert not any(is_stand_in(file) for file in own_files(path))
    with pytest.raises(StoreTooOld, match="0002_digests, 0003_stand_ins, views.* trajstore migrate"):
        Store(path)
    assert digests.carried(path / "tokens/dataset=d/tokens.parquet") is None
    assert lifecycle.migrate_store(path) == ["0002_digests", "0003_stand_ins", DEFINITIONS]
    assert found(path) == {}
    assert answers(path) == before
    assert not [name for name in stand_ins.OLD if (path / name).exists()]
    with Store(path) as store:
        assert np.array_equal(store.matrix("d").values, matrix)
        assert store.trajectory(datasets="d", resamples=100).frame.equals(trajectory)
        assert store.groups.show("mine").description == "of digits"
        assert store.model("a") == ModelFacts("a", n_params=7)
    assert lifecycle.migrate_store(path) == []


def test_migrate_leaves_what_is_damaged_without(path: Path) -> None:
    """Other tokens under the footer's hash: a digest would say that they are what was written."""
    make_older(path)
    file = path / "tokens/dataset=d/tokens.parquet"
    table = pq.read_table(file, partitioning=None)
    changed = table.set_column(2, "token", pa.array([0] * table.num_rows, pa.int32()))
    strip(file, changed)
    lifecycle.migrate_store(path)
    assert digests.carried(file) is None
    assert set(found(path)) == {"tokens/dataset=d/tokens.parquet"} | {
        problem for problem in found(path) if problem.startswith("losses/")
    }


def test_check_says_which_files_lack_one(path: Path) -> None:
    without_digests(path)
    lacking = found(path, deep=False)
    assert {"models/a.json", "groups/mine.sql", "groups/given.sql"} < lacking.keys()
    assert {f"tokens/dataset=d/{name}.parquet" for name in ("tokens", "contexts")} < lacking.keys()
    assert set(lacking.values()) == {digests.MISSING}
    lifecycle.rebuild(path)
    assert found(path) == {}


def test_a_table_found_before_digests_is_not_stale_for_them(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset's files are other files with their digests, and the same tokens, texts and roles."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def even(tokens):\n    return (tokens['position'] % 2 == 0)\n")
    make_older(path)
    lifecycle.migrate_store(path)
    with Store(path) as store:
        new = store.dataset("d")
        assert new.former_files_sha256 not in (None, new.files_sha256)
        store.groups.add_python("even", "mine:even", datasets=["d"])
        made = group_tables.read_table(path, "even")
        part = made.parts["d"]
        as_before = group_tables.TableFacts(
            **{
                **vars(made),
                "parts": {
                    "d": group_tables.SitesFacts(part.tokens_sha256, new.former_files_sha256, part.sites)
                },
            }
        )
        assert group_tables.changed(as_before, {"d": new}) == []


def test_a_sealing_cut_short_is_ended_by_the_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_older(path)
    before = datasets.read_dataset(path, "d").files_sha256
    real, count = datasets.layout.publish, [0]

    def dies(*args: object, **options: object) -> bool:
        count[0] += 1
        if count[0] == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(datasets.layout, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            datasets.add_digests(path, "d")
    datasets.add_digests(path, "d")
    again = datasets.read_dataset(path, "d")
    assert again.former_files_sha256 == before
    assert all(digests.problem(file) is None for file in again.folder.iterdir())
    assert DIGEST_KEY.encode() in pq.read_metadata(again.folder / "contexts.parquet").metadata


def test_a_file_that_is_cut_off_is_called_so(path: Path) -> None:
    cut = [each for each in of_each_kind(path) if each.suffix == ".parquet"]
    assert len(cut) >= 9
    for each in cut:
        data = each.read_bytes()
        for length in (0, 3, len(data) // 2):
            each.write_bytes(data[:length])
            assert digests.problem(each) == digests.CUT_OFF
    assert digests.MISSING not in found(path).values()


def test_a_slice_that_is_cut_off_is_called_so_by_both_checks(path: Path) -> None:
    file = next(path.glob("losses/model=a/*/*/slice.parquet"))
    file.write_bytes(file.read_bytes()[:-100])
    inside = str(file.relative_to(path))
    assert found(path) == {inside: digests.CUT_OFF}
    assert "Parquet magic bytes not found in footer" in found(path, deep=False)[inside]


def test_the_reason_of_a_damage_ends_with_one_stop() -> None:
    for reason in ("it is no parquet file.", "no database file!", "it is cut off"):
        assert f"{DamagedFile('x', reason)}".startswith(f"x is damaged: {reason.rstrip('.!')}. Remove")


def migrate(path: Path, _: Path) -> None:
    lifecycle.migrate_store(path)


def pending(path: Path) -> list[str]:
    """Migrations that a store has still to have."""
    return [line.name for line in lifecycle.migrations(path) if not line.applied_at]


def held(path: Path) -> dict[str, object]:
    """Return the contents of a store's files by name, the same whether they carry digests or not."""
    said: dict[str, object] = {}
    for name in datasets.names(path):
        dataset = datasets.read_dataset(path, name)
        former = dataset.former_files_sha256 or dataset.files_sha256
        said[f"dataset {name}"] = (
            dataset.tokens_sha256,
            former,
            dataset.frame().rows(),
            dataset.belonging.rows(),
        )
    said |= {f"model {name}": models.read_model(path, name) for name in coverage.model_names(path)}
    said |= {f"group {group.name}": group for group in group_files.own(path).values()}
    others = [*path.glob("losses/*/*/*/*"), *path.glob("measures/*/*/*"), *path.glob("findings/*/*/*")]
    return said | {str(each.relative_to(path)): each.read_bytes() for each in others if not is_stand_in(each)}


@pytest.mark.parametrize("every", [31, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_migration_that_is_killed_is_ended_by_the_same_again(
    path: Path, tmp_path: Path, every: int
) -> None:
    """Before each change: nothing of what the files say is lost, and in the end they are those of a calm one."""
    make_older(path)
    before = held(path)
    calm = Path(shutil.copytree(path, tmp_path / "calm"))
    migrate(calm, calm)
    expected = {str(file.relative_to(calm)): file.read_bytes() for file in own_files(calm)}
    assert held(calm) == before
    assert found(calm) == {}
    hidden = {file.relative_to(path) for file in path.glob(".*/**/*.parquet")}
    assert len(hidden) > 20
    for copy, was_killed in killed.before_each_change(path, tmp_path, migrate, every=every):
        assert held(copy) == before
        if pending(copy):
            assert all((copy / file).is_file() for file in hidden), "without them no view works"
        assert pending(copy) or found(copy, deep=False) == {}, "it is called migrated once all is done"
        if was_killed:
            migrate(copy, copy)
        assert {str(file.relative_to(copy)): file.read_bytes() for file in own_files(copy)} == expected
        assert found(copy, deep=False) == {}
        assert lifecycle.migrate_store(copy) == []
