"""A scoring job does what is missing and nothing else, and tells one run from another."""

from __future__ import annotations

import errno
import json
import shutil
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXForCausalLM

from tests.helpers.tiny_models import VOCABULARY, cache_run, neox, random_dataset, save_run, save_tokenizer
from trajstore.checkpoints import hub, loading
from trajstore.checkpoints.cache_limit import CacheLimit, used_bytes
from trajstore.checkpoints.prefetch import Ahead
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.checkpoints.weights import reading
from trajstore.datasets.tokenizers import load_tokenizer, tokenizer_facts
from trajstore.errors import (
    BadDataset,
    BadName,
    BadOption,
    CheckpointError,
    DeviceError,
    ModelMismatch,
    SlicesDiffer,
    StoreUnusable,
    TokenizerMismatch,
    UnfitContext,
    UnknownName,
    UnknownStep,
)
from trajstore.scoring import plan as planning
from trajstore.scoring import run as running
from trajstore.scoring import token_losses
from trajstore.scoring.job import publish as publishing
from trajstore.scoring.plan import plan
from trajstore.scoring.run import run, score
from trajstore.scoring.time_budget import Budget
from trajstore.store.disk import layout

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.loopback_hub import LoopbackHub
    from trajstore.checkpoints.loading import Checkpoint, ReadCheckpoint
    from trajstore.checkpoints.runs import CheckpointSource
    from trajstore.store.files.datasets import NewDataset
    from trajstore.store.store import Store

STEPS = [0, 1, 2, 4, 8]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with the run `run`: five checkpoints."""
    save_run(tmp_path / "runs" / "run", STEPS)
    return tmp_path / "runs"


@pytest.fixture
def scored(store: Store) -> Store:
    """A store with the datasets d and e."""
    store.add_dataset("d", random_dataset(seed=1))
    store.add_dataset("e", random_dataset((7, 7), seed=2))
    return store


def losses(store: Store, step: int, dataset: str = "d", model: str = "run") -> np.ndarray:
    return store.matrix(dataset, model, steps=step).values[0]


def files(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in store.path.rglob("*") if path.is_file()}


def damage(folder: Path) -> None:
    """Cut a checkpoint's weights in half."""
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def own_losses(folder: Path, data: NewDataset) -> np.ndarray:
    """Losses of a checkpoint's folder from transformers' own logits, in canonical order."""
    model = GPTNeoXForCausalLM.from_pretrained(folder)
    found = []
    for context in data.ids:
        ids = torch.as_tensor(context, dtype=torch.long)
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1]
        found.append(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none").numpy())
    return np.concatenate(found)


# The main job


def test_every_checkpoint_is_scored_with_its_own_weights(scored: Store, runs: Path) -> None:
    report = score(scored, str(runs / "run"), ["d", "e"])
    assert (report.written, report.skipped, report.failures, report.tokens) == (10, 0, [], 5 * (39 + 14))
    assert scored.steps("run", "d") == scored.steps("run", "e") == STEPS
    for step in STEPS:
        expected = own_losses(runs / "run" / f"step{step}", random_dataset(seed=1))
        np.testing.assert_allclose(losses(scored, step), expected, rtol=0, atol=1e-5)
    assert len({losses(scored, step).tobytes() for step in STEPS}) == len(STEPS)


def test_a_training_loop_of_ones_own_gives_the_same_slices(scored: Store, runs: Path) -> None:
    """As the README shows: token_losses on the dataset's ids, appended."""
    score(scored, str(runs / "run"), ["d"], steps=[2])
    dataset = scored.dataset("d")
    found = token_losses(GPTNeoXForCausalLM.from_pretrained(runs / "run" / "step2"), dataset.ids())
    scored.append(model="my-run", dataset="d", step=2, losses=found)
    np.testing.assert_array_equal(losses(scored, 2, model="my-run"), losses(scored, 2))


def test_the_plan_says_what_is_missing_and_writes_nothing(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="0:2")
    before = files(scored)
    todo = plan(scored, str(runs / "run"), ["d", "e", "d"], steps="1:4")
    assert (todo.model, todo.source.repo, todo.present, todo.slices) == ("run", str(runs / "run"), 2, 4)
    assert [(p.checkpoint.step, p.datasets) for p in todo.pending] == [
        (1, ("e",)),
        (2, ("e",)),
        (4, ("d", "e")),
    ]
    assert todo.tokens == 3 * 14 + 39
    assert (todo.downloads, todo.download_bytes) == ((), None)
    assert files(scored) == before


def test_a_second_run_skips_what_is_there_and_adds_nothing(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"])
    before = files(scored)
    again = score(scored, str(runs / "run"), ["d"])
    assert (again.written, again.skipped, again.failures, again.tokens) == (0, 5, [], 0)
    assert files(scored) == before


def test_provenance_and_facts_are_kept(scored: Store, runs: Path) -> None:
    todo = plan(scored, str(runs / "run"), ["d", "e"], tokens_per_step=1000)
    run(scored, todo, dtype="bfloat16", batch_tokens=64, attention="eager", device="cpu")
    facts = [scored.slice_facts("run", name, 4).provenance for name in ("d", "e")]
    first = facts[0]
    assert (first.revision, first.commit, first.tokens_seen, first.tokens_exact) == (
        "step4",
        None,
        4000,
        True,
    )
    assert (first.dtype, first.attention, first.vocab, first.batch_tokens) == (
        "bfloat16",
        "eager",
        "full",
        64,
    )
    assert first.versions["torch"] == torch.__version__
    assert set(first.versions) == {"trajstore", "torch", "transformers"}
    assert first.device == "cpu"
    assert first.run is not None
    assert len(first.run) == 32
    assert first.run == facts[1].run
    assert first.remote_code is False
    assert first.weights is not None
    assert first.weights == facts[1].weights != scored.slice_facts("run", "d", 8).provenance.weights
    known = scored.model("run")
    assert known is not None
    assert (known.repo, known.family, known.n_layer, known.tokens_per_step) == (
        str(runs / "run"),
        "gpt_neox",
        1,
        1000,
    )
    assert known.n_params == sum(p.numel() for p in neox().parameters())


def test_tokens_seen_are_unknown_unless_given_and_never_contradicted(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps=0)
    assert scored.slice_facts("run", "d", 0).provenance.tokens_seen is None
    score(scored, str(runs / "run"), ["d"], steps=1, tokens_per_step=7, name="known")
    score(scored, str(runs / "run"), ["d"], steps=8, name="known")
    assert scored.slice_facts("known", "d", 8).provenance.tokens_seen == 56
    with pytest.raises(ModelMismatch, match="7 tokens a step, not 8"):
        plan(scored, str(runs / "run"), ["d"], tokens_per_step=8, name="known")


def test_progress_counts_the_tokens_and_is_taken_away(scored: Store, runs: Path) -> None:
    class Watch:
        def __init__(self) -> None:
            self.total, self.done, self.unit, self.running, self.said = 0, 0, "", False, list[str]()

        def start(self, label: str, total: int, unit: str) -> None:
            self.total, self.unit, self.running = total, unit, True

        def advance(self, amount: int = 1, note: str = "") -> None:
            assert self.running
            self.done += amount

        def stop(self) -> None:
            self.running = False

        def say(self, message: str) -> None:
            self.said.append(message)

    watch = Watch()
    damage(runs / "run" / "step2")
    score(scored, str(runs / "run"), ["d", "e"], progress=watch)
    assert (watch.total, watch.done, watch.unit, watch.running) == (5 * 53, 4 * 53, "tokens", False)
    assert len(watch.said) == 2
    assert watch.said[0].startswith("run: no tokenizer beside the weights")
    assert "step 2 was not scored: " in watch.said[1]


# What goes wrong with single checkpoints


def test_one_unreadable_checkpoint_is_reported_and_the_others_are_scored(scored: Store, runs: Path) -> None:
    damage(runs / "run" / "step2")
    report = score(scored, str(runs / "run"), ["d", "e"])
    assert report.written == 8
    assert scored.steps("run", "d") == scored.steps("run", "e") == [0, 1, 4, 8]
    ((step, reason),) = report.failures
    assert step == 2
    assert "it is cut off, with " in reason
    assert str(runs / "run" / "step2") in reason
    assert "Download or save that checkpoint again" in reason
    neox(2).save_pretrained(runs / "run" / "step2")
    mended = score(scored, str(runs / "run"), ["d", "e"])
    assert (mended.written, mended.skipped, mended.failures) == (2, 8, [])


def test_a_checkpoint_with_a_missing_tensor_is_not_scored_with_random_weights(
    scored: Store, runs: Path
) -> None:
    file = runs / "run" / "step4" / "model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(name for name in tensors if "embed_out" in name or "lm_head" in name))
    save_file(tensors, file, metadata={"format": "pt"})
    report = score(scored, str(runs / "run"), ["d"])
    assert [step for step, _ in report.failures] == [4]
    assert "tensors that the model needs are missing" in report.failures[0][1]
    assert scored.steps("run", "d") == [0, 1, 2, 8]


def test_a_nan_is_a_failure_of_its_slice(scored: Store, runs: Path) -> None:
    broken = neox(1)
    with torch.no_grad():
        broken.lm_head.weight[3, 0] = torch.nan
    broken.save_pretrained(runs / "run" / "step1")
    report = score(scored, str(runs / "run"), ["d"], steps="0,1,2")
    assert [step for step, _ in report.failures] == [1]
    assert "losses cannot be right; the first is nan" in report.failures[0][1]
    assert scored.steps("run", "d") == [0, 2]
    half = score(scored, str(runs / "run"), ["d"], steps=1, dtype="float16", name="half")
    assert "try dtype='float32'" in half.failures[0][1]


def test_a_run_of_broken_checkpoints_leaves_no_model_behind(scored: Store, runs: Path) -> None:
    for step in STEPS:
        (runs / "run" / f"step{step}" / "model.safetensors").write_bytes(b"")
    before = files(scored)
    report = score(scored, str(runs / "run"), ["d"])
    assert [step for step, _ in report.failures] == STEPS
    assert files(scored) == before


def test_an_interrupt_leaves_what_is_finished_and_nothing_else(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    whole = publishing.token_scores

    def interrupted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(publishing, "token_scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(scored, str(runs / "run"), ["d", "e"])
    assert scored.steps("run", "d") == [0, 1]
    assert scored.steps("run", "e") == [0]
    assert list((scored.path / "tmp").iterdir()) == []
    monkeypatch.setattr(publishing, "token_scores", whole)
    assert score(scored, str(runs / "run"), ["d", "e"]).written == 7


def test_slices_that_another_job_publishes_meanwhile_are_left_alone(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = plan(scored, str(runs / "run"), ["d"], steps="0:4")
    score(scored, str(runs / "run"), ["d"], steps=0)
    whole = publishing.token_scores

    def overtaken(*args: object, **kwargs: object) -> object:
        found = whole(*args, **kwargs)
        monkeypatch.setattr(publishing, "token_scores", whole)
        score(scored, str(runs / "run"), ["d"], steps=1)
        return found

    monkeypatch.setattr(publishing, "token_scores", overtaken)
    report = run(scored, todo)
    assert (report.written, report.skipped, report.failures) == (2, 2, [])


# Which run a name stands for


def test_a_name_of_another_run_is_refused(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"])
    other = save_run(runs.parent / "others" / "run", STEPS, seed=5)
    before = files(scored)
    with pytest.raises(ModelMismatch, match=r"run in the store is another run: at step 8 .* name=NAME"):
        score(scored, str(other), ["e"])
    assert files(scored) == before
    assert score(scored, str(other), ["e"], name="run2").written == 5
    assert scored.model_names() == ["run", "run2"]


def test_a_shared_step_0_does_not_make_two_runs_one(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="0,1")
    other = runs.parent / "others" / "run"
    shutil.copytree(runs / "run" / "step0", other / "step0")
    with pytest.raises(ModelMismatch, match="no step that both have"):
        score(scored, str(other), ["e"])


def test_a_moved_folder_is_the_same_run(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="0:2")
    (runs / "run").rename(runs.parent / "run")
    assert score(scored, str(runs.parent / "run"), ["d", "e"]).written == 7
    known = scored.model("run")
    assert known is not None
    assert known.repo == str(runs / "run")


def test_two_new_runs_cannot_take_one_name_at_the_same_time(scored: Store, runs: Path) -> None:
    other = save_run(runs.parent / "others" / "run", [16, 32], seed=5)
    planned = plan(scored, str(other), ["d"])
    score(scored, str(runs / "run"), ["d"])
    report = run(scored, planned)
    assert report.written == 0
    assert [step for step, _ in report.failures] == [16, 32]
    assert "no step that both have" in report.failures[0][1]
    assert scored.steps("run", "d") == STEPS


def test_a_folder_that_was_trained_anew_is_refused(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="0:4")
    shutil.rmtree(runs / "run")
    save_run(runs / "run", STEPS, seed=3)
    with pytest.raises(ModelMismatch, match="at step 4 it was scored with weights"):
        plan(scored, str(runs / "run"), ["d"])


def test_one_step_with_other_weights_than_before_is_a_failure(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"])
    neox(99).save_pretrained(runs / "run" / "step2")
    report = score(scored, str(runs / "run"), ["e"])
    assert [step for step, _ in report.failures] == [2]
    assert "on another dataset with other weights" in report.failures[0][1]
    assert scored.steps("run", "e") == [0, 1, 4, 8]


def test_a_checkpoint_of_another_size_is_a_failure(scored: Store, runs: Path) -> None:
    neox(4, layers=2).save_pretrained(runs / "run" / "step4")
    report = score(scored, str(runs / "run"), ["d"])
    assert [step for step, _ in report.failures] == [4]
    assert "of another run" in report.failures[0][1]


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


# Runs on the Hub


@pytest.fixture
def hub_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A Pythia of the wrong size in the Hub's cache, without the Hub; revision → commit."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    models = {name: neox(int(name[4:]), vocabulary=50304) for name in ("step0", "step512", "step1000")}
    return cache_run(tmp_path / "cache", "EleutherAI/pythia-14m-seed3", models)


def test_a_run_of_a_known_suite_knows_its_tokens(scored: Store, hub_run: dict[str, str]) -> None:
    todo = plan(scored, "EleutherAI/pythia-14m-seed3", ["d"])
    assert (todo.model, todo.tokens_per_step, todo.downloads) == ("pythia-14m-seed3", 2_097_152, ())
    assert todo.source.unreachable is not None
    assert run(scored, todo).written == 3
    provenance = scored.slice_facts("pythia-14m-seed3", "d", 1000).provenance
    assert (provenance.revision, provenance.commit) == ("step1000", hub_run["step1000"])
    assert (provenance.tokens_seen, provenance.tokens_exact) == (2_097_152_000, True)
    known = scored.model("pythia-14m-seed3")
    assert known is not None
    assert (known.repo, known.size, known.seed) == ("EleutherAI/pythia-14m-seed3", "14m", 3)


def test_what_is_not_on_this_disk_is_planned_as_a_download(
    scored: Store, hub_run: dict[str, str], tmp_path: Path
) -> None:
    snapshots = tmp_path / "cache" / "models--EleutherAI--pythia-14m-seed3" / "snapshots"
    shutil.rmtree(snapshots / hub_run["step512"])
    todo = plan(scored, "EleutherAI/pythia-14m-seed3", ["d"])
    assert (todo.downloads, todo.download_bytes) == (("step512",), None)
    report = run(scored, todo)
    assert [step for step, _ in report.failures] == [512]
    assert "not in the cache and cannot be downloaded" in report.failures[0][1]
    assert scored.steps("pythia-14m-seed3", "d") == [0, 1000]


def test_a_step_that_is_not_in_the_cache_is_an_error_that_says_so(
    scored: Store, hub_run: dict[str, str]
) -> None:
    with pytest.raises(
        UnknownStep, match=r"in the Hub's cache \(the Hub cannot be asked\)\. .*: 0, 512, 1000"
    ):
        plan(scored, "EleutherAI/pythia-14m-seed3", ["d"], steps=2000)


def test_a_local_copy_of_a_run_on_the_hub_is_the_same_run(
    scored: Store, hub_run: dict[str, str], tmp_path: Path
) -> None:
    score(scored, "EleutherAI/pythia-14m-seed3", ["d"])
    copied = save_run(tmp_path / "pythia-14m-seed3", [0, 512, 1000], vocabulary=50304)
    assert score(scored, str(copied), ["e"]).written == 3


# Order, budget, single checkpoints


def test_a_plan_in_coarse_to_fine_order(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="1")
    todo = plan(scored, str(runs / "run"), ["d"], order="bisect")
    assert [each.checkpoint.step for each in todo.pending] == [0, 8, 2, 4]
    assert (todo.present, todo.tokens) == (1, 4 * 39)


def test_shards_of_a_plan_do_not_depend_on_what_is_there(scored: Store, runs: Path) -> None:
    def steps(shard: str) -> list[int]:
        return [each.checkpoint.step for each in plan(scored, str(runs / "run"), ["d"], shard=shard).pending]

    before = [steps("0/2"), steps("1/2")]
    assert sorted(before[0] + before[1]) == STEPS
    score(scored, str(runs / "run"), ["d"], steps=before[0][0])
    assert [steps("0/2"), steps("1/2")] == [before[0][1:], before[1]]
    with pytest.raises(BadOption, match="I from 0 to N-1"):
        steps("2/2")


def test_a_budget_ends_before_what_does_not_fit(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pass takes ten seconds of a clock of its own; within 35 seconds three checkpoints are done."""
    now = 0.0
    whole = publishing.token_scores

    def slow(*args: object, **kwargs: object) -> object:
        nonlocal now
        now += 10
        return whole(*args, **kwargs)

    monkeypatch.setattr(publishing, "token_scores", slow)
    monkeypatch.setattr(running, "Budget", lambda seconds: Budget(seconds, lambda: now))
    todo = plan(scored, str(runs / "run"), ["d"], order="bisect")
    report = run(scored, todo, budget=35)
    assert (report.written, report.left, report.failures) == (3, 2, [])
    assert scored.steps("run", "d") == [0, 2, 8]
    assert run(scored, plan(scored, str(runs / "run"), ["d"]), budget=0).left == 2
    assert run(scored, plan(scored, str(runs / "run"), ["d"]), budget=30).left == 0
    assert scored.steps("run", "d") == STEPS


# The next checkpoint, got ready while one is scored


class Order:
    """The events and their steps, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, int]] = []
        begin, take, scored = Ahead.begin, Ahead.take, publishing.Publisher.score

        def begun(ahead: Ahead, checkpoint: Checkpoint) -> None:
            self.events.append(("begin", checkpoint.step))
            begin(ahead, checkpoint)

        def taken(ahead: Ahead, checkpoint: Checkpoint) -> ReadCheckpoint:
            self.events.append(("take", checkpoint.step))
            return take(ahead, checkpoint)

        def score(
            publisher: publishing.Publisher, checkpoint: Checkpoint, *rest: Any, **options: Any
        ) -> publishing.FinishedPass:
            self.events.append(("score", checkpoint.step))
            return scored(publisher, checkpoint, *rest, **options)

        monkeypatch.setattr(Ahead, "begin", begun)
        monkeypatch.setattr(Ahead, "take", taken)
        monkeypatch.setattr(publishing.Publisher, "score", score)


def test_the_next_checkpoint_is_begun_before_one_is_scored(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(monkeypatch)
    score(scored, str(runs / "run"), ["d", "e"], steps="0:2")
    assert order.events == [
        ("take", 0), ("begin", 1), ("score", 0), ("score", 0),
        ("take", 1), ("begin", 2), ("score", 1), ("score", 1),
        ("take", 2), ("score", 2), ("score", 2),
    ]  # fmt: skip
    assert ahead_threads() == []


def test_a_runs_model_is_built_once(scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing that a job does with it keeps the next checkpoint's weights from being put into it."""
    built, whole = [], loading._built

    def counted(folder: Path, *rest: Any, **keywords: Any) -> object:
        built.append(folder.name)
        return whole(folder, *rest, **keywords)

    monkeypatch.setattr(loading, "_built", counted)
    assert score(scored, str(runs / "run"), ["d", "e"]).written == 2 * len(STEPS)
    assert built == ["step0"]


def ahead_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "trajstore-ahead"]


def test_an_error_of_the_next_checkpoint_is_its_own(scored: Store, runs: Path) -> None:
    (runs / "run" / "step1" / "model.safetensors").unlink()
    report = score(scored, str(runs / "run"), ["d"])
    assert [step for step, _ in report.failures] == [1]
    assert "step1 holds no weights" in report.failures[0][1]
    assert scored.steps("run", "d") == [0, 2, 4, 8]


def test_no_thread_stays_after_an_interrupt(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PIECE", 1)  # so small that reading outlasts the pass

    def interrupted(*args: object, **kwargs: object) -> object:
        assert ahead_threads() == ["trajstore-ahead"]
        raise KeyboardInterrupt

    monkeypatch.setattr(publishing, "token_scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(scored, str(runs / "run"), ["d"])
    assert ahead_threads() == []


# What is kept and how


def test_columns_are_kept_beside_the_loss(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps=4, columns=["rank", "entropy"])
    path = layout.slice_path(scored.path, "run", "d", 4)
    table = pl.read_parquet(path, hive_partitioning=False)
    assert table.columns == ["context", "position", "loss", "rank", "entropy"]
    model = GPTNeoXForCausalLM.from_pretrained(runs / "run" / "step4")
    ranks, entropies = [], []
    for context in random_dataset(seed=1).ids:
        ids = torch.as_tensor(context, dtype=torch.long)
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1]
        ranks.append((logits > logits.gather(1, ids[1:, None])).sum(1))
        entropies.append(torch.distributions.Categorical(logits=logits).entropy())
    np.testing.assert_array_equal(table["rank"], torch.cat(ranks))
    np.testing.assert_allclose(table["entropy"], torch.cat(entropies), atol=1e-5)
    np.testing.assert_array_equal(table["loss"], losses(scored, 4))


def test_a_softmax_over_the_tokenizer_alone_is_another_trajectory(scored: Store, runs: Path) -> None:
    scored.add_dataset("small", random_dataset(vocabulary=40, seed=3))
    score(scored, str(runs / "run"), ["small"], steps=4, vocab="tokenizer")
    model = GPTNeoXForCausalLM.from_pretrained(runs / "run" / "step4")
    expected = []
    for context in random_dataset(vocabulary=40, seed=3).ids:
        ids = torch.as_tensor(context, dtype=torch.long)
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1, :40]
        expected.append(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none"))
    np.testing.assert_allclose(losses(scored, 4, "small"), torch.cat(expected), atol=1e-5)
    assert scored.slice_facts("run", "small", 4).provenance.vocab == "tokenizer"
    with pytest.raises(SlicesDiffer, match="vocab tokenizer, these would have full"):
        score(scored, str(runs / "run"), ["small"])


def test_a_checkpoint_s_own_dtype(scored: Store, runs: Path) -> None:
    neox(1).to(torch.bfloat16).save_pretrained(runs / "run" / "step1")
    report = score(scored, str(runs / "run"), ["d"], dtype="auto", steps="0:2")
    assert scored.slice_facts("run", "d", 0).provenance.dtype == "float32"
    assert [step for step, _ in report.failures] == [1]
    assert "dtype float32, these would have bfloat16" in report.failures[0][1]
    assert score(scored, str(runs / "run"), ["d"], dtype="auto", steps=1, name="half").written == 1
    assert scored.slice_facts("half", "d", 1).provenance.dtype == "bfloat16"
    with pytest.raises(SlicesDiffer, match="dtype bfloat16, these would have float32"):
        score(scored, str(runs / "run"), ["d"], dtype="auto", steps=4, name="half")


def test_a_configuration_that_cannot_be_read_does_not_keep_the_other_checkpoints(
    scored: Store, runs: Path
) -> None:
    (runs / "run" / "step0" / "config.json").write_text("{")
    report = score(scored, str(runs / "run"), ["d"], dtype="auto")
    assert [step for step, _ in report.failures] == [0]
    assert "config.json cannot be read" in report.failures[0][1]
    assert scored.steps("run", "d") == STEPS[1:]


def test_known_bad_checkpoints_are_marked_or_left_out(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(model: str, pattern: str | None) -> CheckpointSource:
        source = find_checkpoints(model, pattern)
        reasons = {2: "so they say (URL)"}
        marked = (replace(each, known_bad=reasons.get(each.step)) for each in source.checkpoints)
        return replace(source, checkpoints=tuple(marked))

    monkeypatch.setattr(planning, "find_checkpoints", find)
    todo = plan(scored, str(runs / "run"), ["d"], skip_known_bad=True)
    assert [each.step for each in todo.skipped_bad] == [2]
    assert [each.checkpoint.step for each in todo.pending] == [0, 1, 4, 8]
    score(scored, str(runs / "run"), ["d"])
    kept = {step: scored.slice_facts("run", "d", step).provenance.known_bad for step in STEPS}
    assert kept == dict.fromkeys(STEPS) | {2: "so they say (URL)"}


OWN_CODE = """
from transformers import GPT2Config, GPT2LMHeadModel

class OwnConfig(GPT2Config):
    model_type = "own"

class OwnModel(GPT2LMHeadModel):
    config_class = OwnConfig
"""


def test_code_beside_the_weights_is_run_only_on_request(
    scored: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=VOCABULARY, n_positions=32))
    folder = tmp_path / "own" / "step2"
    model.save_pretrained(folder)
    (folder / "modeling_own.py").write_text(OWN_CODE)
    code = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own", "auto_map": code}
    (folder / "config.json").write_text(json.dumps(config))
    refused = score(scored, str(tmp_path / "own"), ["d"])
    assert "code of its own, which is run only with trust_remote_code=True" in refused.failures[0][1]
    assert not (tmp_path / "modules").exists()
    report = score(scored, str(tmp_path / "own"), ["d"], trust_remote_code=True)
    assert (report.written, report.failures) == (1, [])
    assert scored.slice_facts("own", "d", 2).provenance.remote_code
    expected = token_losses(model, random_dataset(seed=1).ids)
    np.testing.assert_array_equal(losses(scored, 2, model="own"), np.concatenate(expected))


# A cache with a limit


def test_a_sweep_under_a_cache_limit_never_holds_more_than_one_checkpoint_above_it(
    scored: Store, loopback: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in STEPS:
        loopback.add_model("org/run", f"step{step}", neox(step), tmp_path / "made")
    hub.fetch("org/run", "step0")  # by somebody else, so it stays
    first = used_bytes()
    seen: list[int] = []
    whole = publishing.token_scores

    def looking(*args: object, **kwargs: object) -> object:
        found = whole(*args, **kwargs)
        seen.append(used_bytes())
        return found

    monkeypatch.setattr(publishing, "token_scores", looking)
    report = score(scored, "org/run", ["d", "e"], cache_limit=int(2.5 * first))
    assert (report.written, report.failures) == (10, [])
    assert len(seen) == 10
    assert max(seen) <= 2.5 * first
    checkpoints = find_checkpoints("org/run").checkpoints
    assert [each.step for each in checkpoints if each.present()] in ([0, 8], [0, 4, 8])
    weights = [download for download in loopback.downloads if download.name == "model.safetensors"]
    assert len(weights) == len(STEPS)
    # Where what others put there leaves no room at all, one is there at a time.
    CacheLimit(0, []).make_room(1)
    assert [each.step for each in checkpoints if each.present()] == [0]
    report = score(scored, "org/run", ["d"], name="again", cache_limit=1)
    assert (report.written, report.failures) == (5, [])
    assert max(seen[10:]) < 2.5 * first
    for step in STEPS:
        np.testing.assert_array_equal(losses(scored, step), losses(scored, step, model="again"))
