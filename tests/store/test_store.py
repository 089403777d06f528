"""Opening, moving and asking a store."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import trajstore
from tests.conftest import PLANTED_STEPS, ragged
from trajstore.cli import app
from trajstore.errors import (
    BadName,
    DamagedFile,
    DatasetExists,
    QueryError,
    StoreNotFound,
    StoreTooNew,
    StoreTooOld,
    StoreUnusable,
    UnknownName,
)
from trajstore.measures.probes import keep_natural
from trajstore.server.panes.coverage import cells
from trajstore.store.catalog import catalog
from trajstore.store.disk import digests
from trajstore.store.files.models import ModelFacts
from trajstore.store.lifecycle import migrate_store
from trajstore.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

VIEWS = {
    "losses": "model dataset step context position token loss",
    "raw_losses": "model dataset step context position loss",
    "tokens": "dataset context position token text item item_position role",
    "contexts": "dataset context n_tokens document byte_start byte_end category shot meta",
    "models": "model repo family size n_params n_nonembedding n_layer position_embedding seed tokenizer "
    "tokens_per_step parent",
    "checkpoints": "model step revision commit tokens_seen tokens_exact weights",
    "coverage": "model dataset step rows path",
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_of_an_empty_store(store: Store, view: str) -> None:
    relation = store.sql(f"FROM {view}")
    assert relation.columns == VIEWS[view].split()
    assert relation.fetchall() == []


def test_init_twice_changes_nothing(store_path: Path) -> None:
    Store.create(store_path).close()
    before = (store_path / "catalog.duckdb").read_bytes()
    Store.create(store_path).close()
    assert (store_path / "catalog.duckdb").read_bytes() == before


def test_a_store_that_does_not_exist_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match=r"no store at .*nothing\. Make one with: trajstore init"):
        trajstore.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreUnusable, match=r"holds other things \(thesis.tex\)"):
        Store.create(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["a*b", "a[b]", "what?", "it's", "model=x", "back\\slash"])
def test_paths_that_a_glob_would_misread(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreUnusable, match="cannot hold a store"):
        Store.create(tmp_path / name)


def test_a_file_system_without_links_is_refused(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreUnusable, match="has no hard links"):
        Store.create(store_path)


def test_a_moved_store_answers_plain_duckdb(planted: Store, tmp_path: Path) -> None:
    """No trajstore at all: `cd STORE && python -c "import duckdb; …"`."""
    planted.close()
    moved = planted.path.rename(tmp_path / "elsewhere")
    ask = "duckdb.connect('catalog.duckdb').sql('from losses order by all limit 5').fetchall()"
    code = f"import duckdb; print({ask}[0])"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=moved, capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith("('a', 'd', 0, 0, 1, ")
    with trajstore.open(moved) as store:
        assert len(store.sql("FROM coverage").fetchall()) == 4 * len(PLANTED_STEPS)


def test_a_lost_catalog_is_made_anew_with_its_groups(planted: Store) -> None:
    planted.groups.add("a_group", "FROM groups.digits", "of digits")
    planted.close()
    (planted.path / "catalog.duckdb").unlink()
    with Store.create(planted.path) as store:
        assert "a_group" in store.groups.names()
        assert store.sql("SELECT count(*) FROM losses").fetchall()[0][0] > 0


def test_a_damaged_catalog_is_named(store: Store) -> None:
    store.close()
    (store.path / "catalog.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(DamagedFile, match="catalog.duckdb is damaged.*trajstore rebuild"):
        trajstore.open(store.path)


def test_nobody_holds_the_catalog(store: Store) -> None:
    """While a session of ours is open, another process may write the catalog."""
    code = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('create table t (i int)')"
    subprocess.run([sys.executable, "-c", code, store.path / "catalog.duckdb"], check=True)


def test_a_busy_catalog_is_waited_for(store: Store) -> None:
    code = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('held', flush=True); time.sleep(1.0)"
    command = [sys.executable, "-c", code, str(store.path / "catalog.duckdb")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        store.groups.add("waited", "FROM groups.digits")
    assert "waited" in store.groups.names()


def test_a_catalog_that_stays_busy_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_PATIENCE", 0.2)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(store.path / "catalog.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreUnusable, match="held open by another program"):
            trajstore.open(store.path)
        holder.communicate()


def _add_groups(path: Path, number: int) -> None:
    with trajstore.open(path) as store:
        for each in range(4):
            store.groups.add(f"g{number}_{each}", "FROM groups.digits")


def test_many_writers_of_the_catalog(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_groups, args=(store.path, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with trajstore.open(store.path) as again:
        mine = [row[0] for row in again.sql("SHOW TABLES FROM groups").fetchall() if row[0].startswith("g")]
    assert sorted(mine) == [f"g{n}_{each}" for n in range(3) for each in range(4)]


def test_threads_share_a_store(planted: Store) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                assert planted.sql("SELECT count(*) FROM raw_losses").fetchall()[0][0] > 0
                assert planted.matrix("d", steps="last").values.shape[0] == 2
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_newer_store_is_refused(store: Store) -> None:
    store.close()
    with duckdb.connect(store.path / "catalog.duckdb") as connection:
        connection.execute("INSERT INTO migrations VALUES ('0999_from_the_future', now())")
    with pytest.raises(StoreTooNew, match=r"newer trajstore: it has 0999_from_the_future"):
        trajstore.open(store.path)
    with pytest.raises(StoreTooNew, match="pip install -U trajstore"):
        migrate_store(store.path)


def test_an_older_store_asks_to_be_migrated(store: Store) -> None:
    store.close()
    with duckdb.connect(store.path / "catalog.duckdb") as connection:
        connection.execute("UPDATE definitions SET sha256 = 'of another version'")
    with pytest.raises(StoreTooOld, match=r"pending migrations: views, macros and groups.*trajstore migrate"):
        trajstore.open(store.path)
    assert migrate_store(store.path) == ["views, macros and groups"]
    trajstore.open(store.path).close()


REFUSED = {
    "SELECT 1; SELECT 2": "One statement at a time: this text has 2",
    "": "One statement at a time: this text has 0",
    "COPY tokens TO 'x.csv'": "Sessions only read; COPY is refused",
    "CREATE TABLE t (i INT)": "Sessions only read; CREATE is refused",
    "DROP VIEW losses": "Sessions only read; DROP is refused",
    "ATTACH 'x.db'": "Sessions only read; ATTACH is refused",
    "INSTALL httpfs": "Sessions only read; LOAD is refused",
    "SET VARIABLE store = '/'": "Sessions only read; SET is refused",
    "FROM read_csv('/etc/passwd')": "Permission Error",
    "FROM read_text('/etc/hostname')": "Permission Error",
    "FROM glob('/etc/*')": "Permission Error",
    "SELECT nothing FROM losses": 'Candidate bindings: .*"position"',
    "SELEC 1": "syntax error",
}


@pytest.mark.parametrize("query", REFUSED)
def test_what_a_session_refuses(store: Store, query: str) -> None:
    with pytest.raises(QueryError, match=REFUSED[query]):
        store.sql(query).fetchall()


def test_relations_are_polars_and_arrow(planted: Store) -> None:
    relation = planted.sql(
        "SELECT step, avg(loss) AS mean FROM losses WHERE model = 'a' GROUP BY step ORDER BY step"
    )
    assert relation.pl()["step"].to_list() == list(PLANTED_STEPS)
    assert relation.arrow().read_all().num_rows == len(PLANTED_STEPS)


def test_frames_can_be_joined(planted: Store) -> None:
    planted.register("mine", pl.DataFrame({"context": [2]}))
    assert planted.sql("SELECT DISTINCT context FROM tokens SEMI JOIN mine USING (context)").fetchall() == [
        (2,)
    ]


def test_pruning_reads_one_folder(planted: Store) -> None:
    """Damage elsewhere does not show in a query that names model, dataset and step."""
    (planted.path / "losses/model=b/dataset=e/step=64/slice.parquet").write_bytes(b"PAR1 no")
    query = "SELECT count(*) FROM raw_losses WHERE model = 'a' AND dataset = 'd' AND step = 4"
    assert planted.sql(query).fetchall()[0][0] > 0


def test_datasets_never_change(store: Store) -> None:
    first = store.add_dataset("d", ragged((4, 5)))
    assert store.add_dataset("d", ragged((4, 5))) == first
    with pytest.raises(DatasetExists, match="'d' exists with other tokens"):
        store.add_dataset("d", ragged((4, 6)))
    assert store.dataset("d") == first
    assert list((store.path / "tmp").iterdir()) == []


def test_dataset_round_trip(store: Store) -> None:
    new = ragged((4, 2, 7))
    made = store.add_dataset("d", new)
    assert [ids.tolist() for ids in made.ids()] == [ids.tolist() for ids in new.ids]
    assert (made.n_contexts, made.n_tokens, made.n_losses, made.lengths.tolist()) == (3, 13, 10, [4, 2, 7])
    assert made.tokens_sha256 == new.tokens_sha256
    assert made.frame()["text"].to_list() == [text for texts in new.texts for text in texts]
    rows = store.sql("SELECT contexts, tokens, losses, tokenizer FROM datasets").fetchall()
    assert rows == [(3, 13, 10, "tests")]
    items = store.sql(
        "SELECT count(*) FROM tokens WHERE item = context AND item_position = position"
    ).fetchall()
    assert items == [(13,)]


def test_changed_tokens_are_noticed(store: Store) -> None:
    made = store.add_dataset("d", ragged((4, 2)))
    store.add_dataset("other", ragged((4, 2), seed=3))
    facts = (made.folder / "tokens.parquet").read_bytes()
    other = store.path / "tokens" / "dataset=other" / "tokens.parquet"
    frame = pl.read_parquet(other, hive_partitioning=False)
    assert facts != other.read_bytes()
    frame.write_parquet(made.folder / "tokens.parquet")
    with pytest.raises(DamagedFile, match="trajstore dataset add"):
        store.dataset("d")


def test_hash_of_tokens_tells_contexts_apart() -> None:
    from trajstore.store.files.datasets import hash_tokens

    one = [np.array([1, 2, 3, 4])]
    two = [np.array([1, 2]), np.array([3, 4])]
    assert hash_tokens(one) != hash_tokens(two)
    assert hash_tokens(two) == hash_tokens([ids.astype(np.int32) for ids in two])


def test_models_are_ordered_by_size(planted: Store) -> None:
    planted.publish_model(ModelFacts("a", n_params=300))
    kept = planted.publish_model(ModelFacts("b", n_params=200, repo="somewhere"))
    assert planted.publish_model(ModelFacts("b", n_params=1)) == kept
    planted.publish_model(ModelFacts("z", n_params=250))
    assert planted.model_names() == ["b", "z", "a"]
    assert planted.sql("SELECT model, n_params FROM models").fetchall() == [
        ("b", 200),
        ("z", 250),
        ("a", 300),
    ]
    assert planted.models("[ab]") == ["b", "a"]
    with pytest.raises(UnknownName, match="There is no model 'pythia-\\*' here; there is: b, z, a"):
        planted.models("pythia-*")


def test_coverage_by_paths_and_by_sql(planted: Store) -> None:
    (planted.path / "losses/model=b/dataset=e/step=64/slice.parquet").unlink()
    lines = {(line.model, line.dataset): line for line in planted.coverage()}
    assert lines["b", "e"].missing == [64]
    assert lines["b", "d"].missing == []
    assert lines["a", "d"].steps == list(PLANTED_STEPS)
    rows = planted.sql("SELECT model, dataset, count(*) FROM coverage GROUP BY ALL").fetchall()
    counted = {(model, dataset): n for model, dataset, n in rows}
    assert counted == {key: len(line.steps) for key, line in lines.items()}


def test_a_probe_that_nobody_scores_is_missing_no_losses(planted: Store) -> None:
    keep_natural(planted, planted.dataset("d"))
    assert "probe-natural-d" in planted.dataset_names()
    assert "probe-natural-d" not in {line.dataset for line in planted.coverage()}
    status = CliRunner().invoke(app, ["status", "-s", str(planted.path)])
    assert "Without losses, for measures alone: probe-natural-d." in status.stderr
    assert "probe-natural-d" not in set(cells(planted)["dataset"])
    probe = planted.dataset("probe-natural-d")
    planted.append(model="a", dataset=probe.name, step=1, losses=np.ones(probe.n_losses))
    (line,) = (line for line in planted.coverage() if line.dataset == probe.name)
    assert (line.model, line.steps, len(line.missing)) == ("a", [1], len(PLANTED_STEPS) - 1)
    assert cells(planted).filter(pl.col("dataset") == probe.name)["state"].to_list().count("there") == 1


def test_coverage_shows_pairs_without_a_slice(planted: Store) -> None:
    planted.add_dataset("f", ragged((3,)))
    shown = {(line.model, line.dataset): line for line in planted.coverage()}
    assert sorted(shown) == [(model, dataset) for model in "ab" for dataset in "def"]
    assert (shown["b", "f"].steps, shown["b", "f"].missing) == ([], list(PLANTED_STEPS))
    words = ["status", "-s", str(planted.path)]
    table = CliRunner().invoke(app, words).stdout.splitlines()
    assert " ".join(table[3].split()) == "a f 0 8 0, 1, 2, 4, 8, 16, … 0 0 B"
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)[2]["missing"] == [*PLANTED_STEPS]


@pytest.mark.parametrize("step", ["step4", True, 1.5, -1, None, 2**63])
def test_a_step_is_a_whole_number(planted: Store, step: object) -> None:
    losses = np.ones(planted.dataset("d").n_losses)
    with pytest.raises(BadName, match="cannot be a step"):
        planted.append(model="c", dataset="d", step=step, losses=losses)  # type: ignore[arg-type]
    assert planted.model_names() == ["a", "b"]


def test_a_step_may_be_numpy_s(planted: Store) -> None:
    losses = np.ones(planted.dataset("d").n_losses)
    planted.append(model="c", dataset="d", step=np.int64(3), losses=losses)  # type: ignore[arg-type]
    assert planted.steps("c", "d") == [3]
    assert planted.slice_facts("c", "d", 3).step == 3


def test_definitions_of_a_newer_version_are_not_older(store: Store) -> None:
    store.close()
    with duckdb.connect(store.path / "catalog.duckdb") as connection:
        connection.execute("UPDATE definitions SET sha256 = 'of the future', trajstore = '99.0.0'")
    with pytest.raises(StoreTooNew, match="definitions of 99.0.0"):
        trajstore.open(store.path)


def test_facts_that_are_not_known_are_added_and_known_ones_stay(planted: Store) -> None:
    planted.publish_model(ModelFacts("a", n_params=300, repo="somewhere"))
    held = planted.publish_model(ModelFacts("a", n_params=300, tokens_per_step=1024, parent="b"))
    assert held == ModelFacts("a", n_params=300, repo="somewhere", tokens_per_step=1024)
    assert planted.publish_model(ModelFacts("a", n_params=300, tokens_per_step=7, seed=1)) == held
    assert planted.publish_model(ModelFacts("a", repo="elsewhere", seed=1)) == held
    assert planted.model("a") == held
    assert digests.problem(planted.path / "models" / "a.json") is None
