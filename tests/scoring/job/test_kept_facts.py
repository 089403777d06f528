"""Facts that a scoring job keeps beside losses, and a cache with a limit."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXForCausalLM

from tests.helpers.tiny_models import VOCABULARY, neox, random_dataset
from tests.scoring.job.conftest import STEPS, losses
from trajstore.checkpoints import hub
from trajstore.checkpoints.cache_limit import CacheLimit, used_bytes
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.errors import (
    SlicesDiffer,
)
from trajstore.scoring import plan as planning
from trajstore.scoring import token_losses
from trajstore.scoring.job import publish as publishing
from trajstore.scoring.plan import plan
from trajstore.scoring.run import score
from trajstore.store.disk import layout

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.loopback_hub import LoopbackHub
    from trajstore.checkpoints.runs import CheckpointSource
    from trajstore.store.store import Store


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
