"""Steps named in a way of their own, runs below a folder, and a store inside one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

import trajstore
from tests.helpers.tiny_models import neox, random_dataset, save_run
from trajstore.checkpoints.revisions import likely_pattern
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.cli import app
from trajstore.errors import BadOption, CheckpointError, StoreNotFound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.loopback_hub import LoopbackHub
    from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


def command(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


# Names of steps


@pytest.mark.parametrize(
    ("pattern", "names", "steps"),
    [
        ("epoch_{step}", ["epoch_1", "epoch_02", "epoch_10", "best", "epoch_1_old"], [1, 2, 10]),
        ("{step}", ["5", "60", "step7"], [5, 60]),
        ("ckpt-{step}-*", ["ckpt-3-loss2.5", "ckpt-4-", "ckpt-4"], [3, 4]),
        ("a.b{step}", ["a.b1", "axb2"], [1]),
    ],
)
def test_a_pattern_says_where_the_step_stands(
    tmp_path: Path, pattern: str, names: list[str], steps: list[int]
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    source = find_checkpoints(str(tmp_path), pattern)
    assert source.steps == steps
    assert source.counted(100).checkpoints[0].tokens_seen == 100 * steps[0]


@pytest.mark.parametrize("pattern", ["epoch", "{step}-{step}", "epoch_{Step}"])
def test_a_pattern_without_a_step_is_wrong_usage(store: Store, tmp_path: Path, pattern: str) -> None:
    run = save_run(tmp_path / "run", [1], "epoch_{}")
    store.add_dataset("d", random_dataset())
    for more in ([], ["--watch"]):
        said = command("score", run, "-d", "d", "-s", store.path, "--pattern", pattern, *more, code=2).stderr
        assert "It takes a name with {step} in it once, as in epoch_{step}" in said
    with pytest.raises(BadOption):
        find_checkpoints(str(run), pattern)


def test_a_run_of_epochs_is_scored_and_followed(store: Store, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", [1, 2], "epoch_{}")
    store.add_dataset("d", random_dataset())
    words = ("score", run, "-d", "d", "-s", store.path)
    assert "--pattern 'epoch_{step}'" in command(*words, code=1).stderr
    command(*words, "--pattern", "epoch_{step}", "--steps", "2")
    assert store.steps("run", "d") == [2]
    assert store.slice_facts("run", "d", 2).provenance.revision == "epoch_2"
    command(*words, "--pattern", "epoch_{step}", "--watch", "--until", "2", "--every", "0.1s")
    assert store.steps("run", "d") == [1, 2]


def test_two_names_of_one_step_are_refused_under_a_pattern_too(tmp_path: Path) -> None:
    for name in ("epoch_1", "epoch_01"):
        (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match="both name step 1"):
        find_checkpoints(str(tmp_path), "epoch_{step}")


def test_revisions_on_the_hub_follow_a_pattern(loopback: LoopbackHub, tmp_path: Path) -> None:
    for epoch in (1, 2):
        loopback.add_model("org/run", f"epoch_{epoch}", neox(epoch), tmp_path / "made")
    with pytest.raises(CheckpointError, match=r"If the number .*: pattern='epoch_\{step\}'"):
        find_checkpoints("org/run")
    assert find_checkpoints("org/run", "epoch_{step}").steps == [1, 2]


def test_the_pattern_that_most_names_follow_is_the_likely_one() -> None:
    assert likely_pattern(["best", "epoch_1", "epoch_2", "v1"]) == "epoch_{step}"
    assert likely_pattern(["best", "last"]) is None


# Runs below a folder


def test_a_folder_of_runs_names_them(store: Store, tmp_path: Path) -> None:
    store.add_dataset("d", random_dataset())
    for name in ("models/small", "models/large"):
        (tmp_path / "demo" / name / "step1").mkdir(parents=True)
    (tmp_path / "demo" / "texts").mkdir()
    for asked, named in (("demo", "models/large, models/small"), ("demo/models", "large, small")):
        said = command("score", tmp_path / asked, "-d", "d", "-s", store.path, code=1).stderr
        assert f"It holds 2 runs: {named}. Score one: trajstore score {tmp_path}/demo/models/large" in said


def test_one_run_below_is_a_run_and_none_is_not_spoken_of(tmp_path: Path) -> None:
    (tmp_path / "a" / "run" / "step1").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"It holds a run: run\. Score one"):
        find_checkpoints(str(tmp_path / "a"))
    (tmp_path / "b" / "texts").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"checkpoint-N\)\.$"):
        find_checkpoints(str(tmp_path / "b"))


# A store inside a folder


def test_the_folder_around_a_store_stands_for_it(store: Store) -> None:
    around = store.path.parent
    store.add_dataset("d", random_dataset())
    store.groups.add("g", "SELECT dataset, context, position FROM tokens")
    assert f"{store.path}: 0 models, 1 dataset," in command("status", "-s", around).stderr
    for words in (["check"], ["dataset", "list"], ["group", "list"], ["migrate", "--list"], ["rebuild"]):
        command(*words, "-s", around)
    counted = command("sql", "SELECT count(*) AS n FROM tokens", "--format", "csv", "-s", around).stdout
    assert counted.split() == ['"n"', "39"]
    with trajstore.open(around) as opened:
        assert opened.path == store.path
    assert not (around / "catalog.duckdb").exists()


def test_a_store_of_its_own_comes_before_one_inside(store: Store) -> None:
    from trajstore.store.store import Store as AnyStore

    inside = AnyStore.create(store.path / "tmp" / "x" / "store")
    inside.close()
    with trajstore.open(store.path) as opened:
        assert opened.path == store.path


def test_a_folder_without_either_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreNotFound):
        trajstore.open(tmp_path)
