"""Datasets, slices and input that do not fit a scoring job, and disks that cannot be written."""

from __future__ import annotations

import errno
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.tiny_models import VOCABULARY, random_dataset, save_tokenizer
from tests.scoring.job.conftest import STEPS, files
from trajstore.datasets.tokenizers import load_tokenizer, tokenizer_facts
from trajstore.errors import (
    BadDataset,
    BadName,
    CheckpointError,
    DeviceError,
    SlicesDiffer,
    StoreUnusable,
    TokenizerMismatch,
    UnfitContext,
    UnknownName,
    UnknownStep,
)
from trajstore.scoring.job import publish as publishing
from trajstore.scoring.plan import plan
from trajstore.scoring.run import score
from trajstore.store.disk import layout

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store


# Datasets that do not fit


def with_tokenizer(folder: Path, words: list[str]) -> str:
    save_tokenizer(folder, words)
    return tokenizer_facts(load_tokenizer(str(folder)), "x").vocabulary_sha256.removeprefix("sha256:")


WORDS = [f"w{number}" for number in range(VOCABULARY)]


@pytest.mark.parametrize("place", ["run/step{}", "run"])
def test_another_tokenizer_is_refused_before_anything_is_scored(
    scored: Store, runs: Path, place: str
) -> None:
    for step in STEPS:
        sha256 = with_tokenizer(runs / place.format(step), WORDS)
    scored.add_dataset("fits", random_dataset(sha256=sha256))
    before = files(scored)
    with pytest.raises(
        TokenizerMismatch, match=r"The dataset d was made with the tokenizer tests .*/run.* has one of 64"
    ):
        score(scored, str(runs / "run"), ["fits", "d"])
    assert files(scored) == before
    assert score(scored, str(runs / "run"), ["fits"]).written == 5


def test_one_checkpoint_with_another_tokenizer_is_a_failure(scored: Store, runs: Path) -> None:
    for step in STEPS:
        sha256 = with_tokenizer(runs / "run" / f"step{step}", WORDS)
    with_tokenizer(runs / "run" / "step1", WORDS[::-1])
    scored.add_dataset("fits", random_dataset(sha256=sha256))
    report = score(scored, str(runs / "run"), ["fits"])
    assert [step for step, _ in report.failures] == [1]
    assert "was made with the tokenizer tests" in report.failures[0][1]
    assert scored.steps("run", "fits") == [0, 2, 4, 8]


def test_a_dataset_that_does_not_fit_is_named_once_and_the_others_are_scored(
    scored: Store, runs: Path
) -> None:
    scored.add_dataset("wide", random_dataset(vocabulary=VOCABULARY + 60))
    scored.add_dataset("long", random_dataset((33, 4)))
    report = score(scored, str(runs / "run"), ["long", "d", "wide"])
    assert report.written == 5
    assert [reason.partition(".")[0] for _, reason in report.failures] == [
        "The dataset long does not fit the model",
        "The dataset wide does not fit the model",
    ]
    assert scored.steps("run", "d") == STEPS
    assert scored.steps("run", "long") == scored.steps("run", "wide") == []


def test_ids_or_lengths_beyond_the_model_stop_the_job_before_anything_is_scored(
    scored: Store, runs: Path
) -> None:
    scored.add_dataset("wide", random_dataset(vocabulary=VOCABULARY + 60))
    scored.add_dataset("long", random_dataset((33, 4)))
    before = files(scored)
    with pytest.raises(UnfitContext, match=r"The dataset wide .*made with another tokenizer"):
        score(scored, str(runs / "run"), ["wide"])
    with pytest.raises(
        UnfitContext, match=r"The dataset long .*33 tokens, but the model has positions for 32"
    ):
        score(scored, str(runs / "run"), ["wide", "long"])
    assert files(scored) == before


def test_the_tokenizer_beside_the_weights_is_kept_and_none_is_none(scored: Store, runs: Path) -> None:
    sha256 = with_tokenizer(runs / "run", WORDS)
    scored.add_dataset("fits", random_dataset(sha256=sha256))
    score(scored, str(runs / "run"), ["fits"], steps=0)
    known = scored.model("run")
    assert known is not None
    assert known.tokenizer == str(runs / "run")
    shutil.copytree(runs / "run" / "step1", runs / "bare" / "step1")
    score(scored, str(runs / "bare"), ["d"])
    bare = scored.model("bare")
    assert bare is not None
    assert bare.tokenizer is None


# Slices that are there and of another kind


def test_losses_of_other_tokens_under_the_same_name_are_refused(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d", "e"], steps="0:2")
    shutil.rmtree(layout.dataset_path(scored.path, "d"))
    scored.add_dataset("d", random_dataset(seed=9))
    before = files(scored)
    with pytest.raises(SlicesDiffer, match=r"run on d at the steps 0–2 .* trajstore drop -m run -d d"):
        plan(scored, str(runs / "run"), ["e", "d"])
    assert files(scored) == before
    scored.drop(scored.chosen_slices("run", "d"))
    assert score(scored, str(runs / "run"), ["d"]).written == 5


def test_one_trajectory_has_one_dtype(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="0:2")
    before = files(scored)
    for steps in ("all", "0:2"):
        with pytest.raises(SlicesDiffer, match=r"dtype float32, these would have bfloat16.*name=NAME.*drop"):
            score(scored, str(runs / "run"), ["e", "d"], steps=steps, dtype="bfloat16")
    assert files(scored) == before
    assert score(scored, str(runs / "run"), ["e"], dtype="bfloat16").written == 5


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize(("theirs", "goes_on"), [(0, False), (8, True)])
def test_of_two_jobs_that_begin_at_once_in_two_dtypes_one_ends(
    scored: Store,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    passes: int,
    theirs: int,
    goes_on: bool,
) -> None:
    """The other one's first slice comes while this one has its first or second pass: the lower step goes on."""
    whole, left = publishing.token_scores, passes
    score(scored, str(runs / "run"), ["d"], steps=theirs, dtype="bfloat16")
    folder, aside = scored.path / "losses" / "model=run", tmp_path / "aside"
    folder.rename(aside)

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            while passes == 2 and not scored.has_slice("run", "d", 1):
                time.sleep(0.01)  # the first one's slice is on its way to the store
            shutil.copytree(aside, folder, dirs_exist_ok=True)
        return whole(*arguments, **options)

    monkeypatch.setattr(publishing, "token_scores", meanwhile)
    if passes == 2 and goes_on:
        assert score(scored, str(runs / "run"), ["d"], steps="1:4").written == 3
        return
    with pytest.raises(
        SlicesDiffer, match=rf"\(step {theirs}\) have dtype bfloat16, these would have float32"
    ):
        score(scored, str(runs / "run"), ["d"], steps="1:4")
    assert scored.steps("run", "d") == sorted([theirs, 1][:passes])


# A store that cannot be written to


def test_a_full_disk_ends_the_job(scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scored.append

    def full(**slice_: Any) -> Path:
        if slice_["step"] == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(**slice_)

    monkeypatch.setattr(scored, "append", full)
    with pytest.raises(StoreUnusable, match=r"run on d at step 1 .*No space left on device\. .*goes on"):
        score(scored, str(runs / "run"), ["d"])
    assert scored.steps("run", "d") == [0]


# Wrong input


def test_wrong_input_is_refused_with_what_exists(scored: Store, runs: Path) -> None:
    model = str(runs / "run")
    for error, message, call in [
        (UnknownName, "no dataset 'f' here; there is: d, e", lambda: plan(scored, model, ["f"])),
        (BadDataset, "datasets=NAME", lambda: plan(scored, model, [])),
        (UnknownStep, "steps=3 matches no checkpoint of .*: 0, 1, 2, 4", lambda: plan(scored, model, ["d"], steps=3)),
        (BadName, "cannot be a model name", lambda: plan(scored, model, ["d"], name="a/b")),
        (CheckpointError, "no subfolder named after a step", lambda: plan(scored, str(runs), ["d"])),
        (DeviceError, "no dtype='int8'; there is: float32", lambda: score(scored, model, ["d"], dtype="int8")),
        (DeviceError, "no device 'tpu'", lambda: score(scored, model, ["d"], device="tpu")),
        (DeviceError, "attention='nope' cannot be used", lambda: score(scored, model, ["d"], attention="nope")),
        (DeviceError, "takes 1 or more, not 0", lambda: score(scored, model, ["d"], batch_tokens=0)),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            call()
    assert scored.model_names() == []
