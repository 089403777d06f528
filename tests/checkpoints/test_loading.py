"""Checkpoints are loaded whole with their own weights, and told apart by them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from tests.helpers.tiny_models import VOCABULARY, cache_run, neox, save_run
from trajstore.checkpoints.loading import Checkpoint, load, weights_fingerprint
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.checkpoints.weight_files import weight_files, weight_names
from trajstore.checkpoints.weights.fingerprints import fingerprint
from trajstore.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path


def load_cpu(checkpoint: Checkpoint) -> torch.nn.Module:
    return load(checkpoint, "cpu", torch.float32).model


# Loading


def test_each_checkpoint_gets_its_own_weights(tmp_path: Path) -> None:
    source = find_checkpoints(str(save_run(tmp_path / "run", [0, 1, 2])))
    loaded = [load(checkpoint, "cpu", torch.float32) for checkpoint in source.checkpoints]
    assert len({each.weights for each in loaded}) == 3
    for each, step in zip(loaded, source.steps, strict=True):
        assert each.commit is None
        assert not each.model.training
        expected = neox(step).state_dict()
        assert each.model.state_dict().keys() == expected.keys()
        assert all(torch.equal(each.model.state_dict()[key], value) for key, value in expected.items())


def test_weights_come_in_the_dtype_asked_for(tmp_path: Path) -> None:
    (checkpoint,) = find_checkpoints(str(save_run(tmp_path / "run", [1]))).checkpoints
    for dtype in (torch.float32, torch.bfloat16):
        assert {p.dtype for p in load(checkpoint, "cpu", dtype).model.parameters()} == {dtype}
    neox().to(torch.float16).save_pretrained(tmp_path / "half" / "step1")
    (half,) = find_checkpoints(str(tmp_path / "half")).checkpoints
    assert load_cpu(half).dtype == torch.float32


def test_attention_can_be_chosen(tmp_path: Path) -> None:
    (checkpoint,) = find_checkpoints(str(save_run(tmp_path / "run", [1]))).checkpoints
    assert (
        load(checkpoint, "cpu", torch.float32, attention="eager").model.config._attn_implementation == "eager"
    )


def test_a_missing_tensor_is_an_error_and_not_random(tmp_path: Path) -> None:
    (checkpoint,) = find_checkpoints(str(save_run(tmp_path / "run", [1]))).checkpoints
    file = tmp_path / "run" / "step1" / "model.safetensors"
    tensors = load_file(file)
    removed = next(name for name in tensors if "dense_h_to_4h.weight" in name)
    del tensors[removed]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"needs are missing: .*dense_h_to_4h.weight"):
        load_cpu(checkpoint)


def test_a_surplus_layer_is_an_error_and_not_dropped(tmp_path: Path) -> None:
    (checkpoint,) = find_checkpoints(str(save_run(tmp_path / "run", [1], layers=2))).checkpoints
    config = tmp_path / "run" / "step1" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match=r"no place for: .* more"):
        load_cpu(checkpoint)


def test_a_tensor_of_another_shape_is_an_error(tmp_path: Path) -> None:
    (checkpoint,) = find_checkpoints(str(save_run(tmp_path / "run", [1]))).checkpoints
    config = tmp_path / "run" / "step1" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 65}))
    with pytest.raises((CheckpointError, RuntimeError), match=r"(?i)mismatch|shape"):
        load_cpu(checkpoint)


def test_buffers_that_older_versions_saved_are_no_surplus(tmp_path: Path) -> None:
    (checkpoint,) = find_checkpoints(str(save_run(tmp_path / "run", [1]))).checkpoints
    file = tmp_path / "run" / "step1" / "model.safetensors"
    old = {
        "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(2),
    }
    save_file(load_file(file) | old, file, metadata={"format": "pt"})
    assert torch.equal(load_cpu(checkpoint).lm_head.weight, neox(1).lm_head.weight)


def test_a_tied_head_is_not_missing(tmp_path: Path) -> None:
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=VOCABULARY, n_positions=32)
    model = GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path / "run" / "step1")
    assert "lm_head.weight" not in load_file(tmp_path / "run" / "step1" / "model.safetensors")
    (checkpoint,) = find_checkpoints(str(tmp_path / "run")).checkpoints
    loaded = load_cpu(checkpoint)
    assert torch.equal(loaded.lm_head.weight, model.transformer.wte.weight)


def test_pytorch_files_load_too(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "step3"
    neox(3).save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(neox(3).state_dict(), folder / "pytorch_model.bin")
    (checkpoint,) = find_checkpoints(str(tmp_path / "run")).checkpoints
    loaded = load(checkpoint, "cpu", torch.float32)
    assert torch.equal(loaded.model.lm_head.weight, neox(3).lm_head.weight)
    assert loaded.weights == fingerprint([folder / "pytorch_model.bin"])


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "run" / "step1").mkdir(parents=True)
    (checkpoint,) = find_checkpoints(str(tmp_path / "run")).checkpoints
    with pytest.raises(CheckpointError, match="step1 holds no weights"):
        load_cpu(checkpoint)


def test_loading_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (checkpoint,) = find_checkpoints(str(save_run(tmp_path / "run", [1]))).checkpoints
    capfd.readouterr()
    load_cpu(checkpoint)
    assert capfd.readouterr() == ("", "")


# Weights and their fingerprint


def test_which_files_hold_the_weights() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    assert weight_names(["model.safetensors", "pytorch_model.bin", "training_args.bin", *shards, index]) == [
        "model.safetensors"
    ]
    assert weight_names([*reversed(shards), index, "pytorch_model.bin"]) == shards
    assert weight_names([shards[0], index]) == []
    assert weight_names(["pytorch_model.bin", "optimizer.bin"]) == ["pytorch_model.bin"]
    assert weight_names(["training_args.bin", "config.json"]) == []


def test_the_fingerprint_is_what_sha256sum_gives(tmp_path: Path) -> None:
    neox().save_pretrained(tmp_path / "step1", max_shard_size="5KB")
    files = weight_files(tmp_path / "step1")
    assert len(files) > 1
    by_hand = subprocess.run(
        "LC_ALL=C; sha256sum model-*.safetensors | sha256sum",
        shell=True,
        cwd=tmp_path / "step1",
        capture_output=True,
        check=True,
    )
    assert fingerprint(reversed(files)) == f"sha256:{by_hand.stdout.decode().split()[0]}"


def test_a_moved_folder_keeps_its_fingerprint_and_a_flipped_bit_changes_it(tmp_path: Path) -> None:
    save_run(tmp_path / "run", [1])
    (before,) = find_checkpoints(str(tmp_path / "run")).checkpoints
    first = weights_fingerprint(before)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (after,) = find_checkpoints(str(tmp_path / "elsewhere")).checkpoints
    assert weights_fingerprint(after) == first
    file = tmp_path / "elsewhere" / "step1" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert weights_fingerprint(after) != first


# The Hub's cache


def test_revisions_in_the_cache_are_found_without_the_hub(offline: Path) -> None:
    models = {"step0": neox(0), "step512": neox(512), "main": neox(512)}
    commits = cache_run(offline, "org/run-1b", models)
    source = find_checkpoints("org/run-1b")
    assert (source.name, source.repo, source.local) == ("run-1b", "org/run-1b", False)
    assert source.steps == [0, 512]
    assert source.unreachable is not None
    assert "offline" in source.unreachable
    loaded = [load(checkpoint, "cpu", torch.float32) for checkpoint in source.checkpoints]
    for each, name in zip(loaded, ("step0", "step512"), strict=True):
        assert each.commit == commits[name]
        assert torch.equal(each.model.lm_head.weight, models[name].lm_head.weight)


def test_a_cached_blob_is_taken_at_its_name(offline: Path, tmp_path: Path) -> None:
    cache_run(offline, "org/run", {"step1": neox(1)})
    (cached,) = find_checkpoints("org/run").checkpoints
    (copied,) = find_checkpoints(str(save_run(tmp_path / "run", [1]))).checkpoints
    assert weights_fingerprint(cached) == weights_fingerprint(copied)
    (blob,) = [path for path in (offline / "models--org--run" / "blobs").iterdir() if len(path.name) == 64]
    blob.rename(blob.with_name("f" * 64))
    snapshot = cached.present()
    assert snapshot is None  # the link dangles: the weights are not there


def test_a_revision_that_is_not_in_the_cache_says_so(offline: Path) -> None:
    cache_run(offline, "org/run", {"step1": neox(1)})
    (checkpoint,) = find_checkpoints("org/run").checkpoints
    for file in (offline / "models--org--run" / "blobs").iterdir():
        file.unlink()
    with pytest.raises(
        CheckpointError, match="step1 of org/run is not in the cache and cannot be downloaded"
    ):
        load_cpu(checkpoint)


def test_settings_that_a_suite_needs_are_checked(offline: Path) -> None:
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32)
    good = GPT2Config(
        **(config.to_dict() | {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True})
    )
    cache_run(
        offline,
        "stanford-crfm/alias-gpt2-small-x21",
        {"checkpoint-10": GPT2LMHeadModel(config), "checkpoint-20": GPT2LMHeadModel(good)},
    )
    bad, fine = find_checkpoints("stanford-crfm/alias-gpt2-small-x21").checkpoints
    with pytest.raises(CheckpointError, match="must have reorder_and_upcast_attn = True, but has False"):
        load_cpu(bad)
    load_cpu(fine)


def test_a_suites_vocabulary_is_checked(offline: Path) -> None:
    # a head of 50304 rows, as if it were cut from 12b's 50688, gives losses 0.0076 nats too low near step 0
    cache_run(offline, "EleutherAI/pythia-12b", {"step0": neox(0, vocabulary=50_304)})
    cache_run(offline, "EleutherAI/pythia-14m", {"step0": neox(0, vocabulary=50_304)})
    (bad,) = find_checkpoints("pythia-12b").checkpoints
    with pytest.raises(
        CheckpointError, match=r"step0 must have rows of its embedding = 50688, but has 50304"
    ):
        load_cpu(bad)
    (fine,) = find_checkpoints("pythia-14m").checkpoints
    load_cpu(fine)


def test_a_local_folder_is_of_no_suite_whatever_its_name(tmp_path: Path) -> None:
    run = save_run(tmp_path / "EleutherAI" / "pythia-12b", [0])
    (checkpoint,) = find_checkpoints(str(run)).checkpoints
    load_cpu(checkpoint)
