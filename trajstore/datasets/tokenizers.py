"""Tokenizers by name, and whether a checkpoint reads token ids as the dataset means them.

Two tokenizers are the same where their vocabularies are. A checkpoint without one is not checked here; that
its embedding has a row for every id is checked when it is scored.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trajstore.checkpoints import hub
from trajstore.checkpoints.config_check import CONFIG, check_config
from trajstore.checkpoints.library_output import quiet
from trajstore.checkpoints.revisions import parse_revision
from trajstore.checkpoints.suites import run_named
from trajstore.checkpoints.weight_files import (
    TOKENIZER_FILES,
    VOCABULARY_FILES,
    check_all_regular,
    weight_names,
)
from trajstore.checkpoints.weights.fingerprints import fingerprint
from trajstore.errors import CheckpointError, TokenizerMismatch, TokenizerNotFound
from trajstore.store.files.datasets import TokenizerFacts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trajstore.checkpoints.loading import Checkpoint
    from trajstore.store.files.datasets import Dataset

# Facts by the content of the tokenizer's files: the checkpoints of a run hold the same ones.
_known: dict[str, TokenizerFacts] = {}


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder, a Hub repository or a published model by its short name.

    A folder without one whose subfolders are checkpoints (`step1000`, `checkpoint-10`) gives that of the last
    step that has one. A repository that the Hub does not give is taken from its cache. Code from a repository is
    never run. Raises `TokenizerNotFound`.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_pretrained(str(_tokenizer_folder(folder)), name, local=True)
    if folder.is_file():
        raise TokenizerNotFound(name, "it is a file; name the folder that holds it")
    if hub.names_path(name):
        raise TokenizerNotFound(name, "there is no such folder")
    run = run_named(name)
    repo = name if run is None else run.repo
    reason = hub.unavailable(repo)
    try:
        return _from_pretrained(repo, name, local=reason is not None)
    except TokenizerNotFound as error:
        if reason is None:
            raise
        raise TokenizerNotFound(
            name,
            f"there is no such folder here, and the Hugging Face Hub has no such repository or cannot be asked "
            f"({reason}); its cache on this disk holds no tokenizer of it either. Check the name "
            "and the network, or give a folder",
        ) from error


def tokenizer_facts(tokenizer: PreTrainedTokenizerBase, name: str) -> TokenizerFacts:
    """Return the facts that a store keeps of a tokenizer: its name as given, a hash of its vocabulary, its size."""
    pairs = sorted((token, piece) for piece, token in tokenizer.get_vocab().items())
    text = json.dumps(pairs, ensure_ascii=True, separators=(",", ":"))
    return TokenizerFacts(name, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", len(tokenizer))


def check_tokenizer(own: TokenizerFacts, dataset: Dataset) -> None:
    """Raises `TokenizerMismatch` where a checkpoint's own tokenizer is another than the dataset's."""
    theirs = dataset.tokenizer
    if own.vocabulary_sha256 == theirs.vocabulary_sha256:
        return
    raise TokenizerMismatch(
        f"The dataset {dataset.name} was made with the tokenizer {theirs.name} ({theirs.size} entries, "
        f"{theirs.vocabulary_sha256[:15]}…), but {own.name} has one of {own.size} entries "
        f"({own.vocabulary_sha256[:15]}…): the same ids would mean other texts. "
        f"Make a dataset for this model: "
        f"trajstore dataset add NAME SOURCE --tokenizer {own.name}"
    )


def tokenizer_of(checkpoint: Checkpoint) -> TokenizerFacts | None:
    """The tokenizer in a checkpoint's folder, or in the run's folder around it; None where neither has one.

    Of a Hub revision that is not in the cache only the small files are downloaded. Raises `CheckpointError`
    where that fails, and `TokenizerNotFound` for a tokenizer that cannot be read.
    """
    if checkpoint.local:
        folder = Path(checkpoint.location)
        for place in (folder, folder.parent):
            if _has_vocabulary(place):
                return _read(place, str(place))
        return None
    snapshot = _snapshot_with_tokenizer(checkpoint)
    return _read(snapshot, checkpoint.location) if _has_vocabulary(snapshot) else None


def _from_pretrained(place: str, name: str, *, local: bool) -> PreTrainedTokenizerBase:
    """The tokenizer at a place, `local` where the Hub shall not be asked; raises `TokenizerNotFound` of `name`."""
    from transformers import AutoTokenizer

    if Path(place).is_dir():
        _check_folder(Path(place))
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(place, trust_remote_code=False, local_files_only=local)
    except Exception as error:  # whatever the library and its backends raise
        raise TokenizerNotFound(name, hub.first_line(error)) from error


def _check_folder(folder: Path) -> None:
    """Raises `CheckpointError` for a folder with which transformers, reading its config.json, would not end."""
    check_all_regular(folder)
    if (folder / CONFIG).exists() and (names := weight_names(entry.name for entry in folder.iterdir())):
        check_config(folder, [folder / name for name in names])


def _snapshot_with_tokenizer(checkpoint: Checkpoint) -> Path:
    """A Hub revision's folder in the cache, its tokenizer fetched where it can be had."""
    snapshot = checkpoint.present()
    if snapshot is not None and _has_vocabulary(snapshot):
        return snapshot
    try:
        return hub.fetch(checkpoint.location, checkpoint.revision, tokenizer_only=True)
    except CheckpointError:
        if snapshot is None:
            raise
        return snapshot


def _tokenizer_folder(folder: Path) -> Path:
    """The folder itself, else its last checkpoint that holds a tokenizer; raises `TokenizerNotFound`."""
    steps = [
        (named.step, path) for path in folder.iterdir() if (named := parse_revision(path.name)) is not None
    ]
    for candidate in [folder, *(path for _, path in sorted(steps, reverse=True))]:
        if _has_vocabulary(candidate):
            return candidate
    raise TokenizerNotFound(
        str(folder), f"neither the folder nor any of its {len(steps)} checkpoints holds one"
    )


def _has_vocabulary(folder: Path) -> bool:
    return any((folder / name).is_file() for name in VOCABULARY_FILES)


def _read(folder: Path, name: str) -> TokenizerFacts:
    """Facts of the tokenizer in a folder, read once for all folders with the same files."""
    check_all_regular(folder)
    content = fingerprint(path for file in TOKENIZER_FILES if (path := folder / file).is_file())
    if content not in _known:
        _known[content] = tokenizer_facts(load_tokenizer(str(folder)), name)
    return replace(_known[content], name=name)
