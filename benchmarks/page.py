"""The page of results: what ran and when, the table, and how to read it. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import machine
from benchmarks.synthetic import GROUP, HOW, Family
from benchmarks.timing import HEADER, Row

_INTRO = """# Benchmarks

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
- Trajectory: ours is a group's mean and interval at each step; DuckDB's the bare mean of all tokens, which is less
  work than any group's.
- Memory: highest resident memory during the pull less that before it, in a process of its own with its libraries
  loaded. The labels are part of it; the matrix's own size is that of its values alone.
"""


def page(family: Family, command: str, pinned: bool, rows: Sequence[Row]) -> str:
    """The whole page as Markdown."""
    facts = "".join(f"- {name}: {text}.\n" for name, text in _facts(family, command, pinned))
    lines = [HEADER, ["---"] * len(HEADER), *(row.cells for row in rows)]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return f"{_INTRO}\n{facts}\n{table}\n{_NOTES}"


def _facts(family: Family, command: str, pinned: bool) -> list[tuple[str, str]]:
    """What ran, where, when and on what."""
    size = family.size
    cores = "the whole run kept to two cores" if pinned else "not kept to two cores"
    sizes = (
        f"{size.steps} steps × {size.contexts} contexts × {size.tokens} tokens: {size.columns:,} losses a slice "
        f"(position 0 has none), {size.rows / 1e6:.3g} M rows"
    )
    share = f"the group `{GROUP}` is one token, {len(family.members) / size.columns:.2%} of the losses"
    return [
        *machine.facts(family.folder),
        (
            "Threads",
            f"ours that read slices / the peer's; the query of a group takes what there is; {cores}",
        ),
        ("Command", f"`{command}`"),
        ("Data", f"{sizes}; {HOW}; {share}"),
    ]
