"""Sparse PCA beside scikit-learn's: python -m benchmarks.sparse [--quick] [--out FILE].

Each fit runs in a process of its own on a matrix in a .npy file. At the smallest size both run to their end; at the
next scikit-learn's time is that of a few of its iterations, multiplied; the largest is ours alone, with its peak of
memory. The full run also writes its section into benchmarks/RESULTS.md; --quick only prints unless --out is given.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.harness import machine, page
from benchmarks.harness.command import benchmark_parser, line, publish, say
from benchmarks.harness.folder import end_as_an_exit_does, working_folder
from benchmarks.harness.subprocesses import apart, peak
from benchmarks.harness.synthetic import SEED, SUITE, VOCABULARY
from trajstore.analysis.components.sparse_pca import sparse_pca

COMPONENTS, ALPHA, TOL = 10, 5.0, 1e-6
_WIDTH = 1 << 14
_WARM = np.random.default_rng(SEED).normal(size=(4, 8))
"""Fitted before the clock starts: a first fit loads what it needs."""

_INTRO = f"""\
½‖X − UV‖² + α‖V‖₁ with {COMPONENTS} components, α = {ALPHA:g}, until an iteration lowers it by less than {TOL:g} of it.
"""

_NOTES = """\
Each fit runs in a process of its own, whose start, imports and reading of the file are not counted; one descent each,
both from the principal components. Where both run they have one thread, and scikit-learn gets float64. «To their end»:
seconds of the whole fit, ours the median of the runs. «By iterations»: scikit-learn's time is that of a fit of one
iteration, and the time of one iteration, from a fit of more, for each further one that ours took to its end: the two
take the same path, unless a component dies. The objective is ours over scikit-learn's: at the end, or after as many
iterations, where ours has solved V once more. Peak is the highest resident memory of our process: interpreter,
libraries and what it read of the file included.
"""


@dataclass(frozen=True)
class SparseEffort:
    """The sizes of a run: shapes are (models, columns), each model of 154 checkpoints unless `steps` says otherwise."""

    steps: int
    whole: tuple[int, int]
    """Both to their end."""
    counted: tuple[int, int]
    """scikit-learn by its first iterations."""
    alone: tuple[int, int]
    """Ours alone."""
    runs: int
    """Of ours, where both run to their end."""
    iterations: int
    """Of scikit-learn, where they are counted."""


FULL = SparseEffort(154, (2, 4000), (10, 25600), (10, 262144), runs=5, iterations=4)
QUICK = SparseEffort(20, (2, 150), (3, 200), (3, 400), runs=1, iterations=3)


@dataclass(frozen=True)
class SparseFitCost:
    """The cost of a fit and its end."""

    seconds: float
    peak: int
    """Bytes."""
    objective: tuple[float, ...]
    """By iteration."""
    zeros: float
    """Share of zeros in the components."""


def save_losses(file: Path, models: int, columns: int, steps: int) -> None:
    """Losses of models that learn the same tokens at times and to floors a little their own, float32 (rows, columns).

    Written some columns at a time, so that no process needs memory for all.
    """
    labels = [SUITE[place] for place in np.linspace(0, len(SUITE) - 1, steps).round().astype(int)]
    log_step = np.log1p(labels)[:, None]
    start = np.log(VOCABULARY)
    out = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(models * steps, columns))
    for first in range(0, columns, _WIDTH):
        n = min(_WIDTH, columns - first)
        rng = np.random.default_rng([SEED, first])
        floor, width = rng.gamma(1.2, 2.0, n), rng.uniform(0.5, 1.5, n)
        middle = rng.normal(np.log(500), 1.5, n)
        for model in range(models):
            learned = 1 / (1 + np.exp((middle + rng.normal(0.3 * model, 0.5, n) - log_step) / width))
            means = start + (floor * rng.lognormal(0, 0.15, n) - start) * learned
            noise = np.exp((0.02 + 0.1 * learned) * rng.standard_normal(learned.shape))
            out[model * steps : (model + 1) * steps, first : first + n] = means * noise
    out.flush()


def ours(file: Path, threads: int) -> SparseFitCost:
    """Our fit, of a matrix that stays in its file."""
    from threadpoolctl import threadpool_limits

    values = np.load(file, mmap_mode="r")
    sparse_pca(_WARM, 1)
    with threadpool_limits(threads):
        start = time.perf_counter()
        fit = sparse_pca(values, COMPONENTS, alpha=ALPHA, tol=TOL)
        seconds = time.perf_counter() - start
    return SparseFitCost(seconds, peak(), fit.objective, fit.zeros)


def theirs(file: Path, iterations: int) -> SparseFitCost:
    """scikit-learn's fit, of at most so many iterations."""
    from sklearn.decomposition import SparsePCA
    from threadpoolctl import threadpool_limits

    values = np.load(file).astype(np.float64)
    model = SparsePCA(COMPONENTS, alpha=ALPHA, tol=TOL, max_iter=iterations, random_state=42)
    SparsePCA(1, max_iter=2).fit(_WARM)
    with threadpool_limits(1):
        start = time.perf_counter()
        model.fit(values)
        seconds = time.perf_counter() - start
    return SparseFitCost(seconds, peak(), tuple(model.error_), float((model.components_ == 0).mean()))


def rows(effort: SparseEffort, folder: Path) -> Iterator[list[str]]:
    """The table's rows."""
    file = folder / "losses.npy"
    shape = _saved(file, effort.whole, effort.steps)
    say(f"{shape}: scikit-learn to its end")
    their = apart(theirs, file, 1000)
    say(f"{shape}: ours")
    runs = [apart(ours, file, 1) for _ in range(effort.runs)]
    mine = runs[0]
    seconds = statistics.median(run.seconds for run in runs)
    yield _row(shape, "to their end", mine, seconds, their.seconds, mine.objective[-1] / their.objective[-1])

    shape = _saved(file, effort.counted, effort.steps)
    say(f"{shape}: ours")
    mine = apart(ours, file, 1)
    say(f"{shape}: scikit-learn, {effort.iterations} iterations")
    one, more = (apart(theirs, file, iterations) for iterations in (1, effort.iterations))
    took = len(more.objective)
    per_iteration = (more.seconds - one.seconds) / (took - 1)
    yield _row(
        shape,
        f"by iterations: {took} timed, {per_iteration:.3g} s each",
        mine,
        mine.seconds,
        one.seconds + per_iteration * (len(mine.objective) - 1),
        mine.objective[took - 1] / more.objective[-1],
    )

    shape = _saved(file, effort.alone, effort.steps)
    say(f"{shape}: ours")
    mine = apart(ours, file, 2)
    yield _row(shape, "ours alone, 2 threads", mine, mine.seconds, None, None)


def _saved(file: Path, shape: tuple[int, int], steps: int) -> str:
    """Make the matrix; its shape in words."""
    models, columns = shape
    text = f"{models * steps:,} × {columns:,}"
    say(f"{text}: making it")
    save_losses(file, models, columns, steps)
    return text


def _row(
    shape: str,
    how: str,
    mine: SparseFitCost,
    seconds: float,
    their_seconds: float | None,
    objective: float | None,
) -> list[str]:
    return [
        shape,
        how,
        f"{seconds:.3g} s",
        str(len(mine.objective)),
        "–" if their_seconds is None else f"{their_seconds:.3g} s",
        "–" if their_seconds is None else f"{their_seconds / seconds:.3g}",
        "–" if objective is None else f"{objective:.6f}",
        f"{mine.zeros:.1%}",
        f"{mine.peak / 1e6:,.0f} MB",
    ]


_HEADER = [
    "Matrix",
    "Compared",
    "trajstore",
    "Iterations",
    "scikit-learn",
    "trajstore is faster ×",
    "Objective",
    "Zeros",
    "Peak",
]


def section(effort: SparseEffort, folder: Path, command: str, pinned: bool) -> str:
    """The section as Markdown."""
    data = (
        f"float32 losses from seed {SEED}, {effort.steps} checkpoints a model; a token falls along a sigmoid in log "
        "step to a floor, when and how far being much the same in all models"
    )
    facts = [
        *machine.facts(folder),
        ("Libraries", ", ".join(f"{package} {version(package)}" for package in ("scikit-learn", "scipy"))),
        ("Threads", "one where both run" + ("; the whole run kept to two cores" if pinned else "")),
        ("Command", f"`{command}`"),
        ("Data", data),
    ]
    table = page.markdown([_HEADER, *rows(effort, folder)])
    return f"## {page.SPARSE}\n\n{_INTRO}\n{page.listed(facts)}\n{table}\n{_NOTES}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write; the temporary folder goes whatever happens."""
    parser = benchmark_parser("benchmarks.sparse", "Sparse PCA beside scikit-learn's.", "small matrices")
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    out: Path | None = options.out or (None if options.quick else page.RESULTS)

    def sections() -> Iterator[str]:
        pinned = machine.pin_to_cores(2)
        models, columns = effort.alone
        with working_folder(models * effort.steps * columns * 4) as folder:
            yield section(effort, folder, line("benchmarks.sparse", arguments), pinned)

    return publish(out, sections)


if __name__ == "__main__":
    end_as_an_exit_does()
    sys.exit(main())
