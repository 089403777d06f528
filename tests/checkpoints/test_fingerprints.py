"""A file of weights is hashed once while it stays as it is, and again when it has changed."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from trajstore.checkpoints.weights import fingerprints
from trajstore.checkpoints.weights.fingerprints import file_sha256, file_state, keep_sha256, known_sha256

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which digests are kept; files need not lie unchanged for a time before."""
    place = tmp_path / "cache" / "weights.jsonl"
    monkeypatch.setattr(fingerprints, "_place", lambda: place)
    monkeypatch.setattr(fingerprints, "_UNSETTLED_NS", -(10**9))
    return place


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    file.write_bytes(os.urandom(fingerprints.SMALLEST_KEPT))
    return file


def forget() -> None:
    """As in another process."""
    fingerprints._by_place.clear()


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_digest_is_kept_for_other_processes(kept: Path, weights: Path) -> None:
    assert known_sha256(weights) is None
    assert file_sha256(weights) == digest(weights)
    forget()
    assert known_sha256(weights) == digest(weights)
    assert kept.read_text().count("\n") == 1


@pytest.mark.parametrize("how", ["bytes", "times set back", "another file in its place", "moved"])
def test_a_changed_file_is_hashed_anew(kept: Path, weights: Path, how: str) -> None:
    file_sha256(weights)
    facts = weights.stat()
    if how == "moved":
        weights = weights.rename(weights.with_name("moved"))
    elif how == "another file in its place":
        other = weights.with_name("other")
        other.write_bytes(os.urandom(facts.st_size))
        os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        other.replace(weights)
    else:
        weights.write_bytes(os.urandom(facts.st_size))
        if how == "times set back":
            os.utime(weights, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert known_sha256(weights) is None
    assert file_sha256(weights) == digest(weights)


def test_one_that_changes_while_it_is_read_is_not_kept(kept: Path, weights: Path) -> None:
    before = file_state(weights)
    weights.write_bytes(os.urandom(before.size))
    keep_sha256(weights, before, time.time_ns(), "0" * 64)
    assert known_sha256(weights) is None
    assert not kept.exists()


def test_one_that_has_just_been_written_is_not_kept(
    kept: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could change again within the resolution of its times, also while it is read, however long that takes."""
    monkeypatch.setattr(fingerprints, "_UNSETTLED_NS", 10**12)
    file_sha256(weights)
    assert not kept.exists()
    long_before = weights.stat().st_mtime_ns - 10**13
    monkeypatch.setattr(fingerprints, "_UNSETTLED_NS", 0)
    keep_sha256(weights, file_state(weights), long_before, digest(weights))
    assert not kept.exists()


def test_a_small_file_is_not_kept(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"1")
    assert file_sha256(tmp_path / "small") == hashlib.sha256(b"1").hexdigest()
    assert not kept.exists()


@pytest.mark.parametrize(
    "damage", [b"\n[1, 2", b"\n\xff\xff", b'\n{"a": 1}', b"\n[]", b"\n[1,2,3,4,5,6]", b"\nnull"]
)
def test_damaged_lines_are_passed_over(kept: Path, weights: Path, damage: bytes) -> None:
    kept.parent.mkdir()
    kept.write_bytes(damage)
    assert file_sha256(weights) == digest(weights)
    forget()
    assert known_sha256(weights) == digest(weights)
    kept.write_bytes(kept.read_bytes() + damage)
    forget()
    assert known_sha256(weights) == digest(weights)


def test_where_nothing_can_be_kept_files_are_hashed_all_the_same(
    kept: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.parent.write_text("a file")
    assert file_sha256(weights) == digest(weights)
    forget()
    kept.parent.unlink()
    os.mkfifo(kept.parent)
    assert file_sha256(weights) == digest(weights)
    forget()
    kept.parent.unlink()
    kept.parent.mkdir()
    os.mkfifo(kept)  # which no reader waits for, nor a writer
    assert file_sha256(weights) == digest(weights)
    forget()

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(fingerprints, "_place", homeless)
    assert file_sha256(weights) == digest(weights)


def test_the_file_stays_short(kept: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_MOST_LINES", 10)
    for number in range(11):
        os.utime(weights, ns=(number, number))
        forget()
        file_sha256(weights)
    forget()
    assert known_sha256(weights) == digest(weights)
    assert kept.read_bytes().count(b"\n") == 6  # five were left, and one has come since
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_every_line_counts_until_there_are_too_many(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_MOST_LINES", 10)
    monkeypatch.setattr(fingerprints, "SMALLEST_KEPT", 1)
    files = [tmp_path / str(number) for number in range(8)]
    for file in files:
        file.write_bytes(b"weights")
        file_sha256(file)
    forget()
    assert all(known_sha256(file) == digest(file) for file in files)


def test_the_place_is_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fingerprints._place() == tmp_path / "trajstore" / "weights.jsonl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fingerprints._place() == tmp_path / ".cache" / "trajstore" / "weights.jsonl"
