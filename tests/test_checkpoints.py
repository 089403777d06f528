"""Checkpoints are found, loaded whole with their own weights, and told apart by them."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, cache_run, neox, save_run
from transformers import GPT2Config, GPT2LMHeadModel

from trajstore.errors import CheckpointError, TokenizerNotFound
from trajstore.scoring import hub
from trajstore.scoring.checkpoints import Checkpoint, find_checkpoints, load, weights_fingerprint
from trajstore.scoring.vocabulary import load_tokenizer
from trajstore.scoring.weightfiles import fingerprint, weight_files, weight_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache, and no Hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def load_cpu(checkpoint: Checkpoint) -> torch.nn.Module:
    return load(checkpoint, "cpu", torch.float32).model


# Finding


@pytest.mark.parametrize("name", ["step{}", "step_{}", "step-{}", "checkpoint-{}"])
def test_subfolders_are_steps_in_numeric_order(tmp_path: Path, name: str) -> None:
    for step in (1000, 0, 8, 64):
        (tmp_path / "my-run" / name.format(step)).mkdir(parents=True)
    (tmp_path / "my-run" / "logs").mkdir()
    (tmp_path / "my-run" / "step12").write_text("a file, not a checkpoint")
    source = find_checkpoints(f"{tmp_path}/my-run/")
    assert (source.name, source.repo, source.local) == ("my-run", str(tmp_path / "my-run"), True)
    assert source.steps == [0, 8, 64, 1000]
    assert [c.revision for c in source.checkpoints] == [name.format(n) for n in source.steps]
    assert source.checkpoints[1].location == str(tmp_path / "my-run" / name.format(8))


def test_a_relative_path_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run" / "step1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run")
    assert find_checkpoints(".").name == "run"
    assert find_checkpoints(".").repo == str(tmp_path / "run")


def test_two_folders_of_one_step_are_refused(tmp_path: Path) -> None:
    for name in ("step10", "checkpoint-10", "step20"):
        (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=r"checkpoint-10 and step10 of .* both name step 10"):
        find_checkpoints(str(tmp_path))


def test_a_folder_without_steps_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    with pytest.raises(CheckpointError, match="stepN, step_N, step-N or checkpoint-N") as caught:
        find_checkpoints(str(tmp_path))
    assert "single checkpoint" not in str(caught.value)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        CheckpointError, match="single checkpoint: move it into a folder named after its step"
    ):
        find_checkpoints(str(tmp_path))
    (tmp_path / "step7").mkdir()
    (tmp_path / "step7" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"score the folder around it with: {tmp_path} --steps 7"):
        find_checkpoints(str(tmp_path / "step7"))
    with pytest.raises(CheckpointError, match="is a file"):
        find_checkpoints(str(tmp_path / "config.json"))


def test_a_name_that_is_neither_folder_nor_repository(offline: Path) -> None:
    for name in ("no/such", "nothing"):
        with pytest.raises(CheckpointError, match="is no folder here, and the Hugging Face Hub has no such"):
            find_checkpoints(name)


def test_what_can_only_be_a_path_is_not_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "list_refs", None)
    for name in (
        "/no/such",
        "./nothing",
        "../nothing",
        "~/nothing",
        "a/b/c",
        "nothing/",
        "model.safetensors",
    ):
        with pytest.raises(CheckpointError, match=r"There is no folder .*stepN"):
            find_checkpoints(name)


def test_a_hub_that_does_not_answer_is_given_up_quickly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never says anything
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "QUICK_SECONDS", 0.3)
    started = time.monotonic()
    with silent:
        with pytest.raises(
            CheckpointError, match=r"no answer within 0.3 s.*Check the name and the network, or give a folder"
        ):
            find_checkpoints("org/run")
        with pytest.raises(TokenizerNotFound, match="Check the name and the network, or give a folder"):
            load_tokenizer("org/run")
        with pytest.raises(CheckpointError, match="cannot be downloaded"):
            hub.fetch("org/run", "step1")
    assert time.monotonic() - started < 4
    assert capfd.readouterr() == ("", "")


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


def test_a_repository_without_steps_lists_its_revisions(offline: Path) -> None:
    cache_run(offline, "org/run", {"main": neox(1)})
    with pytest.raises(
        CheckpointError, match=r"No revision of org/run is named after a step .* there are: main"
    ):
        find_checkpoints("org/run")


def test_settings_that_a_suite_needs_are_checked(offline: Path) -> None:
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=VOCABULARY, n_positions=32)
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


# A Hub on this machine


class FakeHub(ThreadingHTTPServer):
    """As much of the Hub's interface as its client asks for, over files in memory: commit → name → bytes."""

    def __init__(
        self, branches: dict[str, str], tags: dict[str, str], commits: dict[str, dict[str, bytes]]
    ) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.branches, self.tags, self.commits = branches, tags, commits
        self.downloads: list[str] = []


class FakeHubHandler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        api, file = path.removeprefix("/api/models/org/run/"), path.removeprefix("/org/run/resolve/")
        hub = self.server
        if api == "refs":
            refs = {
                key: [{"name": n, "ref": f"refs/{key}/{n}", "targetCommit": c} for n, c in found.items()]
                for key, found in (("branches", hub.branches), ("tags", hub.tags))
            }
            self.send(json.dumps(refs | {"converts": []}).encode(), body)
        elif api.startswith("revision/"):
            self.send(
                json.dumps({"id": "org/run", "sha": self.commit(api.removeprefix("revision/"))}).encode(),
                body,
            )
        elif api.startswith("tree/"):
            files = hub.commits[self.commit(api.removeprefix("tree/"))]
            tree = [
                {"type": "file", "path": n, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                for n, d in files.items()
            ]
            self.send(json.dumps(tree).encode(), body)
        elif file != path:
            commit, _, name = file.partition("/")
            data = hub.commits[commit].get(name)
            if data is None:
                self.send(b"", body, status=404)
            else:
                hub.downloads += [name] if body else []
                self.send(
                    data, body, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit}
                )
        else:
            self.send(b"", body, {"X-Error-Code": "RepoNotFound"}, status=404)

    def commit(self, revision: str) -> str:
        return {**self.server.tags, **self.server.branches}.get(revision, revision)

    def send(self, data: bytes, body: bool, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    commits = {}
    for step in (0, 8):
        neox(step).save_pretrained(tmp_path / "made")
        files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
        files |= {
            "pytorch_model.bin": b"not wanted",
            "flax_model.msgpack": b"not wanted",
            "README.md": b"not wanted",
        }
        commits[str(step) * 40] = files
    server = FakeHub(
        {"main": "8" * 40, "step0": "0" * 40},
        {"step8": "8" * 40, "step_8": "8" * 40, "v1": "0" * 40},
        commits,
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    template = endpoint + constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_branches_and_tags_of_the_hub_are_steps(fake_hub: FakeHub) -> None:
    source = find_checkpoints("org/run")
    assert [(c.step, c.commit) for c in source.checkpoints] == [(0, "0" * 40), (8, "8" * 40)]
    assert source.unreachable is None
    fake_hub.tags["step_8"] = "0" * 40
    with pytest.raises(CheckpointError, match="both name step 8"):
        find_checkpoints("org/run")
    with pytest.raises(CheckpointError, match="has no such repository"):
        find_checkpoints("org/other")


def test_a_revision_is_downloaded_once_and_only_what_scoring_needs(
    fake_hub: FakeHub, capfd: pytest.CaptureFixture[str]
) -> None:
    source = find_checkpoints("org/run")
    last = source.checkpoints[-1]
    assert last.present() is None
    size = hub.download_bytes("org/run", last.revision)
    wanted = ["config.json", "model.safetensors"]
    assert size == sum(len(fake_hub.commits["8" * 40][name]) for name in wanted)
    assert fake_hub.downloads == []
    capfd.readouterr()
    loaded = load(last, "cpu", torch.float32)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(loaded.model.lm_head.weight, neox(8).lm_head.weight)
    assert loaded.commit == "8" * 40
    assert sorted(fake_hub.downloads) == wanted
    assert last.present() is not None
    assert load(last, "cpu", torch.float32).weights == loaded.weights
    assert len(fake_hub.downloads) == 2


def test_what_was_downloaded_is_found_again_offline(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    load_cpu(find_checkpoints("org/run").checkpoints[0])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = find_checkpoints("org/run")
    assert source.steps == [0]
    assert torch.equal(load_cpu(source.checkpoints[0]).lm_head.weight, neox(0).lm_head.weight)
