"""Scoring from inside a Trainer changes nothing in the training, and gives what its saved checkpoints give."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

from tests.helpers.tiny_models import VOCABULARY, neox, random_dataset, save_tokenizer
from trajstore.errors import (
    BadDataset,
    ModelMismatch,
    NotCausal,
    TokenizerMismatch,
    TrajstoreError,
    UnfitContext,
    UnknownName,
    UnknownStep,
)
from trajstore.forward.training_state import undisturbed
from trajstore.scoring import TrajectoryCallback, callback, score

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trajstore.store.store import Store

pytest.importorskip("accelerate", reason="transformers' Trainer needs it: pip install trajstore[train]")

LENGTH, BATCH = 12, 4


class Data(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Contexts of random tokens."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        draw = np.random.default_rng(index)
        ids = torch.as_tensor(draw.integers(0, VOCABULARY, LENGTH))
        return {"input_ids": ids, "labels": ids}


def train(
    folder: Path,
    *callbacks: TrainerCallback,
    steps: int = 8,
    seed: int = 3,
    resume: str | None = None,
    tokenizer: Any = None,
    model: Any = None,
    **settings: Any,
) -> Trainer:
    """A short training with dropout, so that any use of random numbers would show."""
    settings = {"save_strategy": "no", "save_steps": 4} | settings
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-2,
        seed=seed,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
        **settings,
    )
    # An untied GPT-NeoX head is lost when the Trainer resumes: it is saved as embed_out and looked for as lm_head.
    own = neox(seed, layers=2, hidden_dropout=0.2, attention_dropout=0.2, tie_word_embeddings=True)
    trainer = Trainer(
        own if model is None else model,
        arguments,
        train_dataset=Data(),
        eval_dataset=Data(),
        callbacks=list(callbacks),
        processing_class=tokenizer,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads cost more than they save at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(trainer: Trainer) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in trainer.model.state_dict().items()}


def bits(store: Store, step: int, dataset: str = "d", model: str = "run") -> bytes:
    return store.slice_losses(model, dataset, step).tobytes()


# The main job


def test_losses_are_those_of_the_saved_checkpoints_and_the_training_is_undisturbed(
    ready: Store, tmp_path: Path
) -> None:
    watching = TrajectoryCallback(ready, ["d", "e"], every=2)
    trained = train(tmp_path / "run", watching, save_strategy="steps", save_steps=2)
    plain = train(tmp_path / "plain")
    assert weights(trained) == weights(plain)

    assert ready.steps("run", "d") == ready.steps("run", "e") == [0, 2, 4, 6, 8]
    report = watching.report
    assert (report.written, report.skipped, report.failures, report.tokens) == (10, 0, [], 5 * (39 + 14))
    assert score(ready, str(tmp_path / "run"), ["d", "e"], name="after").written == 8
    for step in (2, 4, 6, 8):
        assert bits(ready, step) == bits(ready, step, model="after")
        assert bits(ready, step, "e") == bits(ready, step, "e", model="after")
        here, after = (ready.slice_facts(model, "d", step).provenance for model in ("run", "after"))
        assert here.weights == after.weights
        assert (here.dtype, here.attention, here.device) == (after.dtype, after.attention, after.device)
        assert here.revision is here.commit is here.tokens_seen is None
    assert len({bits(ready, step) for step in (0, 2, 4, 6, 8)}) == 5


def test_scoring_the_folder_afterwards_goes_on_where_the_callback_was(ready: Store, tmp_path: Path) -> None:
    train(tmp_path / "run", TrajectoryCallback(ready, ["d"], every=4), save_strategy="steps", save_steps=2)
    later = score(ready, str(tmp_path / "run"), ["d", "e"])
    assert (later.written, later.skipped, later.failures) == (6, 2, [])
    known = ready.model("run")
    assert known is not None
    assert (known.repo, known.family, known.n_layer) == (str(tmp_path / "run"), "gpt_neox", 2)


@pytest.mark.parametrize(
    ("chosen", "steps"),
    [
        ({}, [0, 1, 2, 4, 8]),
        ({"every": 3}, [0, 3, 6, 8]),
        ({"steps": "5,1:3"}, [0, 1, 2, 3, 5, 8]),
        ({"steps": [7]}, [0, 7, 8]),
    ],
)
def test_steps_are_chosen_among_those_of_the_training(
    ready: Store, tmp_path: Path, chosen: dict[str, Any], steps: list[int]
) -> None:
    train(tmp_path / "run", TrajectoryCallback(ready, ["d"], model="named", **chosen))
    assert ready.steps("named", "d") == steps


def test_mixed_precision_training_is_scored_in_the_weights_own_precision(
    ready: Store, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    watching = TrajectoryCallback(ready, ["d"], every=4)
    trained = train(run, watching, bf16=True, save_strategy="steps")
    assert weights(trained) == weights(train(tmp_path / "plain", bf16=True))
    score(ready, str(run), ["d"], name="after")
    assert ready.slice_facts("run", "d", 4).provenance.dtype == "float32"
    assert [bits(ready, step) for step in (4, 8)] == [bits(ready, step, model="after") for step in (4, 8)]


def test_columns_and_vocabulary_are_those_that_score_keeps(ready: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ready.add_dataset("small", random_dataset(vocabulary=VOCABULARY - 20))
    options: dict[str, Any] = {"columns": ["rank", "entropy"], "vocab": "tokenizer"}
    watching = TrajectoryCallback(ready, ["small"], every=8, **options)
    train(run, watching, save_strategy="steps", save_steps=8)
    score(ready, str(run), ["small"], name="after", **options)
    here, after = (
        ready.sql(f"FROM scores WHERE model = '{name}' AND step = 8").pl() for name in ("run", "after")
    )
    assert {"rank", "entropy"} <= set(here.columns)
    assert here["rank"].null_count() == here["entropy"].null_count() == 0
    assert here.drop("model").equals(after.drop("model"))
    assert ready.slice_facts("run", "small", 8).provenance.vocab == "tokenizer"


def test_tokens_seen_are_those_that_the_trainer_counts(ready: Store, tmp_path: Path) -> None:
    watching = TrajectoryCallback(ready, ["d"], every=4)
    train(tmp_path / "run", watching, include_num_input_tokens_seen="all", gradient_accumulation_steps=2)
    facts = [ready.slice_facts("run", "d", step).provenance for step in (0, 4, 8)]
    assert [each.tokens_seen for each in facts] == [0, 4 * 2 * BATCH * LENGTH, 8 * 2 * BATCH * LENGTH]
    assert all(each.tokens_exact for each in facts)


# Stopping and resuming


def test_a_training_that_stops_early_is_scored_at_its_last_step(ready: Store, tmp_path: Path) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step == 5

    train(tmp_path / "before", Stop(), TrajectoryCallback(ready, ["d"], every=4))
    train(tmp_path / "after", TrajectoryCallback(ready, ["d"], every=4), Stop())
    assert ready.steps("before", "d") == ready.steps("after", "d") == [0, 4, 5]
    assert bits(ready, 5, model="before") == bits(ready, 5, model="after")


def test_weights_that_the_trainer_put_in_place_of_the_last_are_not_the_last(
    ready: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watching = TrajectoryCallback(ready, ["d"], every=4)
    train(
        tmp_path / "run",
        watching,
        EarlyStoppingCallback(early_stopping_patience=1, early_stopping_threshold=100.0),
        load_best_model_at_end=True,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=1,
        save_steps=1,
    )
    assert ready.steps("run", "d") == [0]
    ((step, reason),) = watching.report.failures
    assert (step, "best step's weights" in reason) == (2, True)
    assert "step 2 was not scored" in caplog.text


def test_a_resumed_training_skips_what_is_there_and_goes_on(ready: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, TrajectoryCallback(ready, ["d"], every=2), save_strategy="steps")
    whole = {step: bits(ready, step) for step in (0, 2, 4, 6, 8)}
    ready.drop([("run", "d", 8)])
    watching = TrajectoryCallback(ready, ["d"], every=2)
    train(run, watching, resume=str(run / "checkpoint-4"), save_strategy="steps")
    assert (watching.report.written, watching.report.skipped) == (1, 2)
    assert {step: bits(ready, step) for step in (0, 2, 4, 6, 8)} == whole


def test_other_weights_at_a_step_that_is_there_are_an_error(ready: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, TrajectoryCallback(ready, ["d"], every=2), save_strategy="steps")
    before = bits(ready, 6)
    with pytest.raises(ModelMismatch, match=r"step 6 .*other weights.* trajstore drop -m run --steps 6:"):
        train(
            run,
            TrajectoryCallback(ready, ["e", "d"], every=2),
            resume=str(run / "checkpoint-4"),
            save_strategy="steps",
            max_grad_norm=1e-3,
        )
    assert bits(ready, 6) == before
    assert ready.steps("run", "e") == [4]
    with pytest.raises(ModelMismatch, match="step 0"):
        train(run, TrajectoryCallback(ready, ["d"]), seed=4)


def test_a_name_belongs_to_one_run_wherever_its_folder_is_moved(ready: Store, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    train(run, TrajectoryCallback(ready, ["d"], every=4, model="m"), steps=4, save_strategy="steps")
    with pytest.raises(ModelMismatch, match=r"from .*/run, not from .*/other"):
        train(tmp_path / "other", TrajectoryCallback(ready, ["d"], every=4, model="m"), seed=4)
    shutil.move(run, moved)
    train(moved, TrajectoryCallback(ready, ["d"], every=4, model="m"), resume=str(moved / "checkpoint-4"))
    assert ready.steps("m", "d") == [0, 4, 8]


# What goes wrong


def test_what_cannot_be_right_is_raised_before_the_first_step(ready: Store, tmp_path: Path) -> None:
    ready.add_dataset("long", random_dataset((33, 4)))
    ready.add_dataset("wide", random_dataset(vocabulary=VOCABULARY + 60))
    trained: list[int] = []

    class Count(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            trained.append(1)

    def attempt(datasets: Sequence[str] = ("d",), **settings: Any) -> None:
        train(tmp_path / "run", TrajectoryCallback(ready, datasets, **settings), Count())

    for error, message, asked in [
        (UnfitContext, "long does not fit", {"datasets": ["d", "long"]}),
        (UnfitContext, "wide does not fit", {"datasets": ["wide"]}),
        (UnknownName, "no dataset 'f'", {"datasets": ["f"]}),
        (BadDataset, "no dataset", {"datasets": []}),
        (UnknownStep, "steps=9 .* a training of 8 steps", {"steps": "9"}),
        (TrajstoreError, "not both", {"steps": "9", "every": 2}),
        (TrajstoreError, "1 or more", {"every": 0}),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            attempt(**asked)  # type: ignore[arg-type]
    assert trained == []
    assert ready.model_names() == []


def test_the_trainers_tokenizer_must_be_the_datasets(ready: Store, tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "tokenizer", [f"w{number}" for number in range(VOCABULARY)])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    with pytest.raises(TokenizerMismatch, match="The dataset d was made with the tokenizer tests"):
        train(tmp_path / "run", TrajectoryCallback(ready, ["d"]), tokenizer=tokenizer)


def test_a_failure_later_is_said_and_the_training_goes_on(
    ready: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, calls = callback.token_scores, 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:  # step 4 on d
            raise torch.OutOfMemoryError("full")
        return whole(*args, **kwargs)

    monkeypatch.setattr(callback, "token_scores", failing)
    watching = TrajectoryCallback(ready, ["d", "e"], every=4)
    trained = train(tmp_path / "run", watching)
    assert weights(trained) == weights(train(tmp_path / "plain"))
    assert watching.report.failures == [(4, "OutOfMemoryError: full")]
    assert (ready.steps("run", "d"), ready.steps("run", "e")) == ([0, 8], [0, 4, 8])
    assert "step 4 was not scored: OutOfMemoryError: full" in caplog.text


def test_a_model_that_no_process_holds_whole_is_refused(ready: Store, tmp_path: Path) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    model = neox()
    assert callback._whole_model(arguments, model) is model
    with pytest.raises(TrajstoreError, match="not a Linear"):
        callback._whole_model(arguments, torch.nn.Linear(1, 1))
    model.lm_head.weight.placements = ()  # as torch's DTensor has it
    with pytest.raises(TrajstoreError, match=r"spread over several processes .* --watch"):
        callback._whole_model(arguments, model)


# The model is left as it was


def test_everything_is_as_it_was_afterwards() -> None:
    model = neox(layers=2).train()
    model.gpt_neox.layers[1].eval()
    model.forward = hidden = model.forward  # as accelerate puts one in front of the class's
    modes = [module.training for module in model.modules()]
    buffers = [(name, id(buffer)) for name, buffer in model.named_buffers()]
    configured = dict(vars(model.config))
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1]
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert "forward" not in vars(model)
        model.config.dtype = "something else"
        model.gpt_neox.rotary_emb.inv_freq = torch.ones(1)
        random.random(), torch.rand(3), np.random.rand(3)
    assert [module.training for module in model.modules()] == modes
    assert [(name, id(buffer)) for name, buffer in model.named_buffers()] == buffers
    assert vars(model.config) == configured
    assert vars(model)["forward"] is hidden
    after = random.getstate(), torch.get_rng_state(), np.random.get_state()[1]
    assert states[0] == after[0]
    assert torch.equal(states[1], after[1])
    np.testing.assert_array_equal(states[2], after[2])


def test_a_model_that_reads_ahead_is_refused_before_the_first_step(ready: Store, tmp_path: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    scoring, steps = TrajectoryCallback(ready, ["d"], model="run"), []

    class Counting(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            steps.append(1)

    with pytest.raises(NotCausal, match="BertLMHeadModel is not a causal language model"):
        train(tmp_path / "run", scoring, Counting(), model=BertLMHeadModel(config))
    assert (steps, ready.steps("run", "d"), scoring.report.written) == ([], [], 0)


def test_what_depends_on_the_attention_kernel_is_logged_once(
    ready: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.forward.test_attention_kernels import falcon

    scoring = TrajectoryCallback(ready, ["d", "e"], model="run", every=4)
    train(tmp_path / "run", scoring, model=falcon(alibi=True))
    assert ready.steps("run", "d") == [0, 4, 8]
    assert len(scoring.report.warnings) == 1
    assert caplog.text.count("depend on the attention kernel") == 1
