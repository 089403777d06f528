"""The request of an ingest: whose losses files hold, and how their columns are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trajstore.arguments.spelling import as_given, option
from trajstore.arguments.suggestions import nearest
from trajstore.errors import BadSource, TrajstoreError, listed
from trajstore.schema import LOWEST_LOSS
from trajstore.text import describe_file_error

LONG = ("model", "dataset", "step", "context", "position", "token", "loss")
"""Columns of the long format."""

UNITS = ("nats", "bits", "perplexity")
"""Of the losses in files; the perplexity of a token is e to its loss."""


@dataclass(frozen=True)
class IngestRequest:
    """A caller's request: whose losses the files hold, and how they are to be read."""

    dataset: str
    model: str | None = None
    """The model of every row; where the files name models, the one whose rows are taken."""
    steps: tuple[int, ...] | None = None
    """The step of every row, or those of a matrix's rows; where the files name steps, those that are taken."""
    columns: Mapping[str, str] | None = None
    """Column of the long format by the files' own name; empty for one that is not to be read."""
    unit: str = "nats"
    dtype: str = "float32"
    """Of the forward pass: it decides how far below zero rounding can lead."""
    renamed: str | None = None
    """A model of the files whose rows are taken as those of `model`."""

    def __post_init__(self) -> None:
        for theirs, ours in (self.columns or {}).items():
            if ours and ours not in LONG:
                raise TrajstoreError(
                    f"{option('columns', {theirs: ours})}: there is no column {ours!r}; the long format has: "
                    f"{', '.join(LONG)}."
                )
        for name, value, known in (("unit", self.unit, UNITS), ("dtype", self.dtype, LOWEST_LOSS)):
            if value not in known:
                raise TrajstoreError(f"{as_given(name, value)}: there is {', '.join(known)}.")

    def takes(self, name: str, value: object) -> bool:
        """Return whether rows with this value in the column `name` are taken."""
        if name == "dataset":
            return value == self.dataset
        if name == "model":
            return self.model in (None, value)
        return self.steps is None or value in self.steps


@dataclass
class Tally:
    """Counts of the rows of all files."""

    rows: int = 0
    """Rows of tables in the long format, and of matrices."""
    left_out: int = 0
    """Rows of other datasets, models or steps than those asked for."""
    padding: int = 0
    """Losses of position 0, which are none."""
    unchecked: int = 0
    """Rows whose token was not given."""
    empty: int = 0
    """Rows of matrices that are NaN throughout."""
    like_bits: str = ""
    """The first slice whose losses look like bits though they were taken as nats, and the reason; empty without one."""


@dataclass(frozen=True)
class IncomingSlice:
    """The losses of one slice as files hold them."""

    model: str | None
    step: int | None
    """None where a row lacks it; the problem says so."""
    source: str
    """Files it comes from."""
    values: np.ndarray | None = None
    """float32 (n_losses,) in canonical order, nats, NaN where the files have none; None where there is a problem."""
    problem: str = ""
    """Where and why it cannot be taken."""


def steps_in(path: Path) -> list[int]:
    """The steps of a matrix's rows from a file: .npy, or text with numbers between spaces, commas or lines."""
    try:
        numbers = (
            np.load(path, allow_pickle=False).ravel().tolist()
            if path.suffix == ".npy"
            else path.read_text(encoding="utf-8").replace(",", " ").split()
        )
        steps = [int(number) for number in numbers]
        if any(step != float(number) for step, number in zip(steps, numbers, strict=True)):
            raise ValueError("a step is a whole number")
    except (OSError, ValueError) as error:
        raise BadSource(f"Cannot read steps from {path}: {describe_file_error(error)}.") from error
    return steps


def choose_columns(path: Path, names: Sequence[str], request: IngestRequest) -> dict[str, str]:
    """The file's name for each column of the long format that it has; raises `BadSource` for one that is needed."""
    mapped = dict(request.columns or {})
    if unknown := [theirs for theirs in mapped if theirs not in names]:
        raise BadSource(
            f"{path} has no column {unknown[0]!r}, which {option('columns')} names; its columns are: "
            f"{listed(names)}." + nearest(unknown[0], names)
        )
    chosen = {name: name for name in LONG if name in names and name not in mapped}
    for theirs, ours in mapped.items():
        if ours and chosen.setdefault(ours, theirs) != theirs:
            raise BadSource(
                f"{path} has two columns for {ours}: {chosen[ours]} and {theirs}. Leave one unread: "
                f"{option('columns', {chosen[ours]: ''})}"
            )
    for name in needed(request):
        if name not in chosen:
            alternative = {
                "model": f", or give {option('model', 'M')}",
                "step": f", or give one {option('step', 'S')}",
            }.get(name, "")
            raise BadSource(
                f"{path} has no column {name!r}; its columns are: {listed(names)}. Name the one that holds it: "
                f"{option('columns', {'THEIRS': name})}{alternative}"
            )
    return chosen


def needed(request: IngestRequest) -> Iterable[str]:
    """Columns that a file in the long format must have."""
    if request.model is None:
        yield "model"
    if request.steps is None or len(request.steps) != 1:
        yield "step"
    yield from ("context", "position", "loss")
