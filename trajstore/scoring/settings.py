"""How the forward passes of a scoring run are done: device, number format, batch, attention kernel.

Resolves what was asked for, once for a run, and writes down what is the same for all its slices.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import torch
import transformers

from trajstore import __version__
from trajstore.errors import DeviceError
from trajstore.scoring.device import choose_device, choose_dtype, device_name
from trajstore.scoring.losses import default_batch_tokens
from trajstore.store.slices import Provenance


@dataclass(frozen=True)
class Settings:
    """The settings of one run, resolved."""

    device: torch.device
    dtype: torch.dtype
    batch_tokens: int
    """Token budget of a batch, padding included."""
    attention: str | None
    """An attention kernel of transformers; None for its own choice."""
    provenance: Provenance
    """What is the same for all slices of the run."""


def choose_settings(device: str, dtype: str, batch_tokens: int | None, attention: str | None) -> Settings:
    """The settings asked for; raises `DeviceError`."""
    chosen, weights = choose_device(device), choose_dtype(dtype)
    if batch_tokens is not None and batch_tokens < 1:
        raise DeviceError(f"--batch-tokens takes 1 or more, not {batch_tokens}.")
    budget = batch_tokens or default_batch_tokens(chosen)
    versions = {
        "trajstore": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    provenance = Provenance(
        dtype=dtype, batch_tokens=budget, versions=versions, device=device_name(chosen), run=uuid.uuid4().hex
    )
    return Settings(chosen, weights, budget, attention, provenance)
