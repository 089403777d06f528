"""A run's checkpoints are put into one model, and give the losses of models built anew, to the bit."""

from __future__ import annotations

import io
import json
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests.helpers.tiny_models import VOCABULARY, neox, save_run
from trajstore.checkpoints.loading import Checkpoint, Loader, load
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.checkpoints.weights import staging
from trajstore.errors import CheckpointError
from trajstore.forward.losses import token_losses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")

_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "GPT2",
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": VOCABULARY, "n_positions": 32, "bos_token_id": 1,
         "eos_token_id": 1, "initializer_range": 0.5},
    ),
    "neox": ("GPTNeoX", {key: value for key, value in _SMALL.items() if key != "num_key_value_heads"}),
    "llama": ("Llama", _SMALL),
    "tied llama": ("Llama", _SMALL | {"tie_word_embeddings": True}),
    "olmo2": ("Olmo2", _SMALL),
    "gemma2": ("Gemma2", _SMALL | {"head_dim": 8}),
    "mistral": ("Mistral", _SMALL),
    "qwen2": ("Qwen2", _SMALL),
    "phi": ("Phi", _SMALL),
}  # fmt: skip


def model_of(name: str, seed: int) -> PreTrainedModel:
    family, settings = ARCHITECTURES[name]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(**settings)
    kind = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    return getattr(transformers, family + kind)(config).eval()


def checkpoints_of(folder: Path) -> list[Checkpoint]:
    return list(find_checkpoints(str(folder)).checkpoints)


def contexts() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(2, VOCABULARY, n) for n in (12, 5, 2, 20, 20)]


def losses(model: PreTrainedModel) -> list[np.ndarray]:
    return token_losses(model, contexts())


def fill(loader: Loader, checkpoint: Checkpoint) -> PreTrainedModel:
    return loader.fill(loader.read(checkpoint)).model


def check_equal(folder: Path, dtype: torch.dtype = torch.float32, *, swapped: bool = True) -> None:
    """Each checkpoint has the losses that it has alone, in one model if it is `swapped`."""
    loader, models = Loader("cpu", dtype), []
    for checkpoint in checkpoints_of(folder):
        alone = load(checkpoint, "cpu", dtype)
        read = loader.read(checkpoint)
        loaded = loader.fill(read)
        assert (loaded.weights, loaded.commit) == (alone.weights, alone.commit)
        assert not loaded.model.training
        assert loaded.model.name_or_path == alone.model.name_or_path == checkpoint.location
        expected = alone.model.state_dict()
        assert loaded.model.state_dict().keys() == expected.keys()
        assert all(torch.equal(loaded.model.state_dict()[name], each) for name, each in expected.items())
        pairs = zip(losses(loaded.model), losses(alone.model), strict=True)
        assert all(np.array_equal(mine, theirs) for mine, theirs in pairs)
        models.append(loaded.model)
        assert list(loaded.seconds) == ["copy" if swapped and len(models) > 1 else "build"]
    assert len(models) > 2
    assert (len({id(model) for model in models}) == 1) == swapped


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_losses_are_those_of_models_built_anew(name: str, tmp_path: Path) -> None:
    for step in range(3):
        model_of(name, step).save_pretrained(tmp_path / f"step{step}")
    check_equal(tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "neox"])
def test_so_are_those_of_bin_files(name: str, tmp_path: Path) -> None:
    for step in range(3):
        folder = tmp_path / f"step{step}"
        model = model_of(name, step)
        model.save_pretrained(folder)
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")  # a tied head stands in it twice
    check_equal(tmp_path)


def test_so_are_those_of_shards(tmp_path: Path) -> None:
    for step in range(3):
        neox(step, layers=2).save_pretrained(tmp_path / f"step{step}", max_shard_size="5KB")
    assert len(list((tmp_path / "step0").glob("*.safetensors"))) > 2
    check_equal(tmp_path)


def test_half_precision_files_are_scored_in_float32_and_the_other_way_round(tmp_path: Path) -> None:
    for step in range(3):
        neox(step).to(torch.float16).save_pretrained(tmp_path / "half" / f"step{step}")
    check_equal(tmp_path / "half")
    check_equal(save_run(tmp_path / "whole", [0, 1, 2]), torch.bfloat16)


def test_buffers_that_older_versions_saved_are_passed_over(tmp_path: Path) -> None:
    for step in range(3):
        neox(step).save_pretrained(tmp_path / f"step{step}")
        file = tmp_path / f"step{step}" / "model.safetensors"
        old = {"gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9)}
        save_file(load_file(file) | old, file, metadata={"format": "pt"})
    check_equal(tmp_path)


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_versions_and_names_in_a_configuration_are_of_no_effect(tmp_path: Path) -> None:
    save_run(tmp_path, [0, 1, 2])
    change_config(tmp_path / "step1", transformers_version="4.0.0", _name_or_path="elsewhere")
    check_equal(tmp_path)


def test_a_first_head_of_zeros_keeps_no_later_ones_from_their_places(tmp_path: Path) -> None:
    """It has another name in the file, and might be any of the tensors that are zeros."""
    for step in range(4):
        model = neox(step)
        if step == 0:
            model.lm_head.weight.data.zero_()
        model.save_pretrained(tmp_path / f"step{step}")
    loader = Loader("cpu", torch.float32)
    filled = [loader.fill(loader.read(checkpoint)) for checkpoint in checkpoints_of(tmp_path)]
    assert [list(each.seconds) for each in filled] == [["build"], ["build"], ["copy"], ["copy"]]
    assert torch.equal(filled[-1].model.lm_head.weight, neox(3).lm_head.weight)


def test_a_model_of_other_tensors_than_its_files_is_built_each_time(tmp_path: Path) -> None:
    """As where transformers makes one tensor of several."""
    save_run(tmp_path, range(4))
    for file in tmp_path.glob("*/model.safetensors"):
        tensors = load_file(file)
        tensors["embed_out.weight"] = torch.zeros_like(tensors["embed_out.weight"])
        save_file(tensors, file, metadata={"format": "pt"})
    loader = Loader("cpu", torch.float32)
    reads = []
    for checkpoint in checkpoints_of(tmp_path):
        reads.append(loader.read(checkpoint))
        assert reads[-1].tensors is None or len(reads) <= 2
        assert list(loader.fill(reads[-1]).seconds) == ["build"]


# What differs is built anew


def test_a_checkpoint_of_another_configuration_is_built_anew(tmp_path: Path) -> None:
    save_run(tmp_path, [0, 1, 2])
    change_config(tmp_path / "step1", layer_norm_eps=0.1)
    loader = Loader("cpu", torch.float32)
    for number, checkpoint in enumerate(checkpoints_of(tmp_path)):
        model = fill(loader, checkpoint)
        expected = losses(load(checkpoint, "cpu", torch.float32).model)
        assert all(np.array_equal(*pair) for pair in zip(losses(model), expected, strict=True))
        assert model.config.layer_norm_eps == (0.1 if number == 1 else 1e-5)


def test_a_checkpoint_of_another_dtype_or_with_more_layers_is_built_anew(tmp_path: Path) -> None:
    neox(0).save_pretrained(tmp_path / "step0")
    neox(1).to(torch.bfloat16).save_pretrained(tmp_path / "step1")
    neox(2, layers=2).save_pretrained(tmp_path / "step2")
    check_equal(tmp_path, swapped=False)


def test_a_checkpoint_without_one_tensor_is_refused_by_name(tmp_path: Path) -> None:
    save_run(tmp_path, [0, 1, 2])
    file = tmp_path / "step1" / "model.safetensors"
    tensors = load_file(file)
    removed = next(name for name in tensors if "dense_h_to_4h.weight" in name)
    del tensors[removed]
    save_file(tensors, file, metadata={"format": "pt"})
    first, second, third = checkpoints_of(tmp_path)
    loader = Loader("cpu", torch.float32)
    fill(loader, first)
    with pytest.raises(CheckpointError, match=rf"step1 do not fit: .*needs are missing: {removed}"):
        fill(loader, second)
    assert torch.equal(fill(loader, third).lm_head.weight, neox(2).lm_head.weight)


@pytest.mark.parametrize("cut", [1, 500, 1 << 20])
def test_a_file_cut_off_is_refused(cut: int, tmp_path: Path) -> None:
    save_run(tmp_path, [0, 1])
    file = tmp_path / "step1" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-cut])
    first, second = checkpoints_of(tmp_path)
    loader = Loader("cpu", torch.float32)
    fill(loader, first)
    with pytest.raises(CheckpointError, match="cut off|cannot be read"):
        fill(loader, second)


def test_shards_that_their_index_does_not_name_are_left_to_transformers(tmp_path: Path) -> None:
    for step in range(2):
        neox(step, layers=2).save_pretrained(tmp_path / f"step{step}", max_shard_size="5KB")
    index = tmp_path / "step1" / "model.safetensors.index.json"
    index.write_text(index.read_text()[:-40])
    first, second = checkpoints_of(tmp_path)
    loader = Loader("cpu", torch.float32)
    fill(loader, first)
    with pytest.raises(CheckpointError):
        fill(loader, second)


def rescale(model: PreTrainedModel) -> None:
    """As RWKV divides its weights at its first pass, and notes so."""
    model.gpt_neox.layers[0].rescaled = True


def grow_table(model: PreTrainedModel) -> None:
    """As rotary tables do that grow with the longest context."""
    model.gpt_neox.rotary_emb.inv_freq.mul_(2)


def hook(model: PreTrainedModel) -> None:
    model.lm_head.register_forward_hook(lambda module, inputs, output: output * 2)


def widen(model: PreTrainedModel) -> None:
    model.double()


@pytest.mark.parametrize("change", [rescale, grow_table, hook, widen])
def test_a_model_that_was_changed_is_built_anew(
    change: Callable[[PreTrainedModel], None], tmp_path: Path
) -> None:
    first, second = checkpoints_of(save_run(tmp_path, [0, 1]))
    loader = Loader("cpu", torch.float32)
    model = fill(loader, first)
    change(model)
    other = fill(loader, second)
    assert other is not model
    expected = losses(load(second, "cpu", torch.float32).model)
    assert all(np.array_equal(*pair) for pair in zip(losses(other), expected, strict=True))


def test_changed_weights_are_gone_with_the_next_checkpoint(tmp_path: Path) -> None:
    first, second = checkpoints_of(save_run(tmp_path, [0, 1]))
    loader = Loader("cpu", torch.float32)
    model = fill(loader, first)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    model.train()
    assert fill(loader, second) is model
    assert not model.training
    expected = losses(load(second, "cpu", torch.float32).model)
    assert all(np.array_equal(*pair) for pair in zip(losses(model), expected, strict=True))


def test_tensors_that_are_one_in_the_model_and_two_in_the_file_are_built_anew(tmp_path: Path) -> None:
    for step in range(3):
        model = model_of("gpt2", step)
        model.save_pretrained(tmp_path / f"step{step}")
        (tmp_path / f"step{step}" / "model.safetensors").unlink()
        tensors = {name: each.clone() for name, each in model.state_dict().items()}
        if step == 1:
            tensors["lm_head.weight"] += 1
        torch.save(tensors, tmp_path / f"step{step}" / "pytorch_model.bin")
    loader = Loader("cpu", torch.float32)
    for checkpoint in checkpoints_of(tmp_path):
        model = fill(loader, checkpoint)
        expected = losses(load(checkpoint, "cpu", torch.float32).model)
        assert all(np.array_equal(*pair) for pair in zip(losses(model), expected, strict=True))


# Memory


@pytest.mark.parametrize(("dtype", "number"), [(torch.float32, 2), (torch.bfloat16, 1)])
def test_all_checkpoints_are_read_into_the_same_memory(
    dtype: torch.dtype, number: int, tmp_path: Path
) -> None:
    """Two blocks in turn where the model takes one as it is, else one."""
    loader, blocks = Loader("cpu", dtype), set()
    for checkpoint in checkpoints_of(save_run(tmp_path, range(6))):
        read = loader.read(checkpoint)
        assert read.tensors is not None
        assert read.tensors.block is not None
        blocks.add(read.tensors.block.data_ptr())
        model = loader.fill(read).model
        assert read.tensors is None
        assert torch.equal(model.lm_head.weight, neox(checkpoint.step).to(dtype).lm_head.weight)
    assert len(blocks) == number


def test_a_checkpoint_read_before_the_last_is_in_the_model_keeps_its_own_tensors(tmp_path: Path) -> None:
    first, second, third = checkpoints_of(save_run(tmp_path, [0, 1, 2]))
    loader = Loader("cpu", torch.float32)
    fill(loader, first)
    both = [loader.read(each) for each in (second, third)]
    for read, step in zip(both, (1, 2), strict=True):
        assert torch.equal(loader.fill(read).model.lm_head.weight, neox(step).lm_head.weight)


class Slow(io.FileIO):
    """A file of a system that gives fewer bytes at a time than it is asked for, as some on a network do."""

    def readinto(self, buffer: Any) -> int:
        return super().readinto(memoryview(buffer)[:999])


def test_a_file_that_comes_in_small_parts_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint,) = checkpoints_of(save_run(tmp_path, [1]))
    expected = Loader("cpu", torch.float32).read(checkpoint)

    real = pathlib.Path.open

    def opened(path: Path, mode: str = "r", buffering: int = -1, **how: Any) -> Any:
        if path.suffix != ".safetensors":
            return real(path, mode, buffering, **how)
        return Slow(path, mode) if buffering == 0 else io.BufferedReader(Slow(path, mode))

    monkeypatch.setattr(pathlib.Path, "open", opened)
    read = Loader("cpu", torch.float32).read(checkpoint)
    assert read.weights == expected.weights
    assert read.tensors is not None
    assert expected.tensors is not None
    for name, tensor in read.tensors.by_name.items():
        assert torch.equal(tensor, expected.tensors.by_name[name])


class Copied:
    """As an event of CUDA's, which is over once it was waited for."""

    over = False

    def synchronize(self) -> None:
        self.over = True


def test_memory_that_a_gpu_still_reads_is_waited_for() -> None:
    idle, copied = staging.Staging(torch.device("cpu")), Copied()
    block = idle.take(100)
    assert block is not None
    idle.give_back(block, copied)  # type: ignore[arg-type]
    other = idle.take(1000)  # which is too long for it
    assert other is not None
    assert not copied.over
    idle.give_back(other, copied)  # type: ignore[arg-type]
    assert idle.take(500) is other
    assert copied.over
    assert idle.take(500) is not other


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["neox", "tied llama", "gemma2"])
def test_losses_on_a_gpu_are_those_of_models_built_anew(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    for step in range(4):
        model_of(name, step).to(torch.float16).save_pretrained(tmp_path / f"step{step}")
    loader = Loader("cuda", dtype)
    for number, checkpoint in enumerate(checkpoints_of(tmp_path)):
        read = loader.read(checkpoint)
        assert read.tensors is not None
        assert read.tensors.block is not None
        assert read.tensors.block.is_pinned()
        loaded = loader.fill(read)
        assert list(loaded.seconds) == ["copy" if number else "build"]
        expected = losses(load(checkpoint, "cuda", dtype).model)
        assert all(np.array_equal(*pair) for pair in zip(losses(loaded.model), expected, strict=True))


def test_where_memory_is_short_each_checkpoint_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "available_memory", lambda: 1000)
    check_equal(save_run(tmp_path, [0, 1, 2]), swapped=False)


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_CGROUP", tmp_path)
    without = staging.available_memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert without is None or abs(staging.available_memory() - without) < without / 2
    (tmp_path / "memory.max").write_text("10000\n")
    (tmp_path / "memory.current").write_text("8000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 1000\nactive_file 500\n")
    assert staging.available_memory() == 3500
