"""The command trajectory: what goes to stdout, what is said beside it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_cli import path, run
from trajstore.store.store import Store

__all__ = ["path"]


def test_a_table_and_what_its_intervals_are(path: Path) -> None:
    done = run("trajectory", "every_token", "-m", "a", "-d", "d", "-s", path)
    names = done.stdout.splitlines()[0].split()
    assert names == ["group", "model", "dataset", "step", "tokens", "contexts", "mean", "low", "high"]
    assert len(done.stdout.splitlines()) == 9
    assert "They cover the choice of text, not that of a training run's seed" in done.stderr
    assert "Fewer than 50 contexts in a dataset, so by Student's t" in done.stderr
    assert "every_token on d (6 contexts)" in done.stderr


def test_json_has_the_units_too(path: Path) -> None:
    rows = json.loads(run("trajectory", "every_token", "-m", "a", "-d", "d", "--json", "-s", path).stdout)
    assert {(row["unit"], row["units"], row["interval"]) for row in rows} == {("context", 6, "t")}


def test_without_intervals_nothing_is_said_of_them(path: Path) -> None:
    done = run("trajectory", "every_token", "-d", "d", "--ci", "none", "--json", "-s", path)
    assert {(row["low"], row["high"]) for row in json.loads(done.stdout)} == {(None, None)}
    assert "Intervals" not in done.stderr


def test_a_single_context_is_said_to_have_none(path: Path) -> None:
    done = run("trajectory", "every_token", "-d", "d", "--contexts", "2:3", "-s", path)
    assert "Only one, so without an interval: every_token on d (1 context)." in done.stderr


def test_level_and_seed(path: Path) -> None:
    words = ["trajectory", "every_token", "-m", "a", "-d", "d", "--steps", "last", "--json", "-s", path]
    (wide,), (narrow,) = (json.loads(run(*words, "--level", level).stdout) for level in ("0.99", "0.5"))
    assert wide["low"] < narrow["low"] < narrow["mean"] == wide["mean"] < narrow["high"] < wide["high"]


def test_differences_by_step_as_text_and_picture(path: Path, tmp_path: Path) -> None:
    words = [
        "trajectory",
        "position_is(8)",
        "--minus",
        "position_is(2)",
        "--minus-model",
        "b",
        "--by",
        "model",
    ]
    done = run(*words, "--text", "--plot", tmp_path / "c.png", "-s", path)
    first = done.stdout.splitlines()[0]
    assert first == "Difference in loss of position_is(8) − position_is(2) by step on 2 datasets: a − b"
    assert "difference (nats a token), by step" in done.stdout
    assert "a a − b" in done.stdout
    assert (tmp_path / "c.png").stat().st_size > 10_000


def test_a_group_chosen_by_the_model_s_losses_is_said_to_be(planted: Store, tmp_path: Path) -> None:
    planted.groups.add(
        "hard", "SELECT dataset, context, position FROM losses WHERE model = 'a' AND step = 64 AND loss > 9"
    )
    planted.close()
    words = ["trajectory", "hard", "-d", "d", "-s", planted.path]
    note = "hard was chosen by losses of a: part of what its curve shows there is the choice."
    assert note in run(*words, "--plot", tmp_path / "c.html").stderr
    assert "hard was chosen by losses of a" in (tmp_path / "c.html").read_text()
    assert note not in run(*words, "-m", "b").stderr
    assert note in run(*words, "-m", "b", "--minus-model", "a").stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--by", "step"], 2, "It takes dataset or model"),
        (["--ci", "t"], 2, "It takes bootstrap, studentised or none"),
        (["--level", "95"], 2, "a share between 0 and 1"),
        (["--resamples", "3"], 2, "--resamples"),
        (["--x", "days"], 2, "It takes step, tokens or flops"),
        (["--x", "tokens"], 1, "tokens that a had seen at step 0 are not known"),
        (["--minus-model", "z"], 1, "There is no model 'z'"),
        (["--text", "--json"], 2, "--text or --json"),
    ],
)
def test_what_cannot_be_asked(path: Path, words: list[str], code: int, said: str) -> None:
    done = run("trajectory", "every_token", "-d", "d", *words, "-s", path, ok=False)
    assert done.exit_code == code
    assert said in " ".join(done.stderr.split())


def test_a_group_without_tokens_beside_another_is_named(path: Path) -> None:
    done = run("trajectory", "every_token", "script_thai", "-d", "d", "--steps", "last", "-s", path)
    assert "script_thai has no token with a loss in d, and is left out." in done.stderr
    assert "script_thai" not in done.stdout
    assert (
        "is left out" not in run("trajectory", "every_token", "-d", "d", "--steps", "last", "-s", path).stderr
    )


def test_a_wrong_x_is_told_before_anything_is_read(path: Path) -> None:
    done = run("trajectory", "every_token", "--x", "token", "-s", path, ok=False)
    assert done.exit_code == 2
    assert "It takes step, tokens or flops" in done.stderr
    assert "trajectories:" not in done.stderr
