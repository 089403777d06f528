"""Finds a training run's checkpoints and loads them, each with its own weights or not at all.

A run is a local folder whose subfolders are steps, or a Hub repository whose revisions are. Code from a
repository is never run. A checkpoint whose file lacks a tensor of the model, or holds one that the model has
no place for, is an error: left to itself, transformers makes up random numbers in the first case and drops
layers in the second.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajstore.errors import CheckpointError, listed
from trajstore.scoring import hub
from trajstore.scoring.quiet import quiet
from trajstore.scoring.suites import known_run, parse_revision
from trajstore.scoring.weightfiles import fingerprint, weight_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch
    from transformers import PreTrainedModel

STEP_NAMES = "stepN, step_N, step-N or checkpoint-N"

_AGAIN = "If the files are damaged, download or save that checkpoint again."

# Masks and tables that older versions of transformers saved as tensors and newer ones compute.
_OLD_BUFFERS = re.compile(r"(^|\.)(attn|attention)\.(bias|masked_bias)$|rotary_emb\.inv_freq$")


@dataclass(frozen=True)
class Checkpoint:
    """One step of a run, where its weights are or can be had."""

    step: int
    revision: str
    """The subfolder's name, or the branch or tag on the Hub."""
    location: str
    """The step's folder, or the repository."""
    commit: str | None = None
    """What the revision points to on the Hub; None for a local folder."""

    @property
    def local(self) -> bool:
        """Whether it is a folder of this machine and not a revision on the Hub."""
        return self.commit is None

    def present(self) -> Path | None:
        """The folder with its files if they are on this disk."""
        return Path(self.location) if self.commit is None else hub.cached_snapshot(self.location, self.commit)

    def folder(self) -> Path:
        """The folder with its files, downloaded first where needed; raises `CheckpointError`."""
        return self.present() or hub.fetch(self.location, self.revision)


@dataclass(frozen=True)
class Source:
    """A training run and its checkpoints."""

    name: str
    """Last part of the folder or repository."""
    repo: str
    """Absolute path of the folder, or the repository."""
    local: bool
    checkpoints: tuple[Checkpoint, ...]
    """In order of step, each step once."""
    unreachable: str | None = None
    """Why the Hub could not be asked, so that only revisions in the cache are here; None otherwise."""

    @property
    def steps(self) -> list[int]:
        """The checkpoints' steps, in order."""
        return [checkpoint.step for checkpoint in self.checkpoints]


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint in memory."""

    model: PreTrainedModel
    """On its device, in eval mode."""
    commit: str | None
    """What was loaded from the Hub; None for a local folder."""
    weights: str
    """Fingerprint of the weights' files, `sha256:…`."""


def find_checkpoints(model: str) -> Source:
    """The run behind a local folder or a Hub repository; raises `CheckpointError` where there is none."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _local_source(folder.resolve())
    if folder.is_file():
        raise CheckpointError(f"{model} is a file; a run is a folder with a subfolder a step ({STEP_NAMES}).")
    if hub.names_path(model):
        raise CheckpointError(
            f"There is no folder {model!r}. A run is a folder with a subfolder a step ({STEP_NAMES})."
        )
    refs = hub.list_refs(model)
    found = [
        Checkpoint(step, name, model, commit)
        for name, commit in refs.commits.items()
        if (step := parse_revision(name)) is not None
    ]
    if not found:
        raise CheckpointError(
            f"No revision of {model} is named after a step ({STEP_NAMES}); there are: "
            f"{listed(sorted(refs.commits))}."
        )
    return Source(model.rsplit("/", 1)[-1], model, False, _in_order(found, model), refs.unreachable)


def load(
    checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype, attention: str | None = None
) -> LoadedCheckpoint:
    """The checkpoint's model on `device`, its weights in `dtype`, with the attention kernel asked for.

    Raises `CheckpointError` where a file cannot be read, lacks weights or does not fit its own configuration,
    and whatever else transformers raises.
    """
    from transformers import AutoModelForCausalLM

    folder = checkpoint.folder()
    files = weight_files(folder)
    kernel = {} if attention is None else {"attn_implementation": attention}
    with quiet(), _reading(folder):
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **kernel,
        )
    _check_complete(report, folder)
    _check_config(model.config, checkpoint)
    commit = None if checkpoint.local else folder.name
    return LoadedCheckpoint(model.to(device).eval(), commit, fingerprint(files))


def weights_fingerprint(checkpoint: Checkpoint) -> str:
    """Fingerprint of a checkpoint's weights, downloaded first where needed."""
    return fingerprint(weight_files(checkpoint.folder()))


def _local_source(folder: Path) -> Source:
    """A folder whose subfolders are steps."""
    found = [
        Checkpoint(step, entry.name, str(entry))
        for entry in sorted(folder.iterdir())
        if (step := parse_revision(entry.name)) is not None and entry.is_dir()
    ]
    if not found:
        raise CheckpointError(
            f"{folder} has no subfolder named after a step ({STEP_NAMES}).{_single_checkpoint(folder)}"
        )
    return Source(folder.name, str(folder), True, _in_order(found, str(folder)))


def _single_checkpoint(folder: Path) -> str:
    """What to do with a folder that is one checkpoint and not a run."""
    step = parse_revision(folder.name)
    if not (folder / "config.json").exists():
        return ""
    if step is not None:
        return f" It is a checkpoint itself: score the folder around it with: {folder.parent} --steps {step}"
    return (
        " It holds config.json itself, so it is a single checkpoint: move it into a folder named after its "
        f"step, as in {folder.name}/step1000, and score {folder.name}."
    )


def _in_order(found: Iterable[Checkpoint], where: str) -> tuple[Checkpoint, ...]:
    """Checkpoints by step; raises `CheckpointError` where two that are not the same commit name one step."""
    by_step: dict[int, Checkpoint] = {}
    for checkpoint in found:
        other = by_step.setdefault(checkpoint.step, checkpoint)
        if other is not checkpoint and (checkpoint.local or other.commit != checkpoint.commit):
            raise CheckpointError(
                f"{other.revision} and {checkpoint.revision} of {where} both name step {checkpoint.step}. "
                "Keep one of them there, or score a folder that holds only one."
            )
    return tuple(by_step[step] for step in sorted(by_step))


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Names the folder in what the readers of weights raise for a file that is cut off or not what it should be."""
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, UnpicklingError, OSError, EOFError, RuntimeError) as error:
        raise CheckpointError(
            f"The weights in {folder} cannot be read ({type(error).__name__}: {hub.first_line(error)}). {_AGAIN}"
        ) from error


def _check_complete(report: dict[str, Any], folder: Path) -> None:
    """Raises `CheckpointError` unless the file's tensors are exactly the model's (tied ones once)."""
    missing = sorted(report["missing_keys"])
    misshapen = sorted(str(key[0]) for key in report["mismatched_keys"])
    surplus = sorted(key for key in report["unexpected_keys"] if not _OLD_BUFFERS.search(key))
    problems = [
        f"{what}: {listed(keys, 4)}"
        for what, keys in [
            ("tensors that the model needs are missing", missing),
            ("tensors of another shape than the configuration says", misshapen),
            ("tensors that the model has no place for", surplus),
        ]
        if keys
    ]
    if problems or report["error_msgs"]:
        raise CheckpointError(
            f"The weights in {folder} do not fit: {'; '.join([*problems, *report['error_msgs']])}. {_AGAIN}"
        )


def _check_config(config: Any, checkpoint: Checkpoint) -> None:
    """Raises `CheckpointError` where a published suite's model lacks a setting that its losses depend on."""
    run = None if checkpoint.local else known_run(checkpoint.location)
    for key, value in run.config if run else ():
        if (got := getattr(config, key, None)) != value:
            raise CheckpointError(
                f"{checkpoint.location} at {checkpoint.revision} must have {key} = {value}, but has {got}: "
                "its losses would be wrong."
            )
