"""A limit on the Hub's cache: what may be removed from it, by whom and when."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.tiny_models import cache_run, neox
from trajstore.checkpoints import hub
from trajstore.checkpoints.cache_limit import CacheLimit, hold, parse_size, used_bytes
from trajstore.checkpoints.loading import Checkpoint, load
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.checkpoints.weights.fingerprints import fingerprint
from trajstore.errors import BadOption

if TYPE_CHECKING:
    from tests.helpers.loopback_hub import LoopbackHub

STEPS = (0, 1, 2, 3)


def test_sizes() -> None:
    asked = {
        "50GB": 50 * 10**9,
        "500 MB": 5 * 10**8,
        "1.5TB": 15 * 10**11,
        "2GiB": 2**31,
        "7k": 7000,
    }
    assert {text: parse_size(text) for text in asked} == asked
    for wrong in ("", "GB", "50 apples", "-1GB", "1e9", "50", "50B"):
        with pytest.raises(BadOption, match="cache_limit=.* as in 50GB"):
            parse_size(wrong)


@pytest.fixture
def checkpoints(loopback: LoopbackHub, tmp_path: Path) -> list[Checkpoint]:
    """A run on the Hub, nothing of it in the cache."""
    for step in STEPS:
        loopback.add_model("org/run", f"step{step}", neox(step), tmp_path / "made")
    return list(find_checkpoints("org/run").checkpoints)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def download(limit: CacheLimit, checkpoint: Checkpoint) -> None:
    """As a job under the limit does, which is done with it at once."""
    held = hold(checkpoint)
    assert held is not None
    limit.claim(held)
    hub.fetch(checkpoint.location, checkpoint.revision)
    held.close()


def there(checkpoints: list[Checkpoint]) -> list[int]:
    return [checkpoint.step for checkpoint in checkpoints if checkpoint.present() is not None]


def size_of(checkpoint: Checkpoint) -> int:
    folder = checkpoint.present()
    assert folder is not None
    return sum(path.stat().st_size for path in folder.iterdir())


def test_room_is_made_by_removing_what_came_first_and_no_more(
    checkpoints: list[Checkpoint], cache: Path
) -> None:
    limit = CacheLimit(0, [])
    for checkpoint in checkpoints:
        download(limit, checkpoint)
    assert there(checkpoints) == [0, 1, 2, 3]
    before = used_bytes()
    weights = (checkpoints[0].present() or Path()).joinpath("model.safetensors").stat().st_size
    assert CacheLimit(before, []).make_room(0)
    assert there(checkpoints) == [0, 1, 2, 3]
    assert CacheLimit(before, []).make_room(2 * weights)
    assert there(checkpoints) == [2, 3]
    assert used_bytes() == before - 2 * weights
    assert not CacheLimit(before, []).make_room(before)  # configurations stay
    assert there(checkpoints) == []


def test_used_bytes_are_those_on_the_disk(checkpoints: list[Checkpoint], cache: Path) -> None:
    assert used_bytes() == 0
    for checkpoint in checkpoints[:2]:
        hub.fetch(checkpoint.location, checkpoint.revision)
    names = {(path.name, path.stat().st_size) for path in (cache / "models--org--run" / "blobs").iterdir()}
    assert used_bytes() == sum(size for _, size in names) < size_of(checkpoints[0]) + size_of(checkpoints[1])


def test_what_others_put_there_stays(checkpoints: list[Checkpoint], cache: Path) -> None:
    cache_run(cache, "org/other", {"step1": neox(1)})
    hub.fetch("org/run", "step0")  # without a limit
    download(CacheLimit(0, []), checkpoints[1])
    assert not CacheLimit(0, []).make_room(1)
    assert there(checkpoints) == [0]
    assert find_checkpoints("org/run").steps == [0, 1, 2, 3]
    assert hub.cached_snapshot("org/other", next((cache / "models--org--other/snapshots").iterdir()).name)


def test_what_is_still_to_be_scored_stays(checkpoints: list[Checkpoint]) -> None:
    limit = CacheLimit(0, checkpoints)
    download(limit, checkpoints[0])
    download(limit, checkpoints[1])
    assert not limit.make_room(1)
    assert there(checkpoints) == [0, 1]
    limit.done_with(checkpoints[0])
    assert not limit.make_room(1)
    assert there(checkpoints) == [1]


def test_what_a_job_is_using_stays_until_it_is_released(checkpoints: list[Checkpoint]) -> None:
    download(CacheLimit(0, []), checkpoints[0])
    held = hold(checkpoints[0])
    again = hold(checkpoints[0])
    assert held is not None
    assert again is not None
    held.close()
    CacheLimit(0, []).make_room(1)
    assert there(checkpoints) == [0]
    again.close()
    CacheLimit(0, []).make_room(1)
    assert there(checkpoints) == []


def test_what_is_removed_can_be_had_again_and_removed_again(checkpoints: list[Checkpoint]) -> None:
    for _ in range(2):
        download(CacheLimit(0, []), checkpoints[2])
        loaded = load(checkpoints[2], "cpu", torch.float32)
        CacheLimit(0, []).make_room(1)
        assert there(checkpoints) == []
        assert torch.equal(loaded.model.lm_head.weight, neox(2).lm_head.weight)


def test_a_file_that_another_revision_shares_stays(
    loopback: LoopbackHub, tmp_path: Path, cache: Path
) -> None:
    """As where main is the last step."""
    for revision in ("main", "step5"):
        loopback.add_model("org/run", revision, neox(5), tmp_path / "made")
    (checkpoint,) = find_checkpoints("org/run").checkpoints
    main = hub.fetch("org/run", "main")
    download(CacheLimit(0, []), checkpoint)
    CacheLimit(0, []).make_room(1)
    assert there([checkpoint]) == []
    assert (main / "model.safetensors").read_bytes()


def test_a_file_kept_where_repositories_share_it_is_named_and_removed_too(
    checkpoints: list[Checkpoint], cache: Path
) -> None:
    """As the Hub's client keeps large files from its chunked store: the blob is itself a link."""
    from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store

    download(CacheLimit(0, []), checkpoints[0])
    folder = checkpoints[0].present()
    assert folder is not None
    before, weights = used_bytes(), folder / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    blob = cache / "models--org--run" / "blobs" / digest
    publish_blob_to_shared_store(
        blob_path=str(blob), xet_hash="f" * 64, cache_dir=cache, expected_size=blob.stat().st_size
    )
    assert blob.is_symlink()
    shared = blob.resolve()
    listed = f"{digest}  model.safetensors\n".encode()
    assert fingerprint([weights]) == f"sha256:{hashlib.sha256(listed).hexdigest()}"
    shared.rename(shared.with_name("aside"))
    assert fingerprint([weights]) == f"sha256:{hashlib.sha256(listed).hexdigest()}", "taken at its name"
    shared.with_name("aside").rename(shared)
    assert before <= used_bytes() < before + 1000
    CacheLimit(0, []).make_room(1)
    assert not shared.exists()
    assert there(checkpoints) == []


def test_half_a_download_is_removed(loopback: LoopbackHub, tmp_path: Path, cache: Path) -> None:
    """Shards that a killed job left."""
    neox().save_pretrained(tmp_path / "made", max_shard_size="5KB")
    files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    loopback.add("org/run", "step0", files)
    (checkpoint,) = find_checkpoints("org/run").checkpoints
    download(CacheLimit(0, []), checkpoint)
    folder = checkpoint.present()
    assert folder is not None
    gone = next(folder.glob("*.safetensors"))
    blob = gone.resolve()
    gone.unlink()
    blob.unlink()
    assert there([checkpoint]) == []
    CacheLimit(0, []).make_room(1)
    assert not list(folder.glob("*.safetensors"))
    assert (folder / "config.json").exists()
    assert not [path for path in (cache / "models--org--run/blobs").iterdir() if len(path.name) == 64]


def test_what_a_dead_download_left_is_removed_with_the_revision(
    checkpoints: list[Checkpoint], cache: Path
) -> None:
    download(CacheLimit(0, []), checkpoints[0])
    blobs = cache / "models--org--run" / "blobs"
    dead, alive = blobs / "a.1234abcd.incomplete", blobs / "a.5678abcd.incomplete"
    for path in (dead, alive):
        path.write_bytes(b"half")
    os.utime(dead, (0, 0))
    CacheLimit(0, []).make_room(1)
    assert (dead.exists(), alive.exists()) == (False, True)


def test_a_cache_that_cannot_be_written_to_is_not_held(checkpoints: list[Checkpoint], cache: Path) -> None:
    cache.mkdir()
    (cache / ".locks").write_text("no folder can be made here")
    assert hold(checkpoints[0]) is None


def test_a_local_folder_is_not_held(tmp_path: Path) -> None:
    assert hold(Checkpoint(1, "step1", str(tmp_path))) is None
