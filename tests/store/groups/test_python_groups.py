"""Groups by a Python function: what it gets and may give, what is kept, when that is stale, and what mends it."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

import trajstore
from tests.conftest import new_dataset
from trajstore.cli import app
from trajstore.errors import DamagedFile, GroupError, StaleGroup, UnknownName
from trajstore.store import checks, lifecycle
from trajstore.store.files import group_tables
from trajstore.store.groups import python_functions
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import NewStore

TEXTS = [["a", "b", "c", "b"], ["b", "c"], ["b", "b", "b"]]
BS = [("d", 0, 1), ("d", 0, 3), ("d", 1, 0), ("d", 2, 0), ("d", 2, 1), ("d", 2, 2)]
CS = [("d", 0, 2), ("d", 1, 1)]

MODULE = '''
LETTER = "b"

def letters(tokens):
    """Tokens that are the letter.

    More of it.
    """
    return tokens["text"] == LETTER
'''

GROUP = "FROM groups.bs ORDER BY ALL"


@pytest.fixture(scope="module")
def _lettered(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lettered") / "store"
    with new_store(path) as store:
        store.add_dataset("d", new_dataset(TEXTS))
    return path


@pytest.fixture
def lettered(_lettered: Path, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store, and a working folder with a module mine."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("mine", "again", "folder", "folder.inner", "folder.inner.letters"):
        sys.modules.pop(name, None)
    write(MODULE)
    return Store(shutil.copytree(_lettered, store_path))


@pytest.fixture
def with_bs(lettered: Store) -> Store:
    lettered.groups.add_python("bs", "mine:letters")
    return lettered


def write(text: str, name: str = "mine.py") -> None:
    Path(name).write_text(text)


def run(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_what_is_kept(with_bs: Store) -> None:
    assert with_bs.sql(GROUP).fetchall() == BS
    group = with_bs.groups.show("bs")
    assert (group.origin, group.sizes, group.stale) == ("python", {"d": 6}, "")
    assert group.description == "Tokens that are the letter."
    assert group.code is not None
    assert group.code.function == "mine:letters"
    # Independent of the code under test: sha256sum of the file, and of the function's lines.
    own = MODULE[MODULE.index("def ") :]
    assert group.code.module_sha256 == f"sha256:{hashlib.sha256(MODULE.encode()).hexdigest()}"
    assert group.code.function_sha256 == f"sha256:{hashlib.sha256(own.encode()).hexdigest()}"
    assert with_bs.groups.members("bs", with_bs.dataset("d")).tolist() == [1, 3, 4, 6, 7, 8]
    assert checks.check(with_bs, deep=True) == []


def test_what_the_function_gets(lettered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[pl.DataFrame] = []

    def every_second(tokens: pl.DataFrame) -> list[bool]:
        seen.append(tokens)
        return [position % 2 == 1 for position in tokens["position"]]

    monkeypatch.setattr(python_functions, "_BATCH", 5)
    dataset = lettered.dataset("d")
    (found,) = python_functions.find_sites(every_second, "g", [dataset], trajstore.progress.SILENT)
    frame = pl.concat(seen)
    assert [len(each) for each in seen] == [4, 2, 3]
    assert frame.columns == [
        *("dataset", "context", "position", "token", "text", "item", "item_position", "role"),
    ]
    assert frame.drop("dataset").equals(dataset.frame())
    assert frame["dataset"].unique().to_list() == ["d"]
    places = list(zip(found.context.tolist(), found.position.tolist(), strict=True))
    assert places == [(0, 1), (0, 3), (1, 1), (2, 1)]


@pytest.mark.parametrize(
    "mask",
    [
        "[True, False, True, True][: len(t)]",
        "np.arange(len(t)) == 1",
        "t['position'] == 1",
        "[np.True_] * len(t)",
    ],
)
def test_masks_of_each_kind(lettered: Store, mask: str) -> None:
    write(f"import numpy as np\ndef f(t): return {mask}")
    group = lettered.groups.add_python("g", "mine:f")
    t = lettered.dataset("d").frame()
    expected = sum(
        sum(map(bool, eval(mask, {"np": np, "t": t.filter(pl.col("context") == context)})))
        for context in range(3)
    )
    assert group.sizes == {"d": expected}


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("[True]", "g gave 1 values for context 0 of d, which has 4 tokens"),
        ("[1, 0, 0, 0]", "a list that holds int"),
        ("[True, None, True, True]", "a list that holds NoneType"),
        ("np.zeros(4)", "an array of float64"),
        ("np.zeros((4, 1), bool)", "an array of 2 dimensions"),
        ("t['position']", "a series of Int32"),
        ("t['role'] == 'x'", "a series with nulls"),
        ("True", "g gave bool for context 0 of d"),
        ("None", "g gave NoneType"),
        ("(x for x in [])", "g gave generator"),
        ("1 / 0", "g failed on context 0 of d: ZeroDivisionError: division by zero"),
        ("[True] * 4 if t['context'][0] < 1 else t['nothing']", "g failed on context 1 of d: ColumnNotFound"),
    ],
)
def test_what_is_no_mask(lettered: Store, mask: str, message: str) -> None:
    write(f"import numpy as np\ndef f(t): return {mask}")
    with pytest.raises(GroupError, match=message):
        lettered.groups.add_python("g", "mine:f")
    assert list((lettered.path / "groups").iterdir()) == []


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("mine", "names no function. It takes MODULE:FUNCTION"),
        ("mine:", "names no function"),
        ("../mine:letters", "names no function"),
        (
            "nothing_like_it:f",
            "There is no module 'nothing_like_it' here. It is looked for in the working folder",
        ),
        ("mine.inner:f", "There is no module 'mine.inner'"),
        ("mine:nothing", "There is no nothing in .*mine.py; there is: letters"),
        ("mine:LETTER", "mine:LETTER is str, and not a function"),
        ("sys:exit", "The module sys has no Python file"),
        ("broken:f", "broken.py cannot be imported: ZeroDivisionError"),
        ("no_python:f", "no_python.py cannot be imported: .*invalid syntax"),
        ("again:letters", "again:letters comes from mine. Name it where it is defined: mine:letters"),
    ],
)
def test_functions_that_cannot_be(lettered: Store, function: str, message: str) -> None:
    write("1 / 0", "broken.py")
    write("this is no python", "no_python.py")
    write("from mine import letters", "again.py")
    with pytest.raises(GroupError, match=message):
        lettered.groups.add_python("g", function)
    assert list((lettered.path / "groups").iterdir()) == []


def test_modules_in_packages_and_beside_each_other(lettered: Store) -> None:
    Path("folder/inner").mkdir(parents=True)
    write("LETTER = 'c'", "folder/inner/letters.py")
    write("from folder.inner.letters import LETTER\nfrom .inner import letters", "folder/__init__.py")
    write("from .inner.letters import LETTER\ndef f(t): return t['text'] == LETTER", "folder/tell.py")
    assert lettered.groups.add_python("cs", "folder.tell:f").sizes == {"d": 2}


def test_an_edit_is_seen_though_the_module_was_imported(
    with_bs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of the same length within the same second, which Python's own cache would miss."""
    monkeypatch.syspath_prepend(Path.cwd())
    imported = importlib.import_module("mine")
    write(MODULE.replace('"b"', '"c"'))
    with pytest.warns(
        StaleGroup, match="'bs' is stale: the module of mine:letters has changed.*group refresh bs"
    ):
        assert with_bs.sql(GROUP).fetchall() == BS
    assert sys.modules["mine"] is imported
    assert with_bs.groups.show("bs").stale == "the module of mine:letters has changed"
    assert with_bs.groups.refresh() == ["bs"]
    assert with_bs.sql(GROUP).fetchall() == CS
    assert with_bs.groups.show("bs").stale == ""
    assert with_bs.groups.refresh(["bs"]) == []
    write(MODULE.replace('"b"', '"c"').replace("==", "!="))
    assert with_bs.groups.show("bs").stale == "mine:letters has changed"


def test_it_is_said_once_in_a_session(with_bs: Store, recwarn: pytest.WarningsRecorder) -> None:
    write(MODULE + "\n")
    with_bs.groups.add("on_bs", "FROM groups.bs WHERE position > 0")
    for _ in range(2):
        with_bs.groups.members("on_bs", with_bs.dataset("d"))
        with_bs.sql("FROM groups.on_bs")
        with_bs.query("group_sizes", group="on_bs")
    assert [str(each.category) for each in recwarn] == [str(StaleGroup)]
    with trajstore.open(with_bs.path) as other:
        other.sql("SELECT 'digits' FROM tokens")
        assert len(recwarn) == 1
        other.query("group_sizes", group="on_bs")
        assert len(recwarn) == 2


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The datasets that functions are run over from now on."""
    done: list[str] = []
    real = python_functions._find_in
    monkeypatch.setattr(
        python_functions, "_find_in", lambda *args: (done.append(args[2].name), real(*args))[1]
    )
    return done


def test_a_dataset_that_came_later(with_bs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with_bs.groups.add_python("only_d", "mine:letters", datasets=["d"])
    with_bs.add_dataset("e", new_dataset([["b", "x"]]))
    assert with_bs.groups.show("bs").stale == "e came later"
    assert with_bs.groups.show("only_d").stale == ""
    done = counting(monkeypatch)
    assert with_bs.groups.refresh() == ["bs"]
    assert done == ["e"], "what is as it was is not run over again"
    assert with_bs.groups.show("bs").sizes == {"d": 6, "e": 1}
    assert with_bs.sql("FROM groups.bs WHERE dataset = 'e'").fetchall() == [("e", 0, 0)]


def test_a_dataset_that_was_replaced(with_bs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with_bs.add_dataset("e", new_dataset([["b", "x"]]))
    with_bs.groups.refresh()
    with_bs.groups.add("on_bs", "FROM groups.bs WHERE position < 9")
    with_bs.drop_dataset("d")
    assert with_bs.groups.show("bs").stale == ""
    assert with_bs.groups.show("bs").sizes == {"e": 1}
    with_bs.add_dataset("d", new_dataset([["x", "y", "b"]]))
    with pytest.warns(StaleGroup, match="d has changed"):
        assert with_bs.sql(GROUP).fetchall() == [("e", 0, 0)], "no site of other tokens is given"
    assert with_bs.groups.show("bs").sizes == {"e": 1}
    assert with_bs.groups.members("bs", with_bs.dataset("e")).tolist() == [0]
    for name in ("bs", "on_bs"):
        with pytest.raises(GroupError, match=f"'{name}' was made when d had other tokens.*group refresh bs"):
            with_bs.groups.members(name, with_bs.dataset("d"))
    done = counting(monkeypatch)
    assert with_bs.groups.refresh() == ["bs"]
    assert done == ["d"]
    assert with_bs.sql(GROUP).fetchall() == [("d", 0, 2), ("e", 0, 0)]
    assert with_bs.groups.show("on_bs").stale == ""


def test_other_texts_under_the_same_ids_are_stale_too(with_bs: Store) -> None:
    with_bs.drop_dataset("d")
    with_bs.add_dataset("d", new_dataset([[text.upper() for text in context] for context in TEXTS]))
    assert with_bs.groups.show("bs").stale == "d has changed"


def test_a_dataset_of_the_same_files_is_as_it_was(with_bs: Store) -> None:
    with_bs.drop_dataset("d")
    with_bs.add_dataset("d", new_dataset(TEXTS))
    assert with_bs.groups.show("bs").stale == ""
    assert with_bs.sql(GROUP).fetchall() == BS


def test_the_same_again_changes_nothing(with_bs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    done = counting(monkeypatch)
    before = with_bs.groups.show("bs")
    assert with_bs.groups.add_python("bs", "mine:letters") == before
    assert done == []
    write(MODULE + "\ndef others(tokens): return tokens['text'] != LETTER")
    with pytest.raises(GroupError, match="with another definition.*replace=True"):
        with_bs.groups.add_python("bs", "mine:others")
    after = with_bs.groups.add_python("bs", "mine:others", "Others.", replace=True)
    assert (after.sizes, after.description) == ({"d": 3}, "Others.")
    assert with_bs.groups.add("bs", "FROM groups.every_token", replace=True).origin == "sql"
    assert not (with_bs.path / "groups" / "bs.parquet").exists()


def test_a_failed_refresh_leaves_what_was(with_bs: Store) -> None:
    write(MODULE.replace('tokens["text"] == LETTER', "[True]"))
    with pytest.raises(GroupError, match="gave 1 values"):
        with_bs.groups.refresh()
    with pytest.warns(StaleGroup):
        assert with_bs.sql(GROUP).fetchall() == BS


def test_refresh_of_other_groups(with_bs: Store) -> None:
    with_bs.groups.add("sql", "FROM groups.digits")
    for name in ("sql", "digits"):
        with pytest.raises(GroupError, match=f"'{name}' is not found by a Python function"):
            with_bs.groups.refresh([name])
    with pytest.raises(UnknownName, match="no group 'nothing'"):
        with_bs.groups.refresh(["nothing"])


def test_two_refresh_at_once(with_bs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job finds it anew between our look and our write: ours gives way."""
    write(MODULE.replace('"b"', '"c"'))
    real = python_functions.find_sites

    def late(*given: object) -> object:
        monkeypatch.setattr(python_functions, "find_sites", real)
        with trajstore.open(with_bs.path) as other:
            other.groups.refresh()
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(python_functions, "find_sites", late)
    with pytest.raises(GroupError, match="was changed by another job meanwhile"):
        with_bs.groups.refresh()
    assert with_bs.groups.show("bs").sizes == {"d": 2}


def test_a_store_that_was_moved_where_the_module_is_not(
    with_bs: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    shutil.move(with_bs.path, tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with trajstore.open(tmp_path / "moved") as store:
        assert store.sql(GROUP).fetchall() == BS
        assert store.groups.show("bs").stale == ""
        with pytest.raises(GroupError, match="There is no module 'mine' here"):
            store.groups.refresh()
    lifecycle.rebuild(tmp_path / "moved")
    with trajstore.open(tmp_path / "moved") as store:
        assert store.sql(GROUP).fetchall() == BS
        assert checks.check(store, deep=True) == []
    monkeypatch.chdir(tmp_path / "moved")
    with duckdb.connect("catalog.duckdb", read_only=True) as plain:
        assert plain.execute(GROUP).fetchall() == BS, "DuckDB alone, in the store's folder"


@pytest.mark.filterwarnings("default::trajstore.errors.StaleGroup")
def test_commands(lettered: Store) -> None:
    path = lettered.path
    added = run("group", "add", "bs", "--python", "mine:letters", "-s", path)
    assert (added.exit_code, added.stdout) == (0, "")
    assert "bs: 3 contexts" in added.stderr
    assert "Group bs: 6 in d." in added.stderr
    write(MODULE.replace('"b"', '"c"'))
    stale = run("sql", GROUP, "-s", path, "--format", "csv")
    assert len(stale.stdout.splitlines()) == 7
    assert (
        stale.stderr.count("Warning: The group 'bs' is stale: the module of mine:letters has changed.") == 1
    )
    assert (
        "stale:      the module of mine:letters has changed" in run("group", "show", "bs", "-s", path).stdout
    )
    assert "[stale] Tokens that are" in run("group", "list", "-s", path).stdout
    assert run("group", "refresh", "-s", path).exit_code == 2
    assert run("group", "refresh", "bs", "--all", "-s", path).exit_code == 2
    assert "Found anew: bs." in run("group", "refresh", "--all", "-s", path).stderr
    assert "Nothing was stale." in run("group", "refresh", "bs", "-s", path).stderr
    assert run("sql", GROUP, "-s", path, "--format", "csv").stderr == ""
    assert run("group", "add", "x", "--sql", GROUP, "--dataset", "d", "-s", path).exit_code == 2


# Files that are not what was written


def _without_footer(path: Path) -> None:
    pl.DataFrame({"dataset": ["d"], "context": [0], "position": [1]}).write_parquet(path)


def _other_columns(path: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pq.write_table(table.rename_columns(["dataset", "context", "place", "tokens_sha256"]), path)


def _more_rows(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    metadata = pq.read_metadata(path).metadata
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(pa.concat_tables([table, table]))
        writer.add_key_value_metadata({k: v for k, v in metadata.items() if k != b"ARROW:schema"})


BAD_TABLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no_parquet": (lambda path: path.write_bytes(b"no table"), "Parquet magic bytes not found"),
    "empty": (lambda path: path.write_bytes(b""), "file size is 0 bytes"),
    "footer": (_without_footer, "its footer lacks the facts of a group"),
    "columns": (_other_columns, "its footer lacks the facts of a group|its columns are not those of a group"),
    "rows": (_more_rows, "it has 12 rows, and its footer speaks of 6"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_a_damaged_table_is_named(with_bs: Store, kind: str) -> None:
    damage, message = BAD_TABLES[kind]
    damage(with_bs.path / "groups" / "bs.parquet")
    with pytest.raises(DamagedFile, match=rf"(?s)groups/bs.parquet is damaged: .*({message})"):
        with_bs.groups.members("bs", with_bs.dataset("d"))
    found = {each.path: each.what for each in checks.check(with_bs)}
    assert "groups/bs.parquet" in found
    listed = {each.name: each for each in with_bs.groups.list()}
    assert "bs.parquet is damaged" in listed["bs"].problem
    assert listed["every_token"].sizes == {"d": 9}


def test_any_flipped_bit_is_found(with_bs: Store) -> None:
    path = with_bs.path / "groups" / "bs.parquet"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, 8 * len(whole), 40):
        data = bytearray(whole)
        data[at // 8] ^= 1 << (at % 8)
        path.write_bytes(data)
        assert group_tables.table_problem(with_bs.path, "bs", deep=True) is not None, at
    path.write_bytes(whole)
    assert group_tables.table_problem(with_bs.path, "bs", deep=True) is None


def test_a_table_under_another_name(with_bs: Store) -> None:
    shutil.copy(with_bs.path / "groups" / "bs.parquet", with_bs.path / "groups" / "cs.parquet")
    (found,) = checks.check(with_bs)
    assert (found.path, found.what) == ("groups/cs.parquet", "it is the table of no group")
    assert found.mend == "trajstore group drop cs"
    with_bs.groups.drop("cs")
    assert checks.check(with_bs) == []
    shutil.copy(with_bs.path / "groups" / "bs.parquet", with_bs.path / "groups" / "cs.parquet")
    (with_bs.path / "groups" / "cs.sql").write_text("FROM kept_sites('cs')\n")
    with pytest.raises(DamagedFile, match="it is the table of 'bs', so it is under another's name"):
        with_bs.groups.current("cs")


def test_a_table_that_is_gone(with_bs: Store) -> None:
    (with_bs.path / "groups" / "bs.parquet").unlink()
    assert "it is not there" in [each.what for each in checks.check(with_bs)]
    with pytest.raises(DamagedFile, match="bs.parquet"):
        with_bs.groups.members("bs", with_bs.dataset("d"))
    with_bs.groups.drop("bs")
    assert checks.check(with_bs) == []


def test_a_linked_or_strange_table_is_not_read(with_bs: Store, tmp_path: Path) -> None:
    path = with_bs.path / "groups" / "bs.parquet"
    shutil.move(path, tmp_path / "bs.parquet")
    path.symlink_to(tmp_path / "bs.parquet")
    with pytest.raises(DamagedFile, match="a symbolic link leads there"):
        with_bs.groups.members("bs", with_bs.dataset("d"))
    assert "groups/bs.parquet" in [each.path for each in checks.check(with_bs)]
    path.unlink()
    os.mkfifo(path)
    with trajstore.open(with_bs.path) as store, pytest.raises(DamagedFile, match="it is a pipe"):
        store.sql(GROUP)
