"""How the forward passes of a scoring run are done: device, number format, batch, kernel, vocabulary, columns.

Resolves what was asked for, once for a run, and writes down what is the same for all its slices.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import transformers

from trajstore.errors import DeviceError
from trajstore.forward.columns import check_columns
from trajstore.forward.device import AUTO, DTYPES, choose_device, choose_dtype, device_name, own_dtype
from trajstore.store.files.slices import Provenance
from trajstore.version import __version__

VOCABS = ("full", "tokenizer")


@dataclass(frozen=True)
class Settings:
    """The settings of one run, resolved."""

    device: torch.device
    dtype: torch.dtype | None
    """Of the weights; None for the checkpoint's own, which `for_checkpoint` finds."""
    batch_tokens: int | None
    """Token budget of a batch, padding included; None where each pass finds its own."""
    attention: str | None
    """An attention kernel of transformers; None for its own choice."""
    vocab: str
    """What the softmax runs over: all rows of the head (full), or the tokenizer's entries."""
    columns: tuple[str, ...]
    """What is kept beside the loss: rank, entropy."""
    provenance: Provenance
    """What is the same for all slices of the run."""
    repeat_noise: int = 0
    """Contexts of each dataset that are scored once more, for the noise of the losses; 0 for none."""

    def for_checkpoint(self, folder: Path) -> Settings:
        """These settings with the dtype that the checkpoint in `folder` says of itself, where that was asked for.

        Raises `DeviceError` where it says none that is offered, `CheckpointError` where it cannot be read.
        """
        if self.dtype is not None:
            return self
        name = own_dtype(folder)
        return replace(self, dtype=DTYPES[name], provenance=replace(self.provenance, dtype=name))

    def vocabulary(self, tokenizer_size: int) -> int | None:
        """The ids below which the softmax runs, for a dataset whose tokenizer has this many entries; None: all."""
        return tokenizer_size if self.vocab == "tokenizer" else None


def choose_settings(
    device: str,
    dtype: str,
    batch_tokens: int | None,
    attention: str | None,
    vocab: str = "full",
    columns: Iterable[str] = (),
    repeat_noise: int = 0,
    run: str | None = None,
) -> Settings:
    """The settings asked for; `run` is the id of the run that they are for, by default a new one.

    Raises `DeviceError`.
    """
    chosen = choose_device(device)
    weights = None if dtype == AUTO else choose_dtype(dtype)
    if batch_tokens is not None and batch_tokens < 1:
        raise DeviceError(f"--batch-tokens takes 1 or more, not {batch_tokens}.")
    if repeat_noise < 0:
        raise DeviceError(f"--repeat-noise takes a number of contexts, not {repeat_noise}.")
    if vocab not in VOCABS:
        raise DeviceError(f"There is no --vocab {vocab!r}; there is: {', '.join(VOCABS)}.")
    versions = {
        "trajstore": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    provenance = Provenance(
        dtype=dtype,
        vocab=vocab,
        batch_tokens=batch_tokens,
        versions=versions,
        device=device_name(chosen),
        run=run or uuid.uuid4().hex,
    )
    asked = check_columns(columns)
    return Settings(chosen, weights, batch_tokens, attention, vocab, asked, provenance, repeat_noise)
