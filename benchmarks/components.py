"""Principal components of many checkpoints: python -m benchmarks.components [--quick] [--out FILE].

Makes stores of a growing number of columns in a temporary folder, one after another, and fits ten components to each in
a process of its own, beside scikit-learn on the same matrix held in memory. The full run (7 GB of disk, minutes) also
writes its section into benchmarks/RESULTS.md; --quick only prints unless --out is given.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.harness import machine, page
from benchmarks.harness.command import benchmark_parser, line, publish, say
from benchmarks.harness.folder import end_as_an_exit_does, working_folder
from benchmarks.harness.peers import THREADS
from benchmarks.harness.subprocesses import apart, peak
from benchmarks.harness.synthetic import HOW, Size, dataset_of, losses_of
from benchmarks.harness.timing import WrongAnswer, show
from trajstore.analysis.components.gram import Treatment
from trajstore.arguments.choices import Precision
from trajstore.store.store import Store

COMPONENTS = 10
_TOKENS = 513
"""Tokens of a context, of which the first has no loss."""
_LARGEST = 1 << 18
"""Most columns of one dataset."""
_BYTES_A_LOSS = 4
"""On disk, in the slices with a margin; and in the .npy file of the peers."""


OURS, OURS_SINGLE = "trajstore, from the slices", "trajstore, from the slices, --precision single"
HELD, HELD_SINGLE = "trajstore, matrix in memory", 'trajstore, matrix in memory, precision="single"'
FULL_SVD, RANDOMIZED = 'scikit-learn, svd_solver="full"', 'scikit-learn, svd_solver="randomized"'

ALLOWED = {HELD: 1e-9, OURS_SINGLE: 1e-3, HELD_SINGLE: 1e-3, FULL_SVD: 1e-3}
"""By how much a variance may differ from that of `OURS`, relative; the full decomposition runs in float32."""


@dataclass(frozen=True)
class ComponentsEffort:
    """The sizes of a run."""

    models: int
    steps: int
    columns: tuple[int, ...]
    """Of the stores, multiples of 512."""
    full: int
    """Columns up to which scikit-learn's full decomposition is run."""
    randomized: int
    """Columns up to which its randomized one is."""
    rounds: int

    def has_peers(self, columns: int) -> bool:
        """Return whether scikit-learn is run at this size."""
        return columns <= max(self.full, self.randomized)


FULL = ComponentsEffort(10, 154, (1 << 14, 1 << 16, 1 << 18, 1 << 20), 1 << 16, 1 << 18, 3)
QUICK = ComponentsEffort(3, 20, (1 << 10, 1 << 12), 1 << 12, 1 << 12, 1)


@dataclass(frozen=True)
class FitCost:
    """The cost and the result of a fit."""

    seconds: float
    peak: int
    """Bytes: the highest memory of its process, interpreter, libraries and data included."""
    variance: np.ndarray
    """float64 (components,), nats²."""


def make(effort: ComponentsEffort, columns: int, folder: Path) -> list[str]:
    """A store in `folder`/store with its matrix beside it, where a peer is to read that; returns its datasets."""
    names, values = [], []
    size = Size(effort.steps, min(columns, _LARGEST) // (_TOKENS - 1), _TOKENS)
    rng = np.random.default_rng(0)
    with Store.create(folder / "store") as store:
        for number in range(-(-columns // _LARGEST)):
            name = f"part{number}"
            ids = rng.integers(0, 50304, (size.contexts, size.tokens)).astype(np.int32)
            store.add_dataset(name, dataset_of(ids))
            for model, losses in enumerate(losses_of(rng, size, effort.models)):
                for step, row in zip(size.labels, losses, strict=True):
                    store.append(model=f"model{model}", dataset=name, step=step, losses=row)
                if effort.has_peers(columns):
                    values.append(losses)
            names.append(name)
    if values:
        np.save(folder / "matrix.npy", np.concatenate(values))
    return names


def from_slices(store: Path, datasets: list[str], precision: Precision) -> FitCost:
    """trajstore's components, from the slices."""
    import scipy.linalg  # noqa: F401  # its import would be on the clock

    from trajstore.analysis.components.methods import Method
    from trajstore.pipelines.components.pca import pca
    from trajstore.store.matrix.selection import Selection

    method = Method(components=COMPONENTS, treatment=Treatment(precision=precision))
    with Store(store) as opened:
        start = time.perf_counter()
        fit = pca(opened, Selection(datasets), method=method)
        seconds = time.perf_counter() - start
    return FitCost(seconds, peak(), fit.result.variance["variance"].to_numpy())


def in_memory(npy: Path, precision: Precision) -> FitCost:
    """trajstore's, of the matrix in memory; its reading is not on the clock."""
    import scipy.linalg  # noqa: F401

    from trajstore.analysis.components.pca import PCA

    values = np.load(npy)
    start = time.perf_counter()
    fit = PCA(COMPONENTS, precision=precision).fit(values)
    return FitCost(time.perf_counter() - start, peak(), fit.explained_variance_)


def scikit_learn(npy: Path, solver: str) -> FitCost:
    """scikit-learn's, of the matrix in memory; its reading is not on the clock."""
    from sklearn.decomposition import PCA

    values = np.load(npy)
    start = time.perf_counter()
    fit = PCA(COMPONENTS, svd_solver=solver, random_state=0).fit(values)
    return FitCost(time.perf_counter() - start, peak(), fit.explained_variance_.astype(np.float64))


def rows(effort: ComponentsEffort) -> Iterator[list[str]]:
    """The table's rows: a size and a way each."""
    n = effort.models * effort.steps
    for columns in effort.columns:
        with working_folder(_BYTES_A_LOSS * n * columns * (2 if effort.has_peers(columns) else 1)) as folder:
            say(f"making {n:,} × {columns:,} losses in {folder}")
            names = make(effort, columns, folder)
            store, npy = folder / "store", folder / "matrix.npy"
            ways: dict[str, Callable[[], FitCost]] = {
                OURS: partial(apart, from_slices, store, names, "double"),
                OURS_SINGLE: partial(apart, from_slices, store, names, "single"),
            }
            if effort.has_peers(columns):
                ways[HELD] = partial(apart, in_memory, npy, "double")
                ways[HELD_SINGLE] = partial(apart, in_memory, npy, "single")
            if columns <= effort.full:
                ways[FULL_SVD] = partial(apart, scikit_learn, npy, "full")
            if columns <= effort.randomized:
                ways[RANDOMIZED] = partial(apart, scikit_learn, npy, "randomized")
            fits: dict[str, list[FitCost]] = {way: [] for way in ways}
            for number in range(effort.rounds):
                for way, run in ways.items():
                    say(f"{columns:,} columns: {way}, round {number + 1} of {effort.rounds}")
                    fits[way].append(run())
            for way in ways:
                yield _cells(f"{n:,} × {columns:,}", way, fits)


def _cells(shape: str, way: str, fits: dict[str, list[FitCost]]) -> list[str]:
    """One row; raises `WrongAnswer` where two ways that should agree do not."""
    own = fits[way]
    off = float(np.abs(own[0].variance / fits[OURS][0].variance - 1).max())
    if off > ALLOWED.get(way, np.inf):
        raise WrongAnswer(f"variances of {shape} by {way} differ by {off:.2g}")
    return [
        shape,
        way,
        show(statistics.median(cost.seconds for cost in own), "seconds"),
        *(_ratio(own, fits.get(peer), lambda fit: fit.seconds) for peer in (FULL_SVD, RANDOMIZED)),
        show(max(cost.peak for cost in own), "bytes"),
        _ratio(own, fits.get(RANDOMIZED), lambda fit: fit.peak),
        "–" if way == OURS else f"{off:.2g}",
    ]


def _ratio(own: list[FitCost], peer: list[FitCost] | None, cost: Callable[[FitCost], float]) -> str:
    """The median over rounds of what one way costs over what the other does; nothing without another."""
    if peer is None or peer is own:
        return "–"
    return f"{statistics.median(cost(a) / cost(b) for a, b in zip(own, peer, strict=True)):.3g}"


HEADER = [
    "Rows × columns",
    "Way",
    "Time",
    "over full's",
    "over randomized's",
    "Peak memory",
    "over randomized's",
    "Largest difference of a variance from the first row's (relative)",
]

_NOTES = """\
Ten components. Each fit runs in a process of its own, whose start and imports are not on the clock, and the ways take
turns; times are medians over rounds, a ratio the median of the rounds' own. From the slices, trajstore reads them and
checks their pages for each block of columns (600 MB), sums the Gram matrix, reads them once more for the loadings and
labels its columns. In memory, each finds its float32 matrix there, whose reading is not on the clock. Memory is the
highest of the whole process.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write."""
    parser = benchmark_parser("benchmarks.components", "Principal components beside scikit-learn's.", "small")
    parser.add_argument("--columns", type=int, action="append", help="only this size; may be given again")
    parser.add_argument("--rounds", type=int, help="rounds of each size")
    options = parser.parse_args(arguments)
    base = QUICK if options.quick else FULL
    effort = ComponentsEffort(
        base.models,
        base.steps,
        tuple(options.columns or base.columns),
        base.full,
        base.randomized,
        options.rounds or base.rounds,
    )
    out: Path | None = options.out or (None if options.quick or options.columns else page.RESULTS)

    def sections() -> Iterator[str]:
        pinned = machine.pin_to_cores(THREADS[-1])
        data = (
            f"{effort.models} models of {effort.steps} steps, contexts of {_TOKENS} tokens, datasets of at most "
            f"{_LARGEST:,} columns; {HOW}; each model earlier than the one before"
        )
        facts = [
            *machine.facts(Path(tempfile.gettempdir())),
            ("Peer", f"scikit-learn {version('scikit-learn')}, scipy {version('scipy')}"),
            ("Threads", "what there is" + ("; the whole run kept to two cores" if pinned else "")),
            ("Command", f"`{line('benchmarks.components', arguments)}`"),
            ("Data", data),
            ("Rounds", str(effort.rounds)),
        ]
        table = page.markdown([HEADER, *rows(effort)])
        yield f"## {page.COMPONENTS}\n\n{page.listed(facts)}\n{table}\n{_NOTES}"

    return publish(out, sections)


if __name__ == "__main__":
    end_as_an_exit_does()
    sys.exit(main())
