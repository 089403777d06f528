"""A run's checkpoint: where its weights are, and loading it, with its own weights or not at all.

A checkpoint whose file lacks a tensor of the model, or holds one that the model has no place for, is an error: left to
itself, transformers makes up random numbers in the first case and drops layers in the second. So is one of a published
suite that lacks what its losses depend on.

Of a run's checkpoints the first is built by transformers; the tensors of the next ones are put into the same model
where it was shown that transformers would do no more.
"""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trajstore.arguments.spelling import option
from trajstore.checkpoints import hub
from trajstore.checkpoints.config_check import check_config, check_parameters, read_config
from trajstore.checkpoints.library_output import quiet
from trajstore.checkpoints.suites import known_run
from trajstore.checkpoints.weight_files import check_not_cut_off, weight_files
from trajstore.checkpoints.weights.fingerprints import fingerprint
from trajstore.errors import CheckpointError, NotCausal, listed
from trajstore.lazy_imports import without_collection
from trajstore.progress import stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from transformers import PreTrainedModel

    from trajstore.checkpoints.weights.reading import Tensors
    from trajstore.checkpoints.weights.swapping import Layout, SwappableModel

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
    """Commit that the revision points to on the Hub; None for a local folder."""
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


@dataclass
class ReadCheckpoint:
    """A checkpoint whose files are on this disk and were read, to be put into a model once."""

    checkpoint: Checkpoint
    folder: Path
    weights: str
    """Fingerprint of the weights' files, `sha256:…`."""
    nbytes: int
    """Size of the weights' files."""
    tensors: Tensors | None
    """Tensors read; None where transformers must read the files itself, and once they were put into a model."""
    layout: Layout | None
    """Layout that it must share with another checkpoint to take its place; None without `tensors`."""
    seconds: dict[str, float]
    """By what was done: download, read, and hash beyond reading."""
    held: IO[bytes] | None = None
    """File that keeps the checkpoint in the cache while it is open; None where nothing would remove its files."""

    def release(self) -> None:
        """Its files are no longer used here."""
        if self.held is not None:
            self.held.close()


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint in memory."""

    model: PreTrainedModel
    """On its device, in eval mode."""
    commit: str | None
    """Commit loaded from the Hub; None for a local folder."""
    weights: str
    """Fingerprint of the weights' files, `sha256:…`."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By what was done: build, where transformers made the model, or copy, into one that was there."""


class Loader:
    """Loads a run's checkpoints one after another, each into the model of the last one where that can be done.

    `read` may be called in any thread, for one checkpoint while another is scored. `fill` changes the model that it
    gave before, and for a moment torch's default dtype, so that no pass may be running.
    """

    def __init__(
        self,
        device: torch.device | str,
        dtype: torch.dtype,
        attention: str | None = None,
        *,
        trust_remote_code: bool = False,
    ) -> None:
        """The device, dtype and attention kernel are the models'; only with `trust_remote_code` is code run that lies
        beside the weights.
        """
        import torch

        from trajstore.checkpoints.weights.staging import Staging

        self._device, self._dtype, self._attention = torch.device(device), dtype, attention
        self._remote_code = trust_remote_code
        self._staging = Staging(self._device)
        self._swappable: SwappableModel | None = None
        """The last checkpoint's model, where others may be put into it."""
        self._tries = 2
        """Models that may yet turn out to be made of anything else than their files' tensors, before files are no more
        read for them. The first of a run may be of zeros, of which none can be told from another.
        """

    def read(
        self,
        checkpoint: Checkpoint,
        folder: Path | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> ReadCheckpoint:
        """Read a checkpoint's weights, each byte once; raises `CheckpointError`.

        `folder` is where its files are; by default it is downloaded where needed. Raises `Stopped` soon after `stopped`
        has become true.
        """
        from trajstore.checkpoints.weights.reading import read_contents
        from trajstore.checkpoints.weights.swapping import layout, may_swap

        start = time.perf_counter()
        folder = folder or checkpoint.folder()
        seconds = {"download": time.perf_counter() - start}
        files = weight_files(folder)
        try:
            config = read_config(folder)
        except CheckpointError:  # which building it raises too
            config = {}
        swaps = self._tries > 0 and may_swap(config, folder)
        contents = read_contents(files, self._staging if swaps else None, stopped)
        return ReadCheckpoint(
            checkpoint,
            folder,
            contents.fingerprint,
            contents.nbytes,
            contents.tensors,
            None if contents.tensors is None else layout(config, contents.tensors.by_name),
            seconds | contents.seconds,
        )

    def prepare(self, checkpoint: Checkpoint) -> None:
        """Import what builds the first model, seconds of it, while that checkpoint is read; leaves errors to `fill`."""
        if self._swappable is None and (folder := checkpoint.present()) is not None:
            with contextlib.suppress(Exception), stage("build"), without_collection():
                _check_files(folder, trust_remote_code=self._remote_code)

    def fill(self, read: ReadCheckpoint, dtype: torch.dtype | None = None) -> LoadedCheckpoint:
        """Return the checkpoint's model in `dtype`, by default the loader's; raises as `load` does.

        It may be the model that was given before, which then has this checkpoint's weights. What was read is spent.
        """
        start = time.perf_counter()
        tensors, read.tensors = read.tensors, None
        dtype = dtype or self._dtype
        spent, copied = None if tensors is None else tensors.block, None
        try:
            swappable, self._swappable = self._swappable, None  # none while its weights are changed
            if swappable and tensors and read.layout and swappable.takes(read.layout, tensors.by_name, dtype):
                done, model = "copy", swappable.model
                spent, copied = swappable.put(tensors, read.folder)
                self._swappable = swappable
            else:
                swappable = None  # so that two models need never fit into memory
                done, model = "build", self._build(read, tensors, dtype)
        finally:
            if spent is not None:
                self._staging.give_back(spent, copied)
        _check_published(model, read.checkpoint)
        seconds = {done: time.perf_counter() - start}
        return LoadedCheckpoint(model.eval(), _commit(read.checkpoint, read.folder), read.weights, seconds)

    def _build(self, read: ReadCheckpoint, tensors: Tensors | None, dtype: torch.dtype) -> PreTrainedModel:
        """A model made by transformers, on its device; others may be put into it if it is made of `tensors` alone."""
        from trajstore.checkpoints.weights.swapping import SwappableModel, find_places

        with without_collection():
            model = _built(read.folder, dtype, self._attention, trust_remote_code=self._remote_code)
        places = None if tensors is None else find_places(model, tensors.by_name)
        model = model.to(self._device)
        if places is not None and read.layout is not None:
            self._swappable = SwappableModel(model, places, read.layout, dtype)
        elif tensors is not None:
            self._tries -= 1
        return model


def load(
    checkpoint: Checkpoint,
    device: torch.device | str,
    dtype: torch.dtype,
    attention: str | None = None,
    *,
    trust_remote_code: bool = False,
) -> LoadedCheckpoint:
    """The checkpoint's model on `device`, its weights in `dtype`, with the attention kernel asked for.

    Only with `trust_remote_code` is code run that lies beside the weights. Raises `CheckpointError` where a file cannot
    be read, lacks weights or does not fit its own configuration, `NotCausal` where its kind of model predicts no next
    token, and whatever else transformers raises.
    """
    folder = checkpoint.folder()
    model = _built(folder, dtype, attention, trust_remote_code=trust_remote_code)
    _check_published(model, checkpoint)
    weights = fingerprint(weight_files(folder))
    return LoadedCheckpoint(model.to(device).eval(), _commit(checkpoint, folder), weights)


def _commit(checkpoint: Checkpoint, folder: Path) -> str | None:
    """Return the commit that a checkpoint's folder in the Hub's cache is of; None for a local one."""
    return None if checkpoint.local else folder.name


def _built(
    folder: Path, dtype: torch.dtype, attention: str | None, *, trust_remote_code: bool
) -> PreTrainedModel:
    """The model that transformers makes of a checkpoint's folder, on the CPU, whole; raises as `load` does."""
    from transformers import AutoModelForCausalLM

    _check_files(folder, trust_remote_code=trust_remote_code)
    kernel = {} if attention is None else {"attn_implementation": attention}
    with quiet(), _reading(folder, attention), warnings.catch_warnings():
        # of models without an MLP, whose matrices are empty
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            **kernel,
        )
    _check_complete(report, folder)
    return model


def weights_fingerprint(checkpoint: Checkpoint) -> str:
    """Fingerprint of a checkpoint's weights, downloaded first where needed."""
    return fingerprint(weight_files(checkpoint.folder()))


def _check_files(folder: Path, *, trust_remote_code: bool) -> None:
    """Raises `CheckpointError` where files of weights are cut off or cannot hold the model that config.json says."""
    files = weight_files(folder)
    check_not_cut_off(files)
    check_config(folder, files)
    with quiet():
        check_parameters(folder, files, trust_remote_code=trust_remote_code)


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
