"""The Hub's own client against a Hub on this machine: revisions listed, files fetched, faults outlived or told."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.loopback_hub import git_hash
from tests.helpers.tiny_models import cache_run, neox, save_tokenizer
from trajstore.checkpoints import hub
from trajstore.checkpoints.loading import load, weights_fingerprint
from trajstore.checkpoints.retry import WAITS
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.datasets.tokenizers import load_tokenizer
from trajstore.errors import CheckpointError, TokenizerNotFound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.loopback_hub import LoopbackHub

WEIGHTS = "model.safetensors"


@pytest.fixture
def org_run(loopback: LoopbackHub, tmp_path: Path) -> LoopbackHub:
    """org/run with the steps 0 and 8 and files that scoring has no use for."""
    unwanted = ("pytorch_model.bin", "flax_model.msgpack", "README.md")
    for step in (0, 8):
        neox(step).save_pretrained(tmp_path / "made")
        files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
        files |= dict.fromkeys(unwanted, b"not wanted")
        loopback.add("org/run", f"step{step}", files, commit=str(step) * 40)
    return loopback


def fetched(loopback: LoopbackHub, step: int = 8) -> Path:
    """The snapshot of a step, checked to be what the Hub holds."""
    (checkpoint,) = [each for each in find_checkpoints("org/run").checkpoints if each.step == step]
    folder = checkpoint.folder()
    files = loopback.repos["org/run"].commits[str(step) * 40]
    for name in ("config.json", WEIGHTS):
        assert (folder / name).read_bytes() == files[name]
    return folder


def test_a_revision_is_downloaded_once_and_only_what_scoring_needs(
    org_run: LoopbackHub, capfd: pytest.CaptureFixture[str]
) -> None:
    source = find_checkpoints("org/run")
    last = source.checkpoints[-1]
    assert last.present() is None
    size = hub.download_bytes("org/run", last.revision)
    wanted = ["config.json", "model.safetensors"]
    assert size == sum(len(org_run.repos["org/run"].commits["8" * 40][name]) for name in wanted)
    assert org_run.downloads == []
    capfd.readouterr()
    loaded = load(last, "cpu", torch.float32)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(loaded.model.lm_head.weight, neox(8).lm_head.weight)
    assert loaded.commit == "8" * 40
    assert sorted(each.name for each in org_run.downloads) == wanted
    assert last.present() is not None
    assert load(last, "cpu", torch.float32).weights == loaded.weights
    assert len(org_run.downloads) == 2


def test_what_was_downloaded_is_found_again_offline(
    org_run: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    find_checkpoints("org/run").checkpoints[0].folder()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = find_checkpoints("org/run")
    assert source.steps == [0]
    loaded = load(source.checkpoints[0], "cpu", torch.float32)
    assert torch.equal(loaded.model.lm_head.weight, neox(0).lm_head.weight)


def test_the_cache_is_laid_out_as_the_clients(org_run: LoopbackHub, tmp_path: Path) -> None:
    fetched(org_run)
    ours, theirs = tmp_path / "ours", tmp_path / "cache"
    cache_run(ours, "org/run", {"step8": neox(8)})
    weights = org_run.repos["org/run"].commits["8" * 40][WEIGHTS]
    for cache, commit in ((ours, hashlib.sha1(b"step8").hexdigest()), (theirs, "8" * 40)):
        root = cache / "models--org--run"
        assert (root / "refs" / "step8").read_text() == commit
        blob = (root / "snapshots" / commit / WEIGHTS).resolve()
        assert blob == root.resolve() / "blobs" / hashlib.sha256(weights).hexdigest()
        assert blob.read_bytes() == weights
    config = (theirs / "models--org--run" / "snapshots" / ("8" * 40) / "config.json").resolve()
    assert config.name == git_hash(config.read_bytes())


def test_a_weights_file_is_taken_at_the_name_that_the_hub_gives_it(org_run: LoopbackHub) -> None:
    weights = org_run.repos["org/run"].commits["0" * 40][WEIGHTS]
    line = f"{hashlib.sha256(weights).hexdigest()}  {WEIGHTS}\n"
    first = find_checkpoints("org/run").checkpoints[0]
    assert weights_fingerprint(first) == f"sha256:{hashlib.sha256(line.encode()).hexdigest()}"


def test_a_tokenizer_goes_by_a_published_models_short_name(loopback: LoopbackHub, tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "made", ["a", "b", "c"])
    files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    loopback.add("EleutherAI/pythia-70m", "main", files)
    for name in ("pythia-70m", "EleutherAI/pythia-70m"):
        assert load_tokenizer(name).get_vocab() == {"a": 0, "b": 1, "c": 2}


# Faults that pass


def test_a_connection_cut_within_a_file_goes_on_from_there(
    org_run: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what the client writes at a time
    size = len(org_run.repos["org/run"].commits["8" * 40][WEIGHTS])
    org_run.fail(f"stored/.*{WEIGHTS}", keep=0.5, times=2)
    fetched(org_run)
    starts = [each.start for each in org_run.downloads if each.name == WEIGHTS]
    first = size // 2 // 1000 * 1000
    assert starts == [0, first, first + (size - first) // 2 // 1000 * 1000]


def test_a_file_cut_again_and_again_is_asked_for_anew_and_then_told(
    org_run: LoopbackHub, tmp_path: Path
) -> None:
    org_run.fail(f"stored/.*{WEIGHTS}", keep=0.0, times=10**6)
    with pytest.raises(
        CheckpointError, match=r"step8 of org/run is not in the cache and cannot be downloaded"
    ):
        fetched(org_run)
    assert [wait for wait in org_run.waits if wait in WAITS and wait > 1] == list(WAITS[1:])
    assert not [blob for blob in tmp_path.glob("cache/*/blobs/*") if len(blob.name) == 64]
    org_run.faults.clear()
    fetched(org_run)


@pytest.mark.parametrize("path", ["/refs", "/revision/", "/tree/", "/resolve/", "/stored/"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(org_run: LoopbackHub, path: str, status: int) -> None:
    org_run.fail(path, status=status, times=3)
    fetched(org_run)
    assert org_run.waits
    assert not [fault for fault in org_run.faults if fault.times]


def test_a_hub_that_asks_to_wait_is_left_alone_that_long(org_run: LoopbackHub) -> None:
    org_run.fail("/revision/", status=429, headers={"RateLimit": '"api";r=0;t=40'})
    org_run.fail("/revision/", status=429, headers={"Retry-After": "20"})
    org_run.fail("/revision/", status=429, headers={"Retry-After": "86400"})
    fetched(org_run)
    assert [wait for wait in org_run.waits if wait > 15] == [41, 21, 330]


def test_a_hub_that_goes_away_for_a_while_is_waited_for(
    org_run: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUICK_SECONDS", 0.2)
    checkpoint = find_checkpoints("org/run").checkpoints[0]
    org_run.fail("/revision/", delay=0.5, times=2)
    checkpoint.folder()
    assert org_run.waits == list(WAITS[:2])


# Faults that stay


def test_a_hub_that_stays_broken_is_given_up(org_run: LoopbackHub) -> None:
    checkpoint = find_checkpoints("org/run").checkpoints[0]
    org_run.fail("/revision/", status=500, times=10**6)
    asked = len(org_run.requests)
    with pytest.raises(CheckpointError, match=r"step0 of org/run is not in the cache .*500"):
        checkpoint.folder()
    assert org_run.waits == list(WAITS)
    assert len(org_run.requests) - asked == len(WAITS) + 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "RevisionNotFound"), (404, "RepoNotFound"), (403, "GatedRepo"), (401, "GatedRepo")],
)
def test_what_will_not_pass_is_not_waited_for(org_run: LoopbackHub, status: int, code: str) -> None:
    checkpoint = find_checkpoints("org/run").checkpoints[0]
    org_run.fail("/revision/", status=status, code=code, times=10**6)
    with pytest.raises(
        CheckpointError, match="step0 of org/run is not in the cache and cannot be downloaded"
    ):
        checkpoint.folder()
    assert org_run.waits == []


def test_a_revision_without_weights_says_what_it_holds(loopback: LoopbackHub) -> None:
    loopback.add("org/run", "step1", {"config.json": b"{}", "optimizer.bin": b""})
    with pytest.raises(
        CheckpointError, match=r"step1 of org/run holds no weights; it holds: config.json, opt"
    ):
        find_checkpoints("org/run").checkpoints[0].folder()
    assert loopback.waits == []


def test_a_revision_that_is_gone_does_not_keep_the_others(org_run: LoopbackHub) -> None:
    gone, there = find_checkpoints("org/run").checkpoints
    del org_run.repos["org/run"].branches["step0"]
    del org_run.repos["org/run"].commits["0" * 40]
    with pytest.raises(CheckpointError, match="step0 of org/run"):
        gone.folder()
    assert there.folder().name == "8" * 40


def test_a_revision_that_moves_meanwhile_is_known_by_what_was_loaded(org_run: LoopbackHub) -> None:
    checkpoint = find_checkpoints("org/run").checkpoints[1]
    org_run.repos["org/run"].branches["step8"] = "0" * 40
    loaded = load(checkpoint, "cpu", torch.float32)
    assert loaded.commit == "0" * 40
    assert torch.equal(loaded.model.lm_head.weight, neox(0).lm_head.weight)


def test_a_download_that_is_given_up_ends_soon(org_run: LoopbackHub) -> None:
    org_run.fail("/revision/", status=500, times=10**6)
    with pytest.raises(CheckpointError):
        hub.fetch("org/run", "step8", stopped=lambda: True)
    assert org_run.waits == []
    with pytest.raises(CheckpointError):
        hub.fetch("org/run", "step8", stopped=lambda: len(org_run.waits) > 1)
    assert len(org_run.waits) == 2


def test_a_process_killed_within_a_download_leaves_no_checkpoint(
    org_run: LoopbackHub, tmp_path: Path
) -> None:
    org_run.fail(f"stored/.*{WEIGHTS}", delay=60)
    ask = "from trajstore.checkpoints.runs import find_checkpoints as f; f('org/run').checkpoints[1].folder()"
    environment = {"HF_ENDPOINT": org_run.endpoint, "HF_HUB_CACHE": str(tmp_path / "cache"), "PATH": ""}
    process = subprocess.Popen([sys.executable, "-c", ask], env=environment)
    while not any(f"stored/org/run/{'8' * 40}/{WEIGHTS}" in each for each in list(org_run.requests)):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    checkpoint = find_checkpoints("org/run").checkpoints[1]
    assert checkpoint.present() is None
    fetched(org_run)


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
