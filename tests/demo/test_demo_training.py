"""The demo's corpus and training: what is held out, what repeats, what is saved, and what is trained again."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import torch

from tests.helpers.forked import processes
from trajstore.analysis.phases import phases
from trajstore.analysis.spikes import spikes
from trajstore.analysis.statistics.log_steps import LEAST_STEPS
from trajstore.demo import corpus as corpora
from trajstore.demo import train_model, train_suite
from trajstore.demo.recipe import Mix, Recipe, suite_recipes
from trajstore.demo.train_suite import find_trained, train_models
from trajstore.errors import BadDataset, TrainingFailed
from trajstore.progress import SILENT
from trajstore.scoring.model_facts import position_embedding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TINY = Recipe(checkpoints=(0, 2, 4), mix_change_step=2, batch=2, width=16, warmup_steps=2)


class Watcher:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.total = self.done = self.stops = 0

    def start(self, label: str, total: int, unit: str) -> None:
        assert unit == "steps"
        self.total = total

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount

    def stop(self) -> None:
        self.stops += 1

    def say(self, message: str) -> None:
        pass


def weights(folder: Path, name: str = "tiny-2l-seed0") -> dict[str, str]:
    """Checkpoint → sha256 of its weights' file."""
    files = sorted((folder / name).glob("step*/model.safetensors"))
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module", autouse=True)
def _tokenised_once() -> Iterator[None]:
    """Make the tokenizer and the training text once for all tests: two to four seconds each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_suite, "train_tokenizer", cache(train_suite.train_tokenizer))
        patch.setattr(train_suite, "training_text", cache(train_suite.training_text))
        yield


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of the tiny recipe, trained in workers; to be read only."""
    folder = tmp_path_factory.mktemp("models")
    watcher = Watcher()
    models = train_models(folder, [TINY, replace(TINY, n_layer=1)], watcher)
    assert [(m.name, m.reused) for m in models] == [("tiny-2l-seed0", False), ("tiny-1l-seed0", False)]
    assert (watcher.total, watcher.done, watcher.stops) == (8, 8, 1)
    return folder


# The corpus


@pytest.mark.parametrize("kind", corpora.KINDS)
def test_train_and_heldout_share_no_document_and_no_paragraph(kind: str) -> None:
    made = corpora.corpus()
    training, heldout = made.training[kind], made.heldout[kind]
    assert heldout
    assert not {text for text in training.values() if text in set(heldout.values())}
    if kind == "arithmetic":  # sheets are numbered on either side; there it is the questions that differ
        lines = [
            {line for text in side.values() for line in text.splitlines()} for side in (training, heldout)
        ]
        assert not lines[0] & lines[1]
    else:
        assert not set(training) & set(heldout)
        inside = {p for text in training.values() for p in corpora.shareable(text)}
        assert not inside & {p for text in heldout.values() for p in corpora.shareable(text)}
    n_training, n_heldout = sum(map(len, training.values())), sum(map(len, heldout.values()))
    assert 0.1 < n_heldout / (n_training + n_heldout) < 0.5


def test_arithmetic_is_right_and_heldout_in_both_orders() -> None:
    made = corpora.corpus()
    pairs: dict[str, set[tuple[int, int]]] = {"training": set(), "heldout": set()}
    for side, texts in (("training", made.training["arithmetic"]), ("heldout", made.heldout["arithmetic"])):
        for line in "".join(texts.values()).splitlines():
            numbers = [int(n) for n in line.translate(str.maketrans("+-=?:", "     ")).split() if n.isdigit()]
            assert len(numbers) == 3
            whole, (a, b) = max(numbers), sorted(numbers)[:2]
            assert whole == a + b, line
            pairs[side].add((a, b))
    assert not pairs["training"] & pairs["heldout"]


def test_the_split_goes_by_name_alone() -> None:
    first = int(hashlib.sha256(b"docs/if").hexdigest()[:16], 16) / 2**64
    assert corpora.is_heldout("docs/if") == (first < 0.2)
    share = np.mean([corpora.is_heldout(f"any/{n}") for n in range(4000)])
    assert share == pytest.approx(0.2, abs=0.03)


def heldout(kind: str) -> list[str]:
    """The held-out texts of one kind, in the order of their names."""
    return [text for _, text in sorted(corpora.corpus().heldout[kind].items())]


def test_heldout_files_hold_the_heldout_documents(tmp_path: Path) -> None:
    files = corpora.write_heldout(tmp_path / "text")
    assert [path.name for path in files.values()] == ["docs.jsonl", "code.jsonl", "arithmetic.jsonl"]
    for kind, path in files.items():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert [row["text"] for row in rows] == heldout(kind)
        assert {row["document"] for row in rows} == set(corpora.corpus().heldout[kind])


def test_a_python_without_help_topics_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "_topics", dict)
    with pytest.raises(BadDataset, match="takes its docs from the standard library"):
        corpora.corpus.__wrapped__()


def test_repeats_are_random_halves_said_twice(tmp_path: Path) -> None:
    contexts = corpora.repeats(200, 3, 512)
    assert {(ids.dtype.name, ids.shape) for ids in contexts} == {("int32", (128,))}
    assert all(np.array_equal(ids[:64], ids[64:]) for ids in contexts)
    firsts = np.stack(contexts)[:, :64]
    assert set(np.unique(firsts)) == set(range(512))
    assert np.mean(firsts[:, 1:] == firsts[:, :-1]) == pytest.approx(1 / 512, abs=2e-3)
    assert np.array_equal(corpora.repeats(200, 3, 512), contexts)
    assert not np.array_equal(corpora.repeats(200, 4, 512), contexts)
    path = corpora.write_repeats(tmp_path, 5, 3)
    rows = [json.loads(line)["input_ids"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert np.array_equal(rows, corpora.repeats(5, 3, 512))


def test_tokenizer_gives_back_every_text_and_is_the_same_each_time(suite: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(suite / "tiny-2l-seed0"))
    text = heldout("code")[0] + " · naïve 雪\n"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == 512
    assert max(ids) < 512
    again = corpora.train_tokenizer()
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again(text)["input_ids"] == ids


# The recipe and its data


def test_mix_shares_are_drawn_as_the_recipe_says() -> None:
    recipe = Recipe()
    assert (recipe.mix(600), recipe.mix(601)) == (recipe.mix_before, recipe.mix_after)
    rng = np.random.default_rng(0)
    for mix, repeated in ((recipe.mix_before, 0.88), (recipe.mix_after, 0.30)):
        drawn = train_model.draw_sources(rng, mix, 20_000)
        wanted = {"repeats": repeated} | dict.fromkeys(corpora.KINDS, (1 - repeated) / 3)
        for source, share in wanted.items():
            four_sigma = 4 * (share * (1 - share) / 20_000) ** 0.5
            assert drawn.count(source) / 20_000 == pytest.approx(share, abs=four_sigma)


def test_training_repeats_have_periods_of_16_to_64() -> None:
    rng, text = np.random.default_rng(0), train_model.TrainingText({}, {}, "")
    periods = set()
    for _ in range(2000):
        ids = train_model.draw_context(rng, "repeats", text, Recipe())
        assert ids.shape == (128,)
        periods.add(next(p for p in range(1, 128) if np.array_equal(ids[p:], ids[:-p])))
    assert periods == set(range(16, 65))


def test_text_contexts_lie_within_one_training_document() -> None:
    tokenizer, rng = train_suite.train_tokenizer(), np.random.default_rng(0)
    text = train_suite.training_text(tokenizer)
    for kind in corpora.KINDS:
        documents = corpora.corpus().training[kind].values()
        for _ in range(10):
            ids = train_model.draw_context(rng, kind, text, Recipe())
            assert len(ids) == 128
            inner = tokenizer.decode(ids).strip("\ufffd")  # a slice may begin or end within a character
            assert any(inner in document for document in documents)


def test_the_suite_and_quick_as_its_first_part() -> None:
    full, (quick,) = suite_recipes(quick=False), suite_recipes(quick=True)
    names = ["tiny-2l-seed0", "tiny-2l-seed1", "tiny-1l-seed0", "tiny-learned-2l-seed0"]
    assert [recipe.name for recipe in full] == names
    assert replace(full[3], position_embedding="rotary") == full[0]
    assert quick.name == full[0].name
    assert replace(quick, checkpoints=full[0].checkpoints) == full[0]
    assert set(quick.checkpoints) < set(full[0].checkpoints)
    assert len(quick.checkpoints) >= max(spikes.FEWEST_CHECKPOINTS, phases.FEWEST_CHECKPOINTS, LEAST_STEPS)
    for recipe in (*full, quick):
        assert recipe.checkpoints[0] == 0
        assert list(recipe.checkpoints) == sorted(set(recipe.checkpoints))
        assert recipe.tokens_per_step == 2048
        for mix in (recipe.mix_before, recipe.mix_after):
            assert mix.repeats + mix.docs + mix.code + mix.arithmetic == pytest.approx(1)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_muon_takes_the_matrices_of_the_layers_and_rates_warm_up(
    positions: Literal["rotary", "learned"],
) -> None:
    model = train_model._new_model(replace(TINY, position_embedding=positions))
    assert position_embedding(model) == positions
    (muon, adamw), schedules = train_model._optimizers(model, replace(TINY, warmup_steps=4))
    names = {id(weights): name for name, weights in model.named_parameters()}
    by = [[names[id(p)] for group in o.param_groups for p in group["params"]] for o in (muon, adamw)]
    assert len(by[0]) == 4 * TINY.n_layer
    assert all(re.search(r"\.(layers|h)\.\d", name) and name.endswith("weight") for name in by[0])
    assert sorted(by[0] + by[1]) == sorted(names.values())
    rates = []
    for _ in range(5):
        rates.append(muon.param_groups[0]["lr"])
        for optimizer, schedule in zip((muon, adamw), schedules, strict=True):
            optimizer.step()
            schedule.step()
    assert rates == pytest.approx([0.005, 0.01, 0.015, 0.02, 0.02])


# Training and what is kept of it


def test_checkpoints_load_and_are_what_the_recipe_says(suite: Path) -> None:
    from transformers import AutoModelForCausalLM

    for name, n_layer in (("tiny-2l-seed0", 2), ("tiny-1l-seed0", 1)):
        assert set(weights(suite, name)) == {"step0", "step2", "step4"}
        assert not list((suite / name).glob(".*"))
        model = AutoModelForCausalLM.from_pretrained(str(suite / name / "step4"))
        assert (model.config.num_hidden_layers, model.config.rope_parameters["partial_rotary_factor"]) == (
            n_layer,
            0.5,
        )
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
        ids = torch.arange(128)[None]
        assert torch.isfinite(model(ids, labels=ids).loss)
        modes = {path.stat().st_mode for path in (suite / name / "step4").iterdir()}
        assert len(modes) == 1, "the weights can be read by whoever can read their folder"
    initial = train_model._new_model(TINY).gpt_neox.embed_in.weight
    start = AutoModelForCausalLM.from_pretrained(str(suite / "tiny-2l-seed0" / "step0"))
    assert torch.equal(start.gpt_neox.embed_in.weight, initial)


def test_a_seed_gives_the_same_bits_here_and_in_a_worker_whatever_was_drawn_before(
    suite: Path, tmp_path: Path
) -> None:
    torch.manual_seed(99)
    threads, drawn = torch.get_num_threads(), torch.get_rng_state()
    (here,) = train_models(tmp_path, [TINY], SILENT)
    assert weights(tmp_path) == weights(suite)
    assert len(set(weights(tmp_path).values())) == 3
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not here.reused
    train_models(tmp_path / "other", [replace(TINY, seed=1)], SILENT)
    assert not set(weights(tmp_path / "other", "tiny-2l-seed1").values()) & set(weights(tmp_path).values())


def test_a_complete_model_is_reused_and_an_interrupted_one_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Watcher):
        def advance(self, amount: int = 1, note: str = "") -> None:
            super().advance(amount, note)
            if self.done == 3:
                raise KeyboardInterrupt

    stopped = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        train_models(tmp_path, [TINY], stopped)
    home = tmp_path / TINY.name
    assert stopped.stops == 1
    assert set(weights(tmp_path)) == {"step0", "step2"}
    assert find_trained(tmp_path, TINY) is None

    stale = [home / "step3", home / ".step4.partial"]
    for folder in stale:
        folder.mkdir()
    (home / "notes.txt").write_text("mine")
    (trained,) = train_models(tmp_path, [TINY], SILENT)
    assert not trained.reused
    assert not any(folder.exists() for folder in stale)
    assert (home / "notes.txt").read_text() == "mine"

    monkeypatch.setattr("trajstore.demo.train_suite.train_model", None)
    (reused,) = train_models(tmp_path, [TINY], SILENT)
    assert reused == replace(trained, reused=True, seconds=reused.seconds)


def test_what_is_not_the_same_training_is_not_reused(suite: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(suite / TINY.name, tmp_path / TINY.name)
    home = tmp_path / TINY.name
    shorter = replace(TINY, checkpoints=(0, 2))
    found = find_trained(tmp_path, shorter)
    assert found is not None
    assert found.recipe == shorter
    assert find_trained(tmp_path, replace(TINY, checkpoints=(0, 3))) is None
    assert find_trained(tmp_path, replace(TINY, muon_lr=0.01)) is None
    assert find_trained(tmp_path, replace(TINY, mix_after=Mix.repeating(0.5))) is None

    facts = json.loads((home / "training.json").read_text(encoding="utf-8"))
    assert facts["recipe"].pop("position_embedding") == "rotary"
    (home / "training.json").write_text(json.dumps(facts), encoding="utf-8")
    assert find_trained(tmp_path, TINY) is not None, "as it was before there was another kind"
    for spoilt in ({**facts, "corpus": "sha256:0"}, {"recipe": 1}, [], {**facts, "seconds": None}):
        (home / "training.json").write_text(json.dumps(spoilt), encoding="utf-8")
        assert find_trained(tmp_path, TINY) is None
    (home / "training.json").write_text(json.dumps(facts), encoding="utf-8")
    assert find_trained(tmp_path, TINY) is not None
    (home / "step2" / "model.safetensors").unlink()
    assert find_trained(tmp_path, TINY) is None


def test_a_failure_says_why(tmp_path: Path) -> None:
    (tmp_path / TINY.name).write_text("a file where the folder should be")
    with pytest.raises(TrainingFailed, match="Training tiny-2l-seed0 failed: FileExistsError"):
        train_models(tmp_path, [TINY], SILENT)


def test_a_workers_failure_reaches_the_parent_and_stops_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_suite.multiprocessing, "get_context", lambda _: processes)
    long, broken = replace(TINY, checkpoints=(0, 100_000)), replace(TINY, seed=1, width=0)
    with pytest.raises(TrainingFailed, match=r"Training tiny-2l-seed1 failed: \w+: .+\. Models that were"):
        train_models(tmp_path, [long, broken], SILENT)
    assert find_trained(tmp_path, long) is None
    assert not list(tmp_path.glob("*/.*"))
