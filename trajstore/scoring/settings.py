"""The settings of a run's forward passes, resolved once from its options: device, dtype, batch, kernel, vocabulary.

With them goes the provenance that all slices of the run share.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch
import transformers

from trajstore.arguments.spelling import as_given, option
from trajstore.errors import BadMeasures, DeviceError
from trajstore.forward.device import AUTO, DTYPES, choose_device, choose_dtype, device_name, own_dtype
from trajstore.measures.definitions import MeasureDefinition, find_measures, with_parameters
from trajstore.schema import PASS_COLUMNS, check_columns
from trajstore.scoring.options import ScoringOptions, Vocab
from trajstore.store.files.slices import Provenance
from trajstore.version import __version__

if TYPE_CHECKING:
    from trajstore.store.files.datasets import Dataset


@dataclass(frozen=True)
class PassSettings:
    """The settings of one run, resolved."""

    device: torch.device
    dtype: torch.dtype | None
    """Of the weights; None for the checkpoint's own, which `for_checkpoint` finds."""
    batch_tokens: int | None
    """Token budget of a batch, padding included; None where each pass finds its own."""
    attention: str | None
    """An attention kernel of transformers; None for its own choice."""
    vocab: str
    """Entries that the softmax runs over: all rows of the head (full), or the tokenizer's."""
    columns: tuple[str, ...]
    """Columns kept beside the loss: rank, entropy."""
    provenance: Provenance
    """Provenance that is the same for all slices of the run."""
    repeat_noise: int = 0
    """Contexts of each dataset that are scored once more, for the noise of the losses; 0 for none."""
    measures: tuple[MeasureDefinition, ...] = ()
    """Measures to compute of each slice besides the losses."""
    probe_measures: tuple[MeasureDefinition, ...] = ()
    """Measures to compute of each checkpoint that is scored, on its probe of repeats."""

    @property
    def pass_columns(self) -> tuple[str, ...]:
        """The columns that the pass computes: those that are kept, and those that a measure needs."""
        needed = [name for measure in self.measures for name in measure.needs if name in PASS_COLUMNS]
        return check_columns([*self.columns, *needed])

    def for_checkpoint(self, folder: Path) -> PassSettings:
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


def choose_settings(options: ScoringOptions, run: str | None = None) -> PassSettings:
    """Return the settings of a run with these options; `run` is its id, by default a new one.

    Raises `DeviceError`, `PluginError` for a measure that there is not or that cannot be loaded, and `BadMeasures` for
    one that scoring does not take along, or a parameter that none of them has.
    """
    device = choose_device(options.device)
    dtype = None if options.dtype == AUTO else choose_dtype(options.dtype)
    if options.batch_tokens is not None and options.batch_tokens < 1:
        raise DeviceError(f"{option('batch_tokens')} takes 1 or more, not {options.batch_tokens}.")
    if options.repeat_noise < 0:
        raise DeviceError(f"{option('repeat_noise')} takes a number of contexts, not {options.repeat_noise}.")
    if options.vocab not in get_args(Vocab):
        raise DeviceError(
            f"There is no {as_given('vocab', options.vocab)}; there is: {', '.join(get_args(Vocab))}."
        )
    measures = _in_scoring(options)
    provenance = Provenance(
        dtype=options.dtype,
        vocab=options.vocab,
        batch_tokens=options.batch_tokens,
        versions={
            "trajstore": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        device=device_name(device),
        run=run or uuid.uuid4().hex,
    )
    return PassSettings(
        device=device,
        dtype=dtype,
        batch_tokens=options.batch_tokens,
        attention=options.attention,
        vocab=options.vocab,
        columns=tuple(options.columns),
        provenance=provenance,
        repeat_noise=options.repeat_noise,
        measures=tuple(measure for measure in measures if not measure.on_probe),
        probe_measures=tuple(measure for measure in measures if measure.on_probe),
    )


def _in_scoring(options: ScoringOptions) -> list[MeasureDefinition]:
    """The measures that scoring is to take along, with their parameters; raises as `choose_settings`."""
    definitions = find_measures(options.measures)
    for definition in definitions:
        if not definition.in_scoring:
            raise BadMeasures(
                f"{definition.name} does not come with the pass over tokens, but is measured by itself: "
                f"{_command(definition)}"
            )
    return with_parameters(definitions, options.parameters) if definitions else []


def _command(definition: MeasureDefinition) -> str:
    """The command that computes a measure by itself."""
    if not definition.on_contexts:
        return f"trajstore measure {definition.name} --model M"
    return f"trajstore measure {definition.name} --model M --dataset D"


def provenance_of_measures(provenance: Provenance, dataset: Dataset | None) -> dict[str, object]:
    """Return the provenance that a file of measures keeps, on a dataset or of weights alone."""
    return {
        "revision": provenance.revision,
        "commit": provenance.commit,
        "weights": provenance.weights,
        "dtype": provenance.dtype,
        "vocab": provenance.vocab,
        "tokens_sha256": None if dataset is None else dataset.tokens_sha256,
        "versions": provenance.versions,
        "device": provenance.device,
    }
