"""Nobody waits for what is no file where a file should be, planted in a store from somebody else."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import trajstore
from tests.conftest import ragged
from tests.helpers.commands import run
from trajstore.errors import DamagedFile
from trajstore.store import checks
from trajstore.store.files.models import ModelFacts
from trajstore.store.stand_ins import MODELS as STAND_IN
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import NewStore

# A signal does not end a test that waits inside a library.
pytestmark = pytest.mark.timeout(60, method="thread")

SLICE = "losses/model=a/dataset=d/step=8/slice.parquet"
TOKENS = "tokens/dataset=d/tokens.parquet"
CONTEXTS = "tokens/dataset=d/contexts.parquet"
FACTS = "models/a.json"
GROUP = "groups/mine.sql"


def plant_pipe(path: Path) -> None:
    os.mkfifo(path)


def plant_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # a socket's path may have no more than 108 characters
        made.bind(path.name)


def plant_folder(path: Path) -> None:
    path.mkdir()


KINDS = {"a pipe": plant_pipe, "a socket": plant_socket, "a folder": plant_folder}


@pytest.fixture(scope="module")
def _made(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to copy: two datasets, two steps of one model with facts, a group."""
    path = tmp_path_factory.mktemp("theirs") / "store"
    with new_store(path) as store:
        for name in ("d", "e"):
            dataset = store.add_dataset(name, ragged((9, 2, 30), seed=ord(name)))
            for step in (0, 8):
                store.append(model="a", dataset=name, step=step, losses=np.ones(dataset.n_losses))
        store.publish_model(ModelFacts("a", n_params=7))
        store.groups.add("mine", "FROM groups.every_token")
    return path


@pytest.fixture
def path(_made: Path, store_path: Path) -> Path:
    return Path(shutil.copytree(_made, store_path))


def plant(path: Path, kind: str) -> None:
    path.unlink()
    KINDS[kind](path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [SLICE, TOKENS, CONTEXTS, FACTS, GROUP])
def test_check_names_it(path: Path, kind: str, name: str) -> None:
    plant(path / name, kind)
    with trajstore.open(path) as store:
        found = {problem.path: problem.what for problem in checks.check(store, deep=True)}
    if kind != "a folder":
        assert found[name] == f"it is {kind}, which is never read"
    assert found


READERS: dict[str, list[Callable[[Store], object]]] = {
    SLICE: [
        lambda store: store.matrix("d", "a"),
        lambda store: store.matrix("d", "a", group="mine", missing="nan"),
        lambda store: store.coverage(),
        lambda store: store.has_slice("a", "d", 8),
        lambda store: store.slice_losses("a", "d", 8),
        lambda store: store.slice_facts("a", "d", 8),
        lambda store: store.append(model="a", dataset="d", step=8, losses=[1.0] * 38),
        lambda store: store.append(model="a", dataset="d", step=8, losses=[1.0], contexts=[1]),
    ],
    TOKENS: [
        lambda store: store.dataset("d"),
        lambda store: store.matrix("d", "a"),
        lambda store: store.sql("FROM losses"),
        lambda store: store.sql("FROM tokens", files=[store.path.parent]),
        lambda store: store.groups.show("mine"),
    ],
    CONTEXTS: [
        lambda store: store.dataset("d"),
        lambda store: store.matrix("e", "a", group="mine"),
        lambda store: store.sql("FROM contexts"),
    ],
    FACTS: [
        lambda store: store.model("a"),
        lambda store: store.model_names(),
        lambda store: store.sql("FROM models"),
    ],
    GROUP: [lambda store: store.groups.show("mine")],
}


@pytest.mark.parametrize("kind", ["a pipe", "a socket"])
@pytest.mark.parametrize("name", READERS)
def test_readers_refuse_it(path: Path, kind: str, name: str) -> None:
    plant(path / name, kind)
    for number, read in enumerate(READERS[name]):
        with trajstore.open(path) as store, pytest.raises(DamagedFile) as caught:
            read(store)
        assert (path / name).name in str(caught.value), number
        assert f"{kind} where a file should be" in str(caught.value), number


def test_commands_say_so(path: Path, tmp_path: Path) -> None:
    plant(path / SLICE, "a pipe")
    for words in (
        ["status"],
        ["sql", "FROM losses"],
        ["sql", "SELECT count(*) FROM raw_losses", "--format", "csv"],
        ["matrix", tmp_path / "m.npy", "-d", "d"],
        ["trajectory", "every_token"],
    ):
        result = run(*words, "-s", path)
        assert result.exit_code == 1, words
        assert f"{SLICE} is damaged: it is a pipe where a file should be. Remove it" in result.stderr, words
    found = json.loads(run("check", "--json", "-s", path).stdout)
    assert [each["path"] for each in found] == [SLICE]
    assert run("drop", "-m", "a", "-d", "d", "--steps", "8", "--yes", "-s", path).exit_code == 0
    assert run("check", "-s", path).exit_code == 0
    assert run("status", "-s", path).exit_code == 0


def test_in_place_of_a_replaced_slice(path: Path) -> None:
    plant(path / SLICE, "a pipe")
    with trajstore.open(path) as store:
        store.append(model="a", dataset="d", step=8, losses=[1.0] * 38, replace=True)
        assert store.slice_losses("a", "d", 8).tolist() == [1.0] * 38


@pytest.mark.parametrize("name", ["catalog.duckdb", "catalog.duckdb.wal"])
def test_in_place_of_the_catalog(path: Path, name: str) -> None:
    (path / name).unlink(missing_ok=True)
    plant_pipe(path / name)
    with pytest.raises(DamagedFile, match="is damaged: it is a pipe where a file should be"):
        trajstore.open(path)


@pytest.mark.filterwarnings("always::trajstore.errors.PassedOver")
def test_pipes_elsewhere_disturb_nobody(path: Path) -> None:
    pipes = (
        "tmp/1-dead.parquet",
        "losses/model=a/pipe",
        "losses/pipe",
        "losses/model=a/dataset=d/step=8/pipe",
        "pipe",
    )
    for name in pipes:
        plant_pipe(path / name)
    with trajstore.open(path) as store:
        assert store.coverage()[0].steps == [0, 8]
        assert store.matrix("d", "a").values.shape == (2, 38)
        assert store.sql("SELECT count(*) FROM losses").fetchall() == [(4 * 38,)]
        assert {problem.path for problem in checks.check(store, deep=True)} == set(pipes)


def test_a_pipe_among_the_stand_ins_is_not_waited_for(path: Path) -> None:
    plant(path / STAND_IN, "a pipe")
    for words in (["rebuild"], ["migrate"], ["sql", "FROM models"]):
        result = run(*words, "-s", path)
        assert result.exit_code == 1, words
        assert f"{STAND_IN} is damaged: it is a pipe where a file should be" in result.stderr, words
    found = json.loads(run("check", "--json", "-s", path).stdout)
    assert {"path": str(STAND_IN), "what": "it is a pipe, which is never read"}.items() <= found[0].items()


def test_folders_without_end_within_each_other_are_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path / "models")
    for _ in range(1200):  # more than Python calls itself
        os.mkdir("d")  # noqa: PTH102 - the whole path would be too long
        os.chdir("d")
    monkeypatch.undo()
    assert run("sql", "FROM models", "-s", path).exit_code == 0
    assert run("rebuild", "-s", path).exit_code == 0
    found = {each["path"]: each["what"] for each in json.loads(run("check", "--json", "-s", path).stdout)}
    assert found == {f"models{'/d' * 7}": "it is deeper than anything of a store"}
    while (inside := next(iter((path / "models").glob("d/d")), None)) is not None:  # for who removes the rest
        inside.rename(path / "tmp" / "d")
        (path / "models" / "d").rmdir()
        (path / "tmp" / "d").rename(path / "models" / "d")
