"""score on the command line: the plan, its order and parts, what ends it early, and what it says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import trajstore
from tests.helpers.tiny_models import neox, save_run
from trajstore.cli import app
from trajstore.store.files.slices import Provenance

if TYPE_CHECKING:
    from tests.helpers.loopback_hub import LoopbackHub
    from trajstore.store.store import Store

STEPS = [0, 1, 3, 7]


@pytest.fixture
def path(unscored: Store) -> Path:
    unscored.close()
    return unscored.path


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return save_run(tmp_path / "run", STEPS)


def score(store: Path, model: object, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["score", str(model), "-s", str(store), *words])
    assert result.exit_code == code, result.output
    return result


def steps(store: Path, dataset: str = "d") -> list[int]:
    with trajstore.open(store) as opened:
        return opened.steps("run", dataset)


def test_a_dry_run_shows_the_plan_and_writes_nothing(path: Path, run_folder: Path) -> None:
    score(path, run_folder, "-d", "d", "--steps", "3")
    result = score(path, run_folder, "-d", "d", "-d", "e", "--order", "bisect", "--dry-run", "--json")
    rows = json.loads(result.stdout)
    assert [(row["step"], row["to score"], row["tokens"]) for row in rows] == [
        (0, "d, e", 53),
        (7, "d, e", 53),
        (1, "d, e", 53),
        (3, "e", 14),
    ]
    assert {(row["download"], row["known bad"]) for row in rows} == {("", "")}
    assert "run: 7 slices to score (173 tokens) at 4 checkpoints, 1 there already." in result.stderr
    assert "No estimate of the time yet" in result.stderr
    assert steps(path) == [3]


def test_the_time_is_estimated_from_an_earlier_run(path: Path, run_folder: Path) -> None:
    begin = datetime(2025, 1, 1, tzinfo=UTC)
    with trajstore.open(path) as store:
        for number, step in enumerate(STEPS[:2]):
            when = (begin + timedelta(seconds=39 * number)).isoformat()
            store.append(
                model="run",
                dataset="d",
                step=step,
                losses=np.ones(store.dataset("d").n_losses),
                provenance=Provenance(run="r", time=when, device="cpu"),
            )
    told = score(path, run_folder, "-d", "d", "--dry-run").stderr
    assert "About 78 s at the 1 tokens/s of its last run (cpu, float32)." in told


def test_shards_are_told_apart_and_make_one_store(path: Path, run_folder: Path) -> None:
    for number in (1, 0):
        score(path, run_folder, "-d", "d", "--shard", f"{number}/2")
        assert len(steps(path)) == (4 if number == 0 else 2)
    assert steps(path) == STEPS


def test_a_budget_that_is_used_up_is_no_failure(path: Path, run_folder: Path) -> None:
    result = score(path, run_folder, "-d", "d", "-d", "e", "--budget", "0s")
    assert "The time given is used up: 8 slices are left" in result.stderr
    assert "0 slices written" in result.stderr
    assert score(path, run_folder, "-d", "d", "-d", "e", "--budget", "2h").stderr.count("used up") == 0
    assert steps(path) == STEPS


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--shard", "4/4"], 2, "Cannot read --shard '4/4'. It takes I/N with I from 0 to N-1"),
        (["--budget", "soon"], 2, "Cannot read --budget 'soon'"),
        (["--cache-limit", "much"], 2, "Cannot read --cache-limit 'much'"),
        (["--order", "random"], 2, "one of forward, bisect"),
        (["--vocab", "some"], 1, "There is no --vocab 'some'; there is: full, tokenizer"),
        (["--columns", "loss"], 1, "There is no column 'loss' beside the loss; there is: rank, entropy"),
        (["--dtype", "int8"], 1, "There is no --dtype 'int8'"),
    ],
)
def test_wrong_values_say_what_is_right(
    path: Path, run_folder: Path, words: list[str], code: int, said: str
) -> None:
    assert said in score(path, run_folder, "-d", "d", *words, code=code).stderr
    assert steps(path) == []


def test_columns_vocabulary_and_attention_reach_the_slices(path: Path, run_folder: Path) -> None:
    score(
        path, run_folder, "-d", "d", "--steps", "7", "--columns", "entropy,rank",
        "--vocab", "tokenizer", "--attention", "eager", "--dtype", "bfloat16",
    )  # fmt: skip
    with trajstore.open(path) as store:
        how = store.slice_facts("run", "d", 7).provenance
        columns = store.sql("FROM scores LIMIT 0").columns
    assert (how.vocab, how.attention, how.dtype) == ("tokenizer", "eager", "bfloat16")
    assert {"rank", "entropy"} <= set(columns)


def test_a_sweep_from_the_hub_with_known_bad_checkpoints_under_a_limit(
    path: Path, loopback: LoopbackHub, tmp_path: Path
) -> None:
    """Pythia 410m, seed 9 has no weights at step 40000, as its suite says; here it has."""
    repo = "EleutherAI/pythia-410m-seed9"
    for step in (39_000, 40_000, 41_000):
        loopback.add_model(repo, f"step{step}", neox(step, vocabulary=50_304), tmp_path / "made")
    told = score(path, repo, "-d", "d", "--dry-run", "--json")
    rows = {row["step"]: row for row in json.loads(told.stdout)}
    assert [bool(row["known bad"]) for row in rows.values()] == [False, True, False]
    assert {row["download"] for row in rows.values()} == {"yes"}
    assert "3 revisions to download, about 19.4 MB" in told.stderr
    assert "Known to be bad at the steps 40000: no weights (https" in told.stderr
    left_out = score(path, repo, "-d", "d", "--skip-known-bad", "--cache-limit", "1MB")
    assert "Left out as known to be bad: the steps 40000." in left_out.stderr
    taken = score(path, repo, "-d", "d", "--cache-limit", "1MB").stderr
    assert "at step 40000 is known to be bad" in taken
    with trajstore.open(path) as store:
        name = "pythia-410m-seed9"
        assert store.steps(name, "d") == [39_000, 40_000, 41_000]
        marked = [store.slice_facts(name, "d", step).provenance.known_bad for step in store.steps(name, "d")]
    assert [each is not None for each in marked] == [False, True, False]


def test_tokens_per_step_are_noted_where_nothing_is_to_be_scored(path: Path, run_folder: Path) -> None:
    score(path, run_folder, "-d", "d")
    told = score(path, run_folder, "-d", "d", "--tokens-per-step", "1024", "--dry-run").stderr
    assert "noted" not in told
    told = score(path, run_folder, "-d", "d", "--tokens-per-step", "1024").stderr
    assert "0 slices to score" in told
    assert "run: 1,024 training tokens a step noted." in told
    with trajstore.open(path) as store:
        known = store.model("run")
    assert known is not None
    assert (known.tokens_per_step, known.family, known.repo) == (1024, "gpt_neox", str(run_folder))
    assert "noted" not in score(path, run_folder, "-d", "d", "--tokens-per-step", "1024").stderr
    result = score(path, run_folder, "-d", "d", "--tokens-per-step", "512", code=1)
    assert "has 1,024 tokens a step, not 512" in result.stderr


def test_the_tokens_of_a_backfill_are_noted_too(path: Path, run_folder: Path) -> None:
    score(path, run_folder, "-d", "d", "--steps", "0")
    score(
        path,
        run_folder,
        "-d",
        "d",
        "--steps",
        "0",
        "--columns",
        "rank",
        "--backfill",
        "--tokens-per-step",
        "9",
    )
    with trajstore.open(path) as store:
        known = store.model("run")
    assert known is not None
    assert known.tokens_per_step == 9


def test_nothing_is_noted_of_a_model_of_which_nothing_is_scored(path: Path, run_folder: Path) -> None:
    for step in STEPS:
        (run_folder / f"step{step}" / "config.json").write_text('{"model_')
    result = score(path, run_folder, "-d", "d", "--tokens-per-step", "9", code=1)
    assert "config.json cannot be read: it is cut off, or no JSON" in result.stderr
    with trajstore.open(path) as store:
        assert store.model("run") is None


def test_weights_that_are_cut_off_are_called_so(path: Path, run_folder: Path) -> None:
    file = run_folder / "step3" / "model.safetensors"
    for length in (0, 7, 100, 5000):
        file.write_bytes((run_folder / "step1" / "model.safetensors").read_bytes()[:length])
        told = score(path, run_folder, "-d", "d", code=1).stderr
        assert f"{file} cannot be read: it is cut off, with {length:,} bytes of at least " in told
        assert "parameters" not in told
