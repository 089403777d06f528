"""Rank and entropy are added to slices without them, whose losses stay to the bit; a dry run finds what a run would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import trajstore
from tests.helpers.tiny_models import neox, random_dataset, save_run, save_tokenizer
from trajstore.cli import app
from trajstore.errors import SlicesDiffer
from trajstore.scoring import score, token_scores
from trajstore.store.files.slices import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = [0, 1, 3]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_run(tmp_path / "run", STEPS)


@pytest.fixture
def scored(store: Store, run: Path) -> Store:
    """A store with the run's losses on d (39 tokens) and e (14 tokens), and nothing beside them."""
    store.add_dataset("d", random_dataset(seed=1))
    store.add_dataset("e", random_dataset((7, 7), seed=2))
    score(store, str(run), ["d", "e"])
    return store


def command(store: Store, model: object, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["score", str(model), "-s", str(store.path), "-d", "d", *words])
    assert result.exit_code == code, result.output
    return result


def held(store: Store, dataset: str = "d") -> list[tuple[str, ...]]:
    return [store.slice_columns("run", dataset, step) for step in STEPS]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_columns_that_the_slices_lack_are_an_error_that_names_backfill(
    scored: Store, run: Path, dry: list[str]
) -> None:
    said = command(scored, run, "--columns", "rank,entropy", *dry, code=1).stderr
    assert (
        "The slices of run on d at the steps 0–1, 3 are there without rank, entropy. Add --backfill" in said
    )
    with pytest.raises(SlicesDiffer, match="without rank"):
        score(scored, str(run), ["d"], columns=["rank"])


def test_backfill_adds_columns_and_leaves_the_losses_and_how_they_came_about(
    scored: Store, run: Path
) -> None:
    before = {
        step: (scored.slice_losses("run", "d", step), scored.slice_facts("run", "d", step)) for step in STEPS
    }
    words = ("--columns", "rank,entropy", "--backfill")
    planned = json.loads(command(scored, run, *words, "--dry-run", "--json").stdout)
    assert [(row["step"], row["to score"], row["tokens"]) for row in planned] == [
        (step, "d", 39) for step in STEPS
    ]
    said = command(scored, run, *words).stderr
    planned = "run: 0 slices to score, 3 to score again for rank, entropy (117 tokens) at 3 checkpoints, 0"
    assert f"{planned} there already.\nWhat is scored again keeps its losses.\n" in said
    assert "run: 3 slices given rank, entropy, 0 there with them already" in said
    assert held(scored) == [("rank", "entropy")] * 3
    assert held(scored, "e") == [()] * 3
    ids = scored.dataset("d").ids()
    for step in STEPS:
        losses, facts = before[step]
        assert scored.slice_losses("run", "d", step).tobytes() == losses.tobytes()
        assert scored.slice_facts("run", "d", step) == facts
        found = token_scores(neox(step), ids, columns=["rank", "entropy"])
        assert found.rank is not None
        assert found.entropy is not None
        np.testing.assert_array_equal(
            scored.slice_column("run", "d", step, "rank"), np.concatenate(found.rank)
        )
        entropy = scored.slice_column("run", "d", step, "entropy")
        np.testing.assert_allclose(entropy, np.concatenate(found.entropy), atol=1e-5)
    assert CliRunner().invoke(app, ["check", "--deep", "-s", str(scored.path)]).exit_code == 0
    assert (
        "0 slices to score (0 tokens) at 0 checkpoints, 3 there already"
        in command(scored, run, *words).stderr
    )
    assert "3 there already" in command(scored, run, "--columns", "rank").stderr


def test_what_is_missing_and_what_is_to_be_filled_go_together(scored: Store, run: Path) -> None:
    scored.drop([("run", "d", 1)])
    command(scored, run, "-d", "e", "--columns", "rank", "--backfill", "--steps", "0,1")
    assert held(scored)[:2] == held(scored, "e")[:2] == [("rank",)] * 2
    assert held(scored)[2] == ()
    ranks = scored.slice_column("run", "d", 0, "rank")
    command(scored, run, "--columns", "entropy", "--backfill")
    assert held(scored) == [("rank", "entropy"), ("rank", "entropy"), ("entropy",)]
    np.testing.assert_array_equal(scored.slice_column("run", "d", 0, "rank"), ranks)


def test_losses_that_are_not_the_checkpoints_own_get_no_columns(store: Store, run: Path) -> None:
    """As where they were ingested from elsewhere, without a fingerprint of the weights."""
    dataset = store.add_dataset("d", random_dataset(seed=1))
    own = np.concatenate(token_scores(neox(0), dataset.ids()).loss)
    for step, losses in ((0, own + np.float32(2e-4)), (1, own)):
        store.append(
            model="run", dataset="d", step=step, losses=losses, provenance=Provenance(source="x.npy")
        )
    said = command(store, run, "--columns", "rank", "--backfill", "--steps", "0,1", code=1).stderr
    assert "run: 1 slice given rank" in said
    assert "step 1 was not scored: run on d at step 1: scored again, losses differ by up to" in said
    assert store.slice_columns("run", "d", 0) == ("rank",)
    assert store.slice_columns("run", "d", 1) == ()
    assert store.slice_facts("run", "d", 0).provenance.source == "x.npy"


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize("dtype", ["bfloat16", "auto"])
def test_another_dtype_than_that_of_the_slices_is_an_error_where_nothing_is_missing(
    scored: Store, tmp_path: Path, run: Path, dry: list[str], dtype: str
) -> None:
    for step in STEPS:
        file = run / f"step{step}" / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": "bfloat16"}))
    said = command(scored, run, "--dtype", dtype, *dry, code=1).stderr
    assert "have dtype float32, these would have bfloat16" in said


def test_a_dry_run_refuses_another_tokenizer_as_the_run_does(store: Store, run: Path) -> None:
    store.add_dataset("d", random_dataset(seed=1))
    save_tokenizer(run, ["a", "b", "c"])
    told = [command(store, run, *words, code=1).stderr for words in ([], ["--dry-run"])]
    assert all("The dataset d was made with the tokenizer tests" in each for each in told)


def test_a_dry_run_names_checkpoints_that_cannot_be_read(store: Store, run: Path) -> None:
    store.add_dataset("d", random_dataset(seed=1))
    weights = run / "step1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    said = command(store, run, "--dry-run", code=1).stderr
    assert "step 1 would not be scored:" in said
    assert "model.safetensors is cut off" in said
    assert "step 0" not in said
    assert store.steps("run", "d") == []


@pytest.mark.parametrize("words", [["--backfill"], ["--backfill", "--columns", "rank", "--watch"]])
def test_backfill_goes_with_columns_and_not_with_watch(scored: Store, run: Path, words: list[str]) -> None:
    assert "--backfill" in command(scored, run, *words, code=2).stderr


def test_an_unknown_column_to_be_filled_is_refused(scored: Store, run: Path) -> None:
    said = command(scored, run, "--columns", "text", "--backfill", code=1).stderr
    assert "There is no column 'text' beside the loss" in said
    with trajstore.open(scored.path) as store:
        assert held(store) == [()] * 3
