"""Files forged or damaged to mislead those who read them: a sentence is given, in little time and memory."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import trajstore
from tests.helpers.commands import run
from trajstore.datasets import token_bytes
from trajstore.errors import (
    BadDataset,
    BadSource,
    DamagedFile,
    GroupError,
    QueryError,
    StoreUnusable,
    shortened,
)
from trajstore.importers.formats import format_of
from trajstore.schema import CATALOG, META_KEY
from trajstore.store import checks, lifecycle
from trajstore.store.disk import digests
from trajstore.store.files.models import ModelFacts
from trajstore.store.groups import sizes
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


SLICE = "losses/model=a/dataset=d/step=8/slice.parquet"
TOKENS, CONTEXTS = "tokens/dataset=d/tokens.parquet", "tokens/dataset=d/contexts.parquet"
MANY = 250_000_000_000_000


@pytest.fixture(scope="module")
def _made(planted_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = shutil.copytree(planted_once, tmp_path_factory.mktemp("made") / "store")
    with Store(path) as store:
        store.publish_model(ModelFacts("a", n_params=7))
    return path


@pytest.fixture
def path(_made: Path, store_path: Path) -> Path:
    return shutil.copytree(_made, store_path)


def forge(
    path: Path,
    table: Callable[[pa.Table], pa.Table] = lambda table: table,
    facts: Callable[[dict[str, Any]], object] = lambda facts: facts,
) -> None:
    """Change a file's rows or what its footer says, under a digest that fits."""
    with pq.ParquetFile(path) as file:
        rows, footer = file.read(), file.metadata.metadata or {}
    said = json.loads(footer.get(META_KEY.encode(), b"{}"))
    changed = facts(said)
    text = changed if isinstance(changed, str) else json.dumps(changed)
    path.write_bytes(digests.parquet(table(rows), {META_KEY: text}))


def with_numbers(name: str, numbers: list[int]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[: len(numbers)] = numbers
        at = table.schema.get_field_index(name)
        return table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))

    return change


TABLES: dict[str, tuple[str, Callable[[pa.Table], pa.Table]]] = {
    "lengths that are enormous": (CONTEXTS, with_numbers("n_tokens", [2**31 - 1, 2**31 - 1])),
    "lengths of nothing": (CONTEXTS, with_numbers("n_tokens", [0, 11])),
    "lengths below zero": (CONTEXTS, with_numbers("n_tokens", [-9])),
    "other lengths of the same sum": (CONTEXTS, with_numbers("n_tokens", [8, 3])),
    "numbers of contexts that jump": (CONTEXTS, with_numbers("context", [7])),
    "no contexts": (CONTEXTS, lambda table: table.slice(0, 0)),
    "contexts without lengths": (CONTEXTS, lambda table: table.drop_columns(["n_tokens"])),
    "no text": (TOKENS, lambda table: table.drop_columns(["text"])),
    "a null text": (
        TOKENS,
        lambda table: table.set_column(3, "text", pa.array([None] * table.num_rows, pa.string())),
    ),
    "positions swapped": (TOKENS, with_numbers("position", [1, 0])),
    "contexts beyond the last": (TOKENS, with_numbers("context", [2**30])),
    "ids below zero": (TOKENS, with_numbers("token", [-1])),
    "ids as text": (
        TOKENS,
        lambda table: table.set_column(2, "token", table["token"].cast(pa.string())),
    ),
    "fewer tokens": (TOKENS, lambda table: table.slice(1)),
}

FOOTERS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "nested JSON": (TOKENS, lambda facts: "[" * 100_000),
    "a list": (TOKENS, lambda facts: [facts]),
    "counts as texts": (TOKENS, lambda facts: {**facts, "n_tokens": "103"}),
    "counts that are enormous": (TOKENS, lambda facts: {**facts, "n_tokens": MANY, "n_contexts": MANY // 2}),
    "no contexts": (TOKENS, lambda facts: {**facts, "n_contexts": 0}),
    "a tokenizer that is none": (TOKENS, lambda facts: {**facts, "tokenizer": {"name": ["x"]}}),
    "a source that is none": (TOKENS, lambda facts: {**facts, "source": {"a": {"b": []}}}),
    "a slice with nested JSON": (SLICE, lambda facts: "[" * 100_000),
    "a slice with a dtype that is none": (SLICE, lambda facts: {**facts, "dtype": ["float32"]}),
    "a slice with versions that are none": (SLICE, lambda facts: {**facts, "versions": {"torch": {}}}),
    "a slice with rows as text": (SLICE, lambda facts: {**facts, "rows": "97"}),
}

USES: list[tuple[str, ...]] = [
    ("dataset", "show", "d"),
    ("matrix", "OUT", "-d", "d"),
    ("trajectory", "every_token", "-d", "d"),
    ("group", "examples", "every_token", "-d", "d"),
    ("report", "PAGE"),
    ("check", "--deep"),
    ("check",),
]


@pytest.mark.parametrize("kind", [*TABLES, *FOOTERS])
def test_forged_tables_are_told_in_a_sentence(path: Path, tmp_path: Path, kind: str) -> None:
    """By every reader: exit code 0 or 1 without a traceback, and by check with the file's name."""
    if kind in TABLES:
        name, table = TABLES[kind]
        forge(path / name, table)
    else:
        name, facts = FOOTERS[kind]
        forge(path / name, facts=facts)
    for number, words in enumerate(USES if kind in list(TABLES)[::4] else USES[-2:]):
        places = {"OUT": tmp_path / f"{number}.npy", "PAGE": tmp_path / f"{number}.html"}
        done = run(*(places.get(word, word) for word in words), "-s", path)
        assert done.exit_code in (0, 1), (words, done.stderr)
        assert "Traceback" not in done.stderr
    with Store(path) as store:
        named = {problem.path for problem in checks.check(store, deep=True)}
        assert named & ({SLICE} if name == SLICE else {TOKENS, CONTEXTS})
        if name != SLICE:
            with pytest.raises(DamagedFile):
                store.dataset("d").frame()


def test_a_slice_that_claims_many_rows_is_not_read(path: Path) -> None:
    """Two million rows of one value in a few kilobytes, said to be a part of a dataset of 103 tokens."""
    rows = 2_000_000
    table = pa.table(
        {
            "context": np.zeros(rows, np.int32),
            "position": np.ones(rows, np.int32),
            "loss": np.ones(rows, "f4"),
        }
    )
    forge(path / SLICE, lambda _: table, lambda facts: {**facts, "partial": True, "rows": rows})
    with Store(path) as store, pytest.raises(DamagedFile, match=r"it has 2000000 losses, d has 97"):
        store.slice_losses("a", "d", 8)


# catalogs

CATALOGS = {
    "rows": "CREATE TABLE many AS SELECT 7 AS a FROM range(3000000)",
    "texts": "CREATE TABLE many AS SELECT repeat('x', 100000) AS a FROM range(3000)",
    "lists": "CREATE TABLE many AS SELECT range(500000) AS a FROM range(4)",
}


@pytest.mark.parametrize("kind", CATALOGS)
def test_a_small_catalog_that_would_be_large_in_memory_is_refused(path: Path, kind: str) -> None:
    with duckdb.connect(str(path / CATALOG)) as connection:
        connection.execute(CATALOGS[kind])
    with pytest.raises(
        DamagedFile, match=r"its tables, up to main.many, hold .* where a catalog has a few rows"
    ):
        trajstore.open(path)
    lifecycle.rebuild(path)
    trajstore.open(path).close()


def test_sizes_in_the_cache_are_told_by_what_they_are_of(path: Path) -> None:
    with Store(path) as store:
        expected = store.groups.show("every_token").sizes
    cache = path / "cache" / "group_sizes.json"
    entries = json.loads(cache.read_bytes())
    assert all(sizes._is_of(key, entry) for key, entry in entries.items())
    cache.write_text(json.dumps({key: [n + 1, both] for key, (n, both) in entries.items()}))
    with Store(path) as store:
        assert store.groups.show("every_token").sizes == expected
    values = list(entries.values())
    cache.write_text(json.dumps(dict(zip(entries, values[1:] + values[:1], strict=True))))
    with Store(path) as store:
        assert store.groups.show("every_token").sizes == expected


# statements, paths and functions


def test_statements_that_only_duckdb_knows(path: Path) -> None:
    with Store(path) as store:
        for text in ("UPDATE EXTENSIONS", "EXPLAIN UPDATE EXTENSIONS", "UPDATE EXTENSIONS (icu)"):
            with pytest.raises(QueryError, match=r"Sessions only read|cannot be read as a statement"):
                store.sql(text)
        with pytest.raises(QueryError, match="is not UTF-8 text"):
            store.sql("SELECT '\udcff'")
        with pytest.raises(QueryError, match="is not UTF-8"):
            store.connection([path.parent.joinpath("\udcff")])


def test_paths_that_are_not_utf8(tmp_path: Path, path: Path) -> None:
    odd = tmp_path / "\udcff"
    with pytest.raises(StoreUnusable, match="is not UTF-8"):
        Store.create(odd)
    odd.with_suffix(".csv").write_text("step,context,position,loss\n")
    done = run("ingest", odd.with_suffix(".csv"), "-m", "x", "-d", "d", "-s", path)
    assert done.exit_code == 1
    assert "is not UTF-8" in done.stderr


@pytest.mark.parametrize("text", ["raise SystemExit(0)", "def found(tokens):\n    raise SystemExit(0)"])
def test_a_function_that_ends_the_process(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ending.py").write_text(text + "\n")
    done = run("group", "add", "ended", "--python", "ending:found", "-s", path)
    assert done.exit_code == 1
    assert "SystemExit" in done.stderr
    with Store(path) as store, pytest.raises(GroupError, match="SystemExit"):
        store.groups.add_python("ended", "ending:found")


def test_long_messages_of_others_are_cut(path: Path) -> None:
    assert shortened("x" * 500) == "x" * 500
    assert shortened("x" * 777) == "x" * 500 + " … (277 characters more)"
    done = run("sql", "SELECT error(repeat('y', 100000))", "-s", path)
    assert done.exit_code == 1
    assert 400 < done.stderr.count("y") < 600


# ingest


def npy(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(40)


@pytest.mark.parametrize("shape", [(), (-1, 97), (2, -3), (2**60, 4), (0,), (10, 0), (2, 97, 2)])
def test_arrays_of_odd_shapes(path: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = tmp_path / "losses.npy"
    file.write_bytes(npy(shape))
    done = run("ingest", file, "-m", "x", "-d", "d", "--step", "1,2", "-s", path)
    assert done.exit_code == 1
    assert "losses.npy" in done.stderr


def long_csv(path: Path, token: Callable[[int], str]) -> str:
    """A slice in the long format, with a token each."""
    with Store(path) as store:
        dataset = store.dataset("d")
        context, position = dataset.loss_keys
        ids = dataset.ids()
    lines = [
        f"x,1,{c},{p},{token(int(ids[c][p]))},2.5"
        for c, p in zip(context.tolist(), position.tolist(), strict=True)
    ]
    return "\n".join(["model,step,context,position,token,loss", *lines]) + "\n"


def test_tokens_that_cannot_be_read_are_no_absent_tokens(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    for said in ("abc", "1.5", "0x1F"):
        file.write_text(long_csv(path, lambda _, said=said: said))
        done = run("ingest", file, "-d", "d", "-s", path)
        assert done.exit_code == 1, said
        assert "is no whole number" in done.stderr
    for said in ("", "NaN", '""'):
        file.write_text(long_csv(path, lambda _, said=said: said))
        assert run("ingest", file, "-d", "d", "--replace", "-s", path).exit_code == 0, said


def test_a_compressed_file_is_read_or_called_so(path: Path, tmp_path: Path) -> None:
    packed = gzip.compress(long_csv(path, str).encode())
    (tmp_path / "long.csv").write_bytes(packed)
    done = run("ingest", tmp_path / "long.csv", "-d", "d", "-s", path)
    assert done.exit_code == 1
    assert "is compressed (gzip). Unpack it first" in done.stderr
    assert "long.csv.gz" in done.stderr
    (tmp_path / "long.csv.gz").write_bytes(packed)
    assert run("ingest", tmp_path / "long.csv.gz", "-d", "d", "-s", path).exit_code == 0
    (tmp_path / "m.npy").write_bytes(packed)
    with pytest.raises(BadSource, match="compressed"):
        format_of(tmp_path / "m.npy", "auto")


# long texts


@pytest.mark.parametrize("between", [" ", "\n", "  ", "\r\n", " \n\t"])
def test_a_long_text_is_encoded_in_parts_whatever_stands_between_words(
    monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """The parts' tokens are those of the whole, and no part is much longer than it should be."""
    from tests.datasets.test_token_bytes import byte_level, encoded

    tokenizer = byte_level()
    text = between.join(f"word{number % 97} café" for number in range(4_000))
    whole = encoded(tokenizer, text)
    monkeypatch.setattr(token_bytes, "LONG", 2_000)
    monkeypatch.setattr(token_bytes, "_LONGEST", 8_000)
    parts = list(token_bytes._parts(tokenizer, text))
    assert "".join(parts) == text
    assert max(map(len, parts)) < 4_500
    assert token_bytes.encode(tokenizer, text).ids.tolist() == whole


def test_a_text_that_cannot_be_cut_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.datasets.test_token_bytes import byte_level

    monkeypatch.setattr(token_bytes, "LONG", 2_000)
    monkeypatch.setattr(token_bytes, "_LONGEST", 8_000)
    monkeypatch.setattr(token_bytes, "_seams", lambda text, start: iter(()))
    tokenizer = byte_level()
    assert len("".join(token_bytes._parts(tokenizer, "a" * 7_999))) == 7_999
    with pytest.raises(BadDataset, match="no place in 8,000 characters where it could be cut"):
        list(token_bytes._parts(tokenizer, "a" * 9_000))
