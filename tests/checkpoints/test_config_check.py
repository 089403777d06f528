"""Checkpoints over which a sweep would hang: no plain files, sizes that files do not hold, values of other types."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import torch
from typer.testing import CliRunner

from tests.helpers.tiny_models import neox, random_dataset, save_run, save_tokenizer
from trajstore.checkpoints import config_check
from trajstore.checkpoints.completeness import why_incomplete
from trajstore.checkpoints.config_check import check_config, check_parameters
from trajstore.checkpoints.loading import load
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.checkpoints.weight_files import weight_files
from trajstore.cli import app
from trajstore.datasets.tokenizers import load_tokenizer
from trajstore.errors import CheckpointError, TrajstoreError
from trajstore.scoring import score

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trajstore.store.store import Store

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(60)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_run(tmp_path / "run", [0, 1, 2])


def read(run: Path) -> Any:
    return load(find_checkpoints(str(run)).checkpoints[1], "cpu", torch.float32)


def configure(run: Path, **changes: Any) -> None:
    file = run / "step1" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# Files


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def system_file(path: Path) -> None:
    path.symlink_to("/proc/kmsg")  # a plain file to look at, which waits for news of the kernel


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def socket_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


@pytest.mark.parametrize("make", [pipe, device, system_file, link_to_pipe, socket_file])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "generation_config.json", "tokenizer.json"]
)
def test_what_is_no_plain_file_is_refused_and_the_sweep_goes_on(
    store: Store, run: Path, name: str, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    store.add_dataset("d", random_dataset())
    (run / "step1" / name).unlink(missing_ok=True)
    make(run / "step1" / name)
    report = score(store, str(run), ["d"])
    assert store.steps("run", "d") == [0, 2]
    assert [step for step, _ in report.failures] == [1]
    assert "is a pipe, socket or device and no file" in report.failures[0][1]
    assert "is a pipe, socket or device" in (why_incomplete(run / "step1") or "")
    said = CliRunner().invoke(app, ["score", str(run), "-d", "d", "-s", str(store.path), "--dry-run"])
    assert said.exit_code == 1
    assert "step 1 would not be scored" in said.stderr


def test_links_to_plain_files_are_as_good_as_files(store: Store, run: Path) -> None:
    store.add_dataset("d", random_dataset())
    blobs = run.parent / "blobs"
    blobs.mkdir()
    for file in (run / "step1").iterdir():
        file.rename(blobs / file.name)
        file.symlink_to(os.path.relpath(blobs / file.name, file.parent))
    assert score(store, str(run), ["d"]).failures == []


def test_a_tokenizers_folder_is_looked_through_first(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, ["a", "b"])
    (tmp_path / "tokenizer_config.json").unlink()
    os.mkfifo(tmp_path / "tokenizer_config.json")
    with pytest.raises(TrajstoreError, match="is a pipe, socket or device"):
        load_tokenizer(str(tmp_path))


# Sizes


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 10_000},
        {"hidden_size": 2 * 10**9},
        {"vocab_size": 10**12},
        {"intermediate_size": 10**9},
        {"num_attention_heads": 10**9},
        {"num_labels": 10**9},
        {"model_type": "qwen2", "num_hidden_layers": 10**9},
        {"model_type": "gpt_neo", "attention_types": [[["global", "local"], 10**9]]},
        {"text_config": {"num_hidden_layers": 10**9}},
    ],
)
def test_sizes_that_the_files_do_not_hold_are_refused_before_anything_is_built(
    run: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_check, "_parameters", None)  # is not come to
    configure(run, **changes)
    with pytest.raises(
        CheckpointError, match=r"config\.json says \w+ = [0-9,]+, but the files beside it hold"
    ):
        read(run)


def test_a_tokenizer_beside_it_does_not_hang_either(store: Store, run: Path) -> None:
    store.add_dataset("d", random_dataset())
    for step in (0, 1, 2):
        save_tokenizer(run / f"step{step}", ["a", "b"])
    configure(run, model_type="qwen2", num_hidden_layers=10**9)
    (run / "step1" / "tokenizer_config.json").unlink()
    failures = dict(score(store, str(run), ["d"]).failures)
    assert "says num_hidden_layers = 1,000,000,000" in failures[1]
    assert all("The dataset d was made with the tokenizer tests" in failures[step] for step in (0, 2))


def test_more_parameters_than_the_files_hold_are_counted_without_memory(run: Path) -> None:
    configure(run, num_hidden_layers=90, intermediate_size=90_000)
    with pytest.raises(
        CheckpointError, match=r"describes has 2[0-9]{2},[0-9]{3},[0-9]{3} parameters, but the files"
    ):
        read(run)


def test_parameters_are_counted_once_for_a_sweep(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_check._parameters.cache_clear()
    for step in (0, 1, 2):
        folder = run / f"step{step}"
        check_parameters(folder, weight_files(folder), trust_remote_code=False)
    assert config_check._parameters.cache_info().misses == 1


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_models_that_are_what_they_say_pass(tmp_path: Path, suffix: str) -> None:
    """Positions, times and ids of tokens may be as large as they like; tied weights are there once."""
    for number, settings in enumerate(
        [
            {},
            {"tie_word_embeddings": True},
            {"rope_parameters": {"rope_type": "default", "rope_theta": 10**9}},
            {"layers": 5, "vocabulary": 1000},
        ]
    ):
        folder = tmp_path / f"{number}" / "step1"
        model = neox(**settings)  # type: ignore[arg-type]
        model.config.max_position_embeddings, model.config.eos_token_id = 10**8, 10**7
        model.save_pretrained(folder)
        if suffix == "bin":
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
            (folder / "model.safetensors").unlink()
        files = weight_files(folder)
        check_config(folder, files)
        check_parameters(folder, files, trust_remote_code=False)


def test_a_header_that_claims_much_counts_no_more_than_its_bytes(run: Path) -> None:
    file = run / "step1" / "model.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 64)
    configure(run, hidden_size=10**9)
    with pytest.raises(CheckpointError, match="but the files beside it hold 157 numbers"):
        config_check.check_config(run / "step1", [file])
    with pytest.raises(
        CheckpointError, match=r"it is cut off, with 157 bytes of at least 4,000,000,000,093\."
    ):
        read(run)


# Types


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": "two"},
        {"num_hidden_layers": [2]},
        {"num_hidden_layers": None},
        {"hidden_size": 16.5},
        {"model_type": ["x"]},
        {"model_type": None},
        {"hidden_act": "nope"},
        {"hidden_act": 3},
        {"text_config": "x"},
        {"rope_parameters": "yes"},
        {"quantization_config": 3},
        {"layer_types": ["x"] * 3},
    ],
)
def test_values_of_other_types_are_told_in_a_sentence(
    store: Store, run: Path, changes: dict[str, Any]
) -> None:
    store.add_dataset("d", random_dataset())
    configure(run, **changes)
    report = score(store, str(run), ["d"])
    assert store.steps("run", "d") == [0, 2]
    ((step, reason),) = report.failures
    assert step == 1
    assert reason.startswith(f"transformers cannot make the model in {run}/step1 of its config.json (")
    assert len(reason) < 500
    assert "\n" not in reason


@pytest.mark.parametrize("dtype", ["float32", "auto"])
@pytest.mark.parametrize("text", ["[1]", "[" * 100_000, "NaN", '"x"', "", "{", b"\xff\xfe", '{"a":' * 2000])
def test_what_is_no_configuration_is_told_in_a_sentence(
    store: Store, run: Path, text: str | bytes, dtype: str
) -> None:
    store.add_dataset("d", random_dataset())
    (run / "step1" / "config.json").write_bytes(text.encode() if isinstance(text, str) else text)
    ((step, reason),) = score(store, str(run), ["d"], dtype=dtype).failures
    assert step == 1
    assert f"{run}/step1/config.json " in reason
    assert "Traceback" not in reason
    assert len(reason) < 500


@pytest.mark.parametrize("text_config", ["x", 3, ["y"], None])
def test_the_own_dtype_is_read_whatever_stands_beside_it(run: Path, text_config: Any) -> None:
    from trajstore.forward.device import own_dtype

    configure(run, text_config=text_config, dtype="bfloat16")
    assert own_dtype(run / "step1") == "bfloat16"
