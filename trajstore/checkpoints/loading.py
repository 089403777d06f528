"""A run's checkpoint: where its weights are, and loading it, with its own weights or not at all.

A checkpoint whose file lacks a tensor of the model, or holds one that the model has no place for, is an error: left to
itself, transformers makes up random numbers in the first case and drops layers in the second. So is one of a published
suite that lacks what its losses depend on.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajstore.arguments.spelling import option
from trajstore.checkpoints import hub
from trajstore.checkpoints.config_check import check_config, check_parameters, read_config
from trajstore.checkpoints.library_output import quiet
from trajstore.checkpoints.suites import known_run
from trajstore.checkpoints.weight_files import check_not_cut_off, fingerprint, weight_files
from trajstore.errors import CheckpointError, NotCausal, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import PreTrainedModel

_MOST_WORDS = 300
"""Characters of an error of transformers that are told."""
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
    stage: str = ""
    """The stage of training that the revision names, such as `stage2-ingredient1`; empty where it names none."""
    tokens_seen: int | None = None
    """Training tokens before this checkpoint, those of earlier stages too; None where that is not known."""
    tokens_exact: bool | None = None
    """False where a rounded number was all there was; None where `tokens_seen` is."""
    known_bad: str | None = None
    """Why these weights are said not to be what their name says, with the source; None where nothing is known."""

    @property
    def local(self) -> bool:
        """Return whether it is a folder of this machine and not a revision on the Hub."""
        return self.commit is None

    def present(self) -> Path | None:
        """The folder with its files if they are on this disk."""
        return Path(self.location) if self.commit is None else hub.cached_snapshot(self.location, self.commit)

    def folder(self) -> Path:
        """The folder with its files, downloaded first where needed; raises `CheckpointError`."""
        return self.present() or hub.fetch(self.location, self.revision)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint in memory."""

    model: PreTrainedModel
    """On its device, in eval mode."""
    commit: str | None
    """What was loaded from the Hub; None for a local folder."""
    weights: str
    """Fingerprint of the weights' files, `sha256:…`."""


def load(
    checkpoint: Checkpoint,
    device: torch.device | str,
    dtype: torch.dtype,
    attention: str | None = None,
    *,
    weights: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedCheckpoint:
    """The checkpoint's model on `device`, its weights in `dtype`, with the attention kernel asked for.

    `weights` is the fingerprint of its files where that is known, which saves reading them for it. Only with
    `trust_remote_code` is code run that lies beside the weights. Raises `CheckpointError` where a file cannot be read,
    lacks weights or does not fit its own configuration, `NotCausal` where its kind of model predicts no next token,
    and whatever else transformers raises.
    """
    from transformers import AutoModelForCausalLM

    folder = checkpoint.folder()
    files = weight_files(folder)
    check_not_cut_off(files)
    check_config(folder, files)
    with quiet():
        check_parameters(folder, files, trust_remote_code=trust_remote_code)
    kernel = {} if attention is None else {"attn_implementation": attention}
    with quiet(), _reading(folder, attention):
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            **kernel,
        )
    _check_complete(report, folder)
    _check_published(model, checkpoint)
    commit = None if checkpoint.local else folder.name
    return LoadedCheckpoint(model.to(device).eval(), commit, weights or fingerprint(files))


def weights_fingerprint(checkpoint: Checkpoint) -> str:
    """Fingerprint of a checkpoint's weights, downloaded first where needed."""
    return fingerprint(weight_files(checkpoint.folder()))


@contextmanager
def _reading(folder: Path, attention: str | None) -> Iterator[None]:
    """Names the folder in what transformers and readers of weights raise for files that are not what they should be.

    What may be due to the attention kernel that was asked for is left as it is.
    """
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    try:
        yield
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise CheckpointError(
                f"The model in {folder} has code of its own, which is run only with "
                f"{option('trust_remote_code', True)}: read it first."
            ) from error
        if str(error).startswith("Unrecognized configuration class"):
            raise NotCausal(
                f"The model in {folder} is {_kind(folder)}, of which transformers has no causal language model. Only "
                "models that predict a token from those before it can be scored."
            ) from error
        if attention is not None:
            raise
        raise _not_built(folder, error) from error
    except (SafetensorError, UnpicklingError, OSError, EOFError, RuntimeError) as error:
        raise CheckpointError(
            f"The weights in {folder} cannot be read ({type(error).__name__}: {hub.first_line(error)}). {_AGAIN}"
        ) from error
    except (
        Exception
    ) as error:  # of a configuration with values of another type, a module that is not installed, …
        if attention is not None and isinstance(error, ImportError):
            raise
        raise _not_built(folder, error) from error


def _not_built(folder: Path, error: Exception) -> CheckpointError:
    """An error that says what transformers cannot make of a checkpoint."""
    words = " ".join(str(error).split())
    words = words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}…"
    return CheckpointError(
        f"transformers cannot make the model in {folder} of its config.json ({type(error).__name__}: {words})."
    )


def _kind(folder: Path) -> str:
    """Return the model's type in a checkpoint's configuration."""
    named = read_config(folder).get("model_type")
    return f"of the type {named}" if isinstance(named, str) else "of another type"


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


def _check_published(model: PreTrainedModel, checkpoint: Checkpoint) -> None:
    """Raises `CheckpointError` where a published suite's model lacks what its losses depend on."""
    run = None if checkpoint.local else known_run(checkpoint.location)
    if run is None:
        return
    facts = [(key, value, getattr(model.config, key, None)) for key, value in run.config]
    if run.vocabulary is not None:
        for name, module in (
            ("its embedding", model.get_input_embeddings()),
            ("its head", model.get_output_embeddings()),
        ):
            facts.append((f"rows of {name}", run.vocabulary, module.weight.shape[0]))
    for fact, value, got in facts:
        if got != value:
            raise CheckpointError(
                f"{checkpoint.location} at {checkpoint.revision} must have {fact} = {value}, but has {got}: its losses "
                "would be wrong."
            )
