"""Removing losses and datasets: what is shown is what goes, whoever writes meanwhile, and however it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import trajstore
from tests.conftest import PLANTED_STEPS, ragged
from trajstore.cli import app
from trajstore.errors import BadSteps, DatasetInUse, NotScored, UnknownName, UnknownStep
from trajstore.store import checks, drop
from trajstore.store.disk import layout
from trajstore.store.files import coverage
from trajstore.store.files.models import ModelFacts
from trajstore.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: object, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def there(path: Path) -> dict[str, dict[str, list[int]]]:
    with trajstore.open(path) as store:
        assert checks.check(store) == []
        return store.scored()


EVERY = list(PLANTED_STEPS)


def test_a_glob_takes_all_that_it_matches_and_asks_once(planted: Store) -> None:
    words = ["drop", "-m", "*", "--steps", "0:4", "-s", planted.path]
    result = run(*words, stdin="n\n")
    assert result.exit_code == 1
    assert result.stderr.count("?") == 1
    assert "Remove 16 slices of a, b?" in result.stderr
    for model in "ab":
        for name in "de":
            assert f"{model} on {name}: 4 slices, steps 0, 1, 2, 4\n" in result.stderr
    assert there(planted.path)["a"] == {"d": EVERY, "e": EVERY}
    assert run(*words, stdin="y\n").exit_code == 0
    assert there(planted.path) == {model: {"d": EVERY[4:], "e": EVERY[4:]} for model in "ab"}
    assert (
        "Removed 16 slices of a, b." in run("drop", "-m", "a", "-m", "b*", "--yes", "-s", planted.path).stderr
    )
    assert there(planted.path) == {}
    assert [path.name for path in (planted.path / "losses").iterdir()] == ["model=.empty"]


def test_steps_that_one_dataset_lacks(planted: Store) -> None:
    planted.drop([("a", "e", 8)])
    assert planted.chosen_slices("a", None, 8) == [("a", "d", 8)]
    assert planted.chosen_slices("*", None, "8,64") == [
        ("a", "d", 8),
        ("a", "d", 64),
        ("a", "e", 64),
        *(("b", name, step) for step in (8, 64) for name in "de"),
    ]
    with pytest.raises(UnknownStep, match="matches no checkpoint of a on e"):
        planted.chosen_slices("a", "e", 8)
    planted.drop([("a", "d", 8)])
    with pytest.raises(UnknownStep, match="matches no checkpoint of a on d, e"):
        planted.chosen_slices("a", None, 8)
    assert {model for model, _, _ in planted.chosen_slices("*", None, 8)} == {"b"}, (
        "a glob takes what is there"
    )
    with pytest.raises(UnknownStep):
        planted.chosen_slices("*", None, 9)
    with pytest.raises(BadSteps):
        planted.chosen_slices("a", None, "x")


def test_what_is_not_there_is_not_dropped(planted: Store) -> None:
    with pytest.raises(UnknownName, match=r"no model 'c\*'"):
        planted.chosen_slices("c*")
    with pytest.raises(UnknownName, match="no dataset with losses of a, b 'x'"):
        planted.chosen_slices("*", ["d", "x"])
    planted.drop(planted.chosen_slices("a", "d"))
    with pytest.raises(NotScored, match="no losses of a on d"):
        planted.chosen_slices(["a", "b"], "d")


def test_facts_go_with_the_last_slice(planted: Store) -> None:
    planted.publish_model(ModelFacts("a", n_params=7))
    planted.drop(planted.chosen_slices("a", "d"))
    assert planted.model("a") is not None
    planted.drop(planted.chosen_slices("a"))
    assert planted.model("a") is None
    assert planted.model_names() == ["b"]


def test_what_an_interrupted_drop_left_of_a_model_goes(planted: Store) -> None:
    """Facts and empty folders, without a slice to name."""
    planted.drop(planted.chosen_slices("a"))
    planted.publish_model(ModelFacts("a", n_params=7))
    (planted.path / "losses/model=a/dataset=d/step=3").mkdir(parents=True)
    assert planted.model_names() == ["a", "b"]
    assert planted.chosen_slices("a") == []
    assert "Removed 0 slices." in run("drop", "-m", "a", "--yes", "-s", planted.path).stderr
    assert planted.model_names() == ["b"]
    assert not (planted.path / "losses/model=a").exists()


def test_a_slice_that_comes_meanwhile_stays_with_its_facts(
    planted: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.publish_model(ModelFacts("a", n_params=7))
    chosen = planted.chosen_slices("a")
    prune = layout.prune

    def later(folder: Path) -> None:
        planted.append(model="a", dataset="d", step=99, losses=np.ones(97))
        prune(folder)

    monkeypatch.setattr(layout, "prune", later)
    planted.drop(chosen)
    assert planted.scored("a") == {"a": {"d": [99]}}
    assert planted.model("a") == ModelFacts("a", n_params=7)


@pytest.mark.parametrize("replace", [False, True])
def test_appending_while_the_folder_goes_away(
    planted: Store, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    """The folder is made, and gone again before the file is put there: however often."""
    gone = 0
    make = layout.make_folders

    def make_and_lose(folder: Path, root: Path) -> None:
        nonlocal gone
        make(folder, root)
        if gone < 3 and "step=99" in str(folder):
            gone += 1
            layout.prune(root / "losses/model=new")

    monkeypatch.setattr(layout, "make_folders", make_and_lose)
    planted.append(model="new", dataset="d", step=99, losses=np.ones(97), replace=replace)
    assert gone == 3
    assert planted.scored("new") == {"new": {"d": [99]}}
    assert list((planted.path / "tmp").iterdir()) == []


def test_appending_to_a_store_that_is_removed_ends(planted: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(first: Path, second: Path) -> None:
        shutil.rmtree(planted.path)
        raise FileNotFoundError(2, "No such file or directory", str(second))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(FileNotFoundError):
        planted.append(model="new", dataset="d", step=99, losses=np.ones(97))


def test_dropping_and_appending_one_slice_at_once(planted: Store) -> None:
    """Nobody fails, and in the end it is whole or not there."""
    wrong: list[BaseException] = []

    def again_and_again(work: str) -> None:
        try:
            with trajstore.open(planted.path) as store:
                for number in range(60):
                    if work == "drop":
                        store.drop([("new", "d", 1)], ["new"])
                    else:
                        store.append(
                            model="new", dataset="d", step=1, losses=np.full(97, number / 2), replace=True
                        )
        except BaseException as error:
            wrong.append(error)

    threads = [
        threading.Thread(target=again_and_again, args=(work,)) for work in ("drop", "append", "append")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert checks.check(planted, deep=True) == []
    planted.drop([("new", "d", 1)])
    assert planted.model_names() == ["a", "b"]


def test_a_dataset_with_losses_stays(planted: Store) -> None:
    for words in (["dataset", "drop", "d"], ["dataset", "drop", "d", "--yes"]):
        result = run(*words, "-s", planted.path)
        assert result.exit_code == 1
        assert (
            "There are losses on the dataset 'd': 16 slices of a, b. Nothing was removed. To remove them as well: "
            "trajstore dataset drop d --losses" in result.stderr
        )
    assert planted.dataset_names() == ["d", "e"]
    with pytest.raises(DatasetInUse):
        planted.drop_dataset("d")


def test_one_slice_is_counted_as_one(store: Store) -> None:
    store.add_dataset("d", ragged((3,)))
    store.append(model="a", dataset="d", step=1, losses=np.ones(2))
    with pytest.raises(DatasetInUse, match="on the dataset 'd': 1 slice of a. Nothing was removed"):
        store.drop_dataset("d")


def test_a_dataset_is_dropped(planted: Store) -> None:
    planted.add_dataset("new", ragged((5, 6)))
    words = ["dataset", "drop", "new", "-s", planted.path]
    assert run(*words, stdin="n\n").exit_code == 1
    assert "new" in planted.dataset_names()
    result = run(*words, stdin="y\n")
    assert (result.exit_code, "Removed the dataset new." in result.stderr) == (0, True)
    assert planted.dataset_names() == ["d", "e"]
    assert list((planted.path / "tmp").iterdir()) == []
    with pytest.raises(UnknownName, match="no dataset 'new'"):
        planted.dataset("new")
    again = run(*words, "--yes")
    assert again.exit_code == 1
    assert "There is no dataset 'new' here; there is: d, e." in again.stderr


def test_a_dataset_is_dropped_with_its_losses(planted: Store) -> None:
    planted.publish_model(ModelFacts("a", n_params=7))
    planted.drop(planted.chosen_slices("a", "e"))
    words = ["dataset", "drop", "d", "--losses", "-s", planted.path]
    result = run(*words, stdin="y\n")
    assert result.exit_code == 0
    assert re.search(
        r"Remove the dataset d and 16 slices of a, b\? .*: *Removed the dataset d", result.stderr
    )
    assert there(planted.path) == {"b": {"e": EVERY}}
    assert planted.model("a") is None
    rows = json.loads(run("dataset", "list", "--json", "-s", planted.path).stdout)
    assert [row["dataset"] for row in rows] == ["e"]
    planted.add_dataset("d", ragged((5, 6)))
    planted.append(model="a", dataset="d", step=0, losses=np.ones(9))


def test_a_damaged_dataset_is_dropped(planted: Store) -> None:
    (planted.path / "tokens/dataset=d/tokens.parquet").write_bytes(b"PAR1")
    planted.drop_dataset("d", losses=True)
    assert there(planted.path) == {model: {"e": EVERY} for model in "ab"}


def test_losses_on_a_dataset_that_is_gone_say_what_to_do(planted: Store) -> None:
    """A job that went on scoring on a dataset while it was dropped."""
    layout.remove_folder(planted.path, planted.path / "tokens/dataset=d")
    problems = checks.check(planted)
    assert {problem.what for problem in problems} == {"there is no sound dataset 'd' for it"}
    assert {problem.mend for problem in problems} == {
        "make the dataset again (trajstore dataset add), or remove the losses on it: trajstore drop"
    }
    assert checks.quarantine(planted, problems) == []
    assert run("drop", "-m", "*", "-d", "d", "--yes", "-s", planted.path).exit_code == 0
    assert checks.check(planted) == []


def test_two_drop_one_dataset(planted: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.add_dataset("new", ragged((5, 6)))
    slices_on = coverage.slices_on

    def both(root: Path, name: str) -> list[drop.Slice]:
        found = slices_on(root, name)
        layout.remove_folder(root, layout.dataset_path(root, name))
        return found

    monkeypatch.setattr(coverage, "slices_on", both)
    planted.drop_dataset("new")
    assert planted.dataset_names() == ["d", "e"]
