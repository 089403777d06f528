"""The Hugging Face Hub and its cache on this disk: a repository's revisions, and the files of one.

Checkpoints are downloaded into the Hub's own cache and then loaded from its snapshot folder, never by
repository name: with a name, transformers may go and take safetensors weights from a pull request against
`main` where the revision itself has none.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trajstore.checkpoints.library_output import quiet
from trajstore.checkpoints.retry import patiently
from trajstore.checkpoints.weight_files import INDEX_FILES, TOKENIZER_FILES, weight_names
from trajstore.errors import CheckpointError, listed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

QUICK_SECONDS = 5.0
"""Seconds to wait for the Hub before saying that it cannot be asked."""

_FILE_SUFFIXES = (".txt", ".json", ".jsonl", ".csv", ".parquet", ".gz", ".zip", ".safetensors", ".bin")


@dataclass(frozen=True)
class Refs:
    """The revisions of a repository."""

    commits: dict[str, str]
    """Branch or tag → the commit it points to."""
    unreachable: str | None
    """Why the Hub could not be asked, so that these are only the revisions in the cache; None if it was."""


def names_path(name: str) -> bool:
    """Return whether a name can only be a path and no repository: `./a`, `~/a`, `/a`, `a/`, `a/b/c`, `a.txt`."""
    return (
        name in (".", "..")
        or name.startswith(("./", "../", "/", "~"))
        or name.endswith(("/", *_FILE_SUFFIXES))
        or name.count("/") > 1
    )


def quickly(ask: Callable[[], T]) -> T:
    """Return what `ask` returns, or raise what it raises; `TimeoutError` where that takes longer than `QUICK_SECONDS`.

    A time limit of the Hub's client holds for each address of a host and leaves out the look-up of its name.
    """
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(QUICK_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {QUICK_SECONDS:g} s") from error


def unavailable(repo: str) -> str | None:
    """Return why the Hub does not give a model repository, asked once and quickly; None where it does."""
    from huggingface_hub import HfApi

    try:
        quickly(lambda: HfApi().model_info(repo, timeout=QUICK_SECONDS))
    except Exception as error:  # offline, unreachable, unknown, private or not a repository's name at all
        return first_line(error)
    return None


def list_refs(repo: str) -> Refs:
    """Branches and tags of a repository, or those in the cache where the Hub cannot be asked.

    Raises `CheckpointError` where neither knows the repository.
    """
    from huggingface_hub import HfApi

    try:
        refs = patiently(lambda: quickly(lambda: HfApi().list_repo_refs(repo)))
    except Exception as error:  # offline, unreachable, unknown, private or not a repository's name at all
        reason = first_line(error)
        if commits := _cached_refs(repo):
            return Refs(commits, reason)
        raise CheckpointError(
            f"{repo!r} is no folder here, and the Hugging Face Hub has no such repository or cannot be asked "
            f"({reason}); its cache on this disk holds no revision of it either. Check the name and "
            "the network, or give a folder."
        ) from error
    # Where a tag and a branch share a name, from_pretrained and the Hub's pages mean the branch.
    return Refs({ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)}, None)


def cached_snapshot(repo: str, commit: str) -> Path | None:
    """The folder of a commit in the cache, if its configuration and all its weights are there."""
    folder = cache_folder(repo) / "snapshots" / commit
    if (folder / "config.json").exists() and weight_names(
        path.name for path in folder.iterdir() if path.exists()
    ):
        return folder
    return None


def cache() -> Path:
    """The cache that the Hub's client has on this disk."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def cache_folder(repo: str) -> Path:
    """Return the folder in which it keeps a model repository."""
    return cache() / ("models--" + repo.replace("/", "--"))


def fetch(
    repo: str, revision: str, *, tokenizer_only: bool = False, stopped: Callable[[], bool] = lambda: False
) -> Path:
    """Download what scoring needs of a revision and is not in the cache; returns its snapshot folder.

    Ends with `CheckpointError` soon after `stopped` has become true; what comes through Xet, by `break_off`.
    """
    from huggingface_hub import snapshot_download

    def download() -> Path:
        with quiet():
            names = _needed(repo, revision, tokenizer_only)
            bar = _stopping_bar(stopped)
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=names, tqdm_class=bar))
        if absent := [name for name in names if not (folder / name).exists()]:
            # where the Hub breaks off in between, the client gives what the cache has
            raise ConnectionError(f"the Hub did not give {listed(absent)}")
        return folder

    try:
        return patiently(download, stopped)
    except CheckpointError:
        raise
    except Exception as error:  # whatever the Hub's client and the network raise
        raise CheckpointError(
            f"Revision {revision} of {repo} is not in the cache and cannot be downloaded: {first_line(error)}"
        ) from error


def break_off() -> None:
    """End all that this process is downloading through Xet, which goes on whatever its bar raises."""
    try:
        from huggingface_hub.utils._xet import abort_xet_session
    except ImportError:  # a client that has no such thing
        return
    abort_xet_session()


def download_bytes(repo: str, revision: str) -> int | None:
    """Bytes that `fetch` would download; None where the Hub does not say."""
    from huggingface_hub import snapshot_download

    try:
        with quiet():
            names = _needed(repo, revision, tokenizer_only=False)
            files = snapshot_download(repo, revision=revision, allow_patterns=names, dry_run=True)
    except Exception:  # a number in a message is not worth failing for
        return None
    return sum(file.file_size or 0 for file in files if file.will_download)


def first_line(error: BaseException) -> str:
    """Return a library's error message, else its class, without its advice and its closing full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__


def _stopping_bar(stopped: Callable[[], bool]) -> type:
    """A progress bar for the Hub's client that ends a download by raising, once `stopped` is true."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def update(self, n: float | None = 1) -> object:
            if stopped():
                raise ConnectionAbortedError("the download was given up")
            return super().update(n)

    return Bar


def _needed(repo: str, revision: str, tokenizer_only: bool) -> list[str]:
    """Names of the files that scoring needs of a revision: configuration, tokenizer, weights of one kind."""
    from huggingface_hub import HfApi

    info = quickly(lambda: HfApi().model_info(repo, revision=revision, timeout=QUICK_SECONDS))
    names = [sibling.rfilename for sibling in info.siblings or ()]
    small = [
        name
        for name in names
        if name in ("config.json", *INDEX_FILES, *TOKENIZER_FILES)
        or name.endswith(".py")  # run only if trusted
    ]
    weights = weight_names(names)
    if not weights and not tokenizer_only:
        raise CheckpointError(f"Revision {revision} of {repo} holds no weights; it holds: {listed(names)}.")
    return small if tokenizer_only else [*small, *weights]


def _cached_refs(repo: str) -> dict[str, str]:
    """Revision → commit, from the files under `refs/` in the cache."""
    refs = cache_folder(repo) / "refs"
    files = [path for path in refs.rglob("*") if path.is_file()]
    return {path.relative_to(refs).as_posix(): path.read_text(encoding="utf-8").strip() for path in files}
