"""The page of results: a section for each benchmark, with what ran and when, its table, and how to read it.

Measures nothing. Writing a section leaves the others as they are.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import machine
from benchmarks.harness.synthetic import HOW, SUITE, Family, Size
from benchmarks.harness.timing import HEADER, Row, show
from benchmarks.harness.works import WORKS
from trajstore.output_files import write_whole

if TYPE_CHECKING:
    from benchmarks.harness.subprocesses import Cost

RESULTS = Path(__file__).parents[1] / "RESULTS.md"

PEERS, SCALE, SCORING, GPU = "Beside its peers", "Scale", "Scoring", "Scoring on a GPU"
COMPONENTS, SPARSE = "Components", "Sparse PCA"
SHAPES, PAGE, MEASURES = "Shapes", "The page", "Measures"
SECTIONS = (PEERS, SCALE, SCORING, GPU, MEASURES, COMPONENTS, SPARSE, SHAPES, PAGE)
"""The sections, in order."""

_INTRO = """\
One run of one command, on one synthetic slice family; each row sets the store beside a named peer of the same run.
"""

_NOTES = """\
Ratio: trajstore over the peer, below 1 is faster or smaller than the peer. All contenders of a block take turns, one
round after another: a figure is the median over rounds, the ratio the median of the rounds' own ratios, the spread
their lowest and highest, and runs how many rounds (slices, for bytes) the ratio rests on: fewer for slow peers. Every
answer is compared with the expected one, off the clock. Files are in the system's cache.

- Bytes: means over all slices, with the spread from slice to slice. .npy holds the losses and nothing else; a slice
  also context, position and its facts; the long format model, dataset, step, context, position, token and loss.
- Append: ours validates the losses, makes the keys, hashes the losses and the file, fsyncs file and folders and
  publishes by a link; pyarrow gets the finished table and fsyncs the file.
- Matrix: ours finds the slices, checks footers and page checksums, and labels rows and columns with tokens and texts.
  np.load reads the finished matrix. DuckDB and Polars verify nothing; Polars runs in a process of its own, whose start
  and imports are not counted.
- zarr: its default codec; runs in processes of its own, whose start is not counted, and each reads the array once
  before the clock starts.
- Trajectory: ours is what the command `trajectory` computes, a group's mean and interval at each step; DuckDB's the
  bare mean of all tokens, which is less work than any group's. A share is of the losses. pandas and Polars start from
  the slices and a table of the group's (context, position), as a notebook does, give no interval, and run in processes
  of their own, whose start and imports are not counted.
- Many slices: the store is there and its files are in the system's cache; losses of 64 tokens each, so that next to
  nothing but the finding is measured. A query on a view asks DuckDB to list all slices, once to know its columns and
  once to run; `trajectory` and `matrix` look into the folder of the model and the dataset alone.
- Memory: highest resident memory during the pull less that before it, in a process of its own with its libraries
  loaded. The labels are part of it; the matrix's own size is that of its values alone.
- SELECT * to a file: each in a process of its own; memory is the highest less that before it. The store's opening is
  on the clock; COPY verifies nothing and keeps no order.
"""

_SCALE_INTRO = """\
The same work in a store that grows, each in a process of its own.
"""

_SCALE_NOTES = """\
Time is that of the work with the store's opening; the process's start and imports are not counted. Memory is the
highest of the whole process, interpreter and libraries included. Files are in the system's cache. Every answer is
compared with the expected one afterwards. One model has more steps at the larger sizes, see the data above; the group
is one token, about 1 % of the losses.
"""


def peers_section(family: Family, command: str, pinned: bool, rows: Sequence[Row]) -> str:
    """The section of the rows beside peers, as Markdown."""
    table = markdown([HEADER, *(row.cells for row in rows)])
    return f"## {PEERS}\n\n{_INTRO}\n{listed(_facts(family, command, pinned))}\n{table}\n{_NOTES}"


@dataclass(frozen=True)
class StoreShape:
    """A store of models with equally many steps, at most those of the suite."""

    models: int
    size: Size
    """Of one model."""

    @property
    def rows(self) -> int:
        """Losses in all."""
        return self.models * self.size.rows

    @classmethod
    def of(cls, rows: int, contexts: int, tokens: int) -> StoreShape:
        """The smallest store of at least so many rows in as few models as can be."""
        columns = Size(1, contexts, tokens).columns
        models = math.ceil(rows / (len(SUITE) * columns))
        return cls(models, Size(math.ceil(rows / (models * columns)), contexts, tokens))


@dataclass(frozen=True)
class Grown:
    """A store and what each of `WORKS` took in it."""

    shape: StoreShape
    costs: list[Cost]


def scale_section(grown: Sequence[Grown], runs: int, command: str, pinned: bool) -> str:
    """The section of the growing store, as Markdown."""
    largest = grown[-1].shape
    shapes = ", ".join(
        f"{store.shape.models} × {store.shape.size.steps} (models × steps) at {_rows(store.shape)}"
        for store in grown
    )
    facts = [
        *machine.facts(Path(tempfile.gettempdir())),
        ("Threads", "what there is" + ("; the whole run kept to two cores" if pinned else "")),
        ("Command", f"`{command}`"),
        ("Data", f"slices of {largest.size.columns:,} losses; {shapes}; {HOW}; all models have equal losses"),
        ("Runs", f"{runs} of each; times are medians, memory the highest"),
    ]
    header = ["Work", *(f"{_rows(store.shape)} rows" for store in grown)]
    lines = [[work.name, *(_cost(store.costs[n]) for store in grown)] for n, work in enumerate(WORKS)]
    if len(grown) > 1:
        before, after = grown[-2:]
        factor = after.shape.rows / before.shape.rows
        header.append(f"From {_rows(before.shape)} to {_rows(after.shape)}: rows × {factor:.3g}")
        for line, old, new in zip(lines, before.costs, after.costs, strict=True):
            line.append(f"time × {new.seconds / old.seconds:.2g}, memory × {new.peak / old.peak:.2g}")
    return f"## {SCALE}\n\n{_SCALE_INTRO}\n{listed(facts)}\n{markdown([header, *lines])}\n{_SCALE_NOTES}"


def _cost(cost: Cost) -> str:
    return f"{show(cost.seconds, 'seconds')}, {cost.peak / 1e6:,.0f} MB"


def _rows(shape: StoreShape) -> str:
    return f"{shape.rows / 1e6:,.3g} M" if shape.rows < 1e9 else f"{shape.rows / 1e9:.3g} G"


def listed(facts: Sequence[tuple[str, str]]) -> str:
    """Facts as a Markdown list."""
    return "".join(f"- {name}: {text}.\n" for name, text in facts)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its header first."""
    header, *rest = lines
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [header, ["---"] * len(header), *rest])


def put(file: Path, section: str) -> None:
    """Write a section into the page, in the place of the one with its title."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    facts = {
        part.partition("\n")[0]: part.rstrip() for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    }
    new = section.removeprefix("## ")
    facts[new.partition("\n")[0]] = new.rstrip()
    parts = [f"## {facts[title]}\n" for title in SECTIONS if title in facts]
    write_whole(file, "\n".join(["# Benchmarks\n", *parts]).encode())


def _facts(family: Family, command: str, pinned: bool) -> list[tuple[str, str]]:
    """Return the lines on versions, machine, date and data."""
    size = family.size
    cores = "the whole run kept to two cores" if pinned else "not kept to two cores"
    sizes = (
        f"{size.steps} steps × {size.contexts} contexts × {size.tokens} tokens: {size.columns:,} losses a slice "
        f"(position 0 has none), {size.rows / 1e6:.3g} M rows"
    )
    groups = (
        f"the group `{family.small.name}` is one token, {family.small.share:.2%} of the losses, "
        f"`{family.large.name}` the rarest tokens, {family.large.share:.2%}"
    )
    return [
        *machine.facts(family.folder),
        (
            "Threads",
            f"ours / the peer's; {cores}",
        ),
        ("Command", f"`{command}`"),
        ("Data", f"{sizes}; {HOW}; {groups}"),
    ]
