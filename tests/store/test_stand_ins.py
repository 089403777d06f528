"""Files without rows under the key `.empty`: views read them, nothing lists them, and they come back."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.older_stores import answers, with_hidden_stand_ins
from trajstore.cli import name_lists
from trajstore.errors import QueryError, UnknownName
from trajstore.schema import EMPTY, is_name, is_stand_in
from trajstore.server import events, signatures
from trajstore.store import checks, lifecycle, passed_over, stand_ins
from trajstore.store.files import finding_kinds
from trajstore.store.files.measures import Measure
from trajstore.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    import typer


def clear(path: Path, *folders: str) -> None:
    """As `rm -r FOLDER/*` does."""
    for folder in folders:
        shutil.rmtree(path / folder)
        (path / folder).mkdir()


def test_no_name_is_their_key_and_nothing_lists_them(planted: Store) -> None:
    assert not is_name(EMPTY)
    files = {str(file.relative_to(planted.path)) for file in planted.path.rglob("*") if file.is_file()}
    assert {file for file in files if is_stand_in(file)} == set(stand_ins.STAND_INS)
    for view, rows in answers(planted.path).items():
        assert EMPTY not in repr(rows), view
    assert planted.model_names() == ["a", "b"]
    assert (planted.dataset_names(), planted.findings()) == (["d", "e"], [])
    with pytest.raises(UnknownName) as error:
        planted.finding("pca", "x")
    assert EMPTY not in str(error.value)
    assert {entry.model for entry in planted.coverage()} == {"a", "b"}
    assert EMPTY not in repr(signatures.folder_contents(planted.path))
    assert EMPTY not in repr(events.folder_times(planted.path))
    assert list(passed_over.odd_names(planted.path)) == []
    typed: Any = SimpleNamespace(params={"store": planted.path})
    context: typer.Context = typed
    assert name_lists.complete_models(context, "") == ["a", "b"]
    assert name_lists.complete_datasets(context, "") == ["d", "e"]


def test_once_removed_they_are_missed_and_come_back_with_the_next_write(planted: Store) -> None:
    losses = planted.slice_losses("a", "d", 8)
    clear(planted.path, "losses", "measures", "findings")
    for view in ("losses", "scores", "coverage", "measures", "llc_tokens", "pca_scores", "findings"):
        with pytest.raises(QueryError, match="Put them back: trajstore rebuild"):
            planted.sql(f"SELECT count(*) FROM {view}").fetchall()
    missing = {problem.path: problem.mend for problem in checks.check(planted)}
    assert f"losses/model={EMPTY}/dataset={EMPTY}/step=0/slice.parquet" in missing
    assert set(missing.values()) == {checks._REBUILD}
    planted.append(model="a", dataset="d", step=8, losses=losses)
    assert checks.check(planted) == []
    clear(planted.path, "measures")
    planted.add_measures("noise", [Measure("noise", 0.5)], model="a", step=8, dataset="d")
    assert planted.sql("SELECT count(*) FROM llc_tokens").fetchall() == [(0,)]
    clear(planted.path, "losses")
    assert lifecycle.migrate_store(planted.path) == []
    assert planted.sql("SELECT count(*) FROM losses").fetchall() == [(0,)]


def test_strays_beside_them_are_named(planted: Store) -> None:
    stray = f"losses/model={EMPTY}/dataset=d/step=0/slice.parquet"
    (planted.path / stray).parent.mkdir(parents=True)
    shutil.copy(planted.path / "losses/model=a/dataset=d/step=8/slice.parquet", planted.path / stray)
    assert [problem.path for problem in checks.check(planted)] == [stray]


def test_rows_in_one_are_named_and_go(planted: Store) -> None:
    own = f"losses/model={EMPTY}/dataset={EMPTY}/step=0/slice.parquet"
    shutil.copy(planted.path / "losses/model=a/dataset=d/step=8/slice.parquet", planted.path / own)
    assert [(problem.path, "it has rows" in problem.what) for problem in checks.check(planted)] == [
        (own, True)
    ]
    lifecycle.rebuild(planted.path)
    assert planted.sql(f"SELECT * FROM raw_losses WHERE model = '{EMPTY}'").fetchall() == []


def test_two_migrations_at_once(planted: Store) -> None:
    columns = [finding_kinds.Column("share", "float", "share of tokens")]
    planted.add_finding_kind("learned", {"shares": finding_kinds.schema_of(columns)})
    planted.close()
    with_hidden_stand_ins(planted.path)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lifecycle.migrate_store, [planted.path] * 2))
    assert sorted(map(len, done)) == [0, 2]
    assert finding_kinds.declared(planted.path) == ["learned"]
    assert checks.check(Store(planted.path)) == []
    assert not [name for name in stand_ins.OLD if (planted.path / name).exists()]


def test_a_model_of_another_store_is_copied_with_its_folder(planted: Store, tmp_path: Path) -> None:
    with Store.create(tmp_path / "other") as other:
        for folder in ("losses/model=a", "tokens/dataset=d"):
            shutil.copytree(planted.path / folder, other.path / folder)
        shutil.rmtree(other.path / "losses/model=a/dataset=e")
        assert other.model_names() == ["a"]
        query = "SELECT sum(loss), count(*) FROM losses WHERE model = 'a' AND dataset = 'd'"
        assert other.sql(query).fetchall() == planted.sql(query).fetchall()
        assert checks.check(other) == []
