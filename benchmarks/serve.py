"""The page over a store: python -m benchmarks.serve [--losses 1e8,1e9] [--tiny] [--out FILE].

Makes a store of each size in a temporary folder, serves it by `trajstore serve`, drives the page in a real headless
Chromium, and lets 16 clients ask for a minute. Without Chromium and chromedriver only the rest is measured. The full
run (minutes) also writes its section into benchmarks/RESULTS.md; --tiny, or other sizes, only print unless --out is
given.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.harness import machine, page
from benchmarks.harness.bulk import copy_model, copy_names
from benchmarks.harness.chromium import CHROMIUM, DRIVER
from benchmarks.harness.command import benchmark_parser, line, publish, say
from benchmarks.harness.folder import end_as_an_exit_does, working_folder
from benchmarks.harness.page import StoreShape
from benchmarks.harness.served import Page, browser, many_clients, page_bytes, served
from benchmarks.harness.synthetic import DATASET, MODEL, make_family
from benchmarks.harness.timing import Unit, show
from benchmarks.scale import FULL_SLICE, QUICK_SLICE, number_list
from trajstore.pipelines.components.pca import pca
from trajstore.store.matrix.selection import Selection

FULL_LOSSES, TINY_LOSSES = [10**8, 10**9], [10**4]
FINDING = "kept"
CLIENTS = 16
_BYTES_A_LOSS = 4
_CARD = "#pane .card"


@dataclass(frozen=True)
class Effort:
    """The number of times each thing is measured."""

    runs: int
    """Of what is timed in the browser, whose median is given."""
    seconds: float
    """For which clients ask."""
    pause: float
    """Seconds from one question of a client to its next."""


FULL, TINY = Effort(20, 60.0, 1.0), Effort(2, 0.5, 0.1)


@dataclass(frozen=True)
class Bar:
    """A quantity that is measured, and the most that it shall be in stores of 10⁸ and 10⁹ losses."""

    name: str
    unit: Unit | Literal["count", "kilobytes"]
    at_8: float | None = None
    at_9: float | None = None
    in_browser: bool = True


FIRST = Bar("First page", "seconds", 1, 1.5)
STEP = Bar("Same context, another step", "seconds", 0.1, 0.1)
COLD = Bar("Another context, all steps, of a server just started", "seconds", 1, 1)
NAMES = Bar("Names of the groups of its tokens, of a server just started", "seconds")
WARM = Bar("Another context, all steps, warm", "seconds", 0.15, 0.15)
GROUP = Bar("Group trajectory of one model", "seconds", 1, 1)
GROUPS = Bar("Group trajectory of all models", "seconds", None, 4)
COMPONENTS = Bar("Components of a kept finding", "seconds", 0.3, 0.3)
ONE_CLIENT = Bar("One client: 95 of 100 answers within", "seconds", in_browser=False)
MANY_CLIENTS = Bar(f"{CLIENTS} clients: 95 of 100 answers within", "seconds", in_browser=False)
ERRORS = Bar(f"{CLIENTS} clients: errors", "count", 0, in_browser=False)
MEMORY = Bar("Server's memory", "bytes", 1e9, 1.5e9, in_browser=False)
SIZE = Bar("Page, gzipped", "kilobytes", 160e3, 160e3, in_browser=False)
BARS = (
    FIRST, STEP, COLD, NAMES, WARM, GROUP, GROUPS, COMPONENTS, ONE_CLIENT, MANY_CLIENTS, ERRORS, MEMORY, SIZE,
)  # fmt: skip
"""The rows, in order."""

Figures = dict[Bar, float]


def measure(shape: StoreShape, effort: Effort) -> Figures:
    """Make a store, serve it, measure all, remove it."""
    with working_folder(_BYTES_A_LOSS * (shape.rows + shape.size.rows)) as folder:
        say(f"making {shape.rows:,} losses in {folder}")
        figures: Figures = {}

        def ready(bar: Bar, value: float) -> None:
            figures[bar] = value
            say(f"{bar.name}: {_shown(value, bar.unit)} (bar: {_bar(bar, _limit(bar, shape.rows))})")

        store = _make(shape, folder)
        if CHROMIUM and DRIVER:
            with browser() as opened:
                _in_browser(opened, store, shape, effort, ready)
        _with_clients(store, shape, effort, ready)
        if NAMES in figures:
            figures[MEMORY] = max(figures[MEMORY], figures.pop(_BROWSED))
        ready(SIZE, page_bytes())
    return figures


_BROWSED = Bar("Server's memory while the browser was there", "bytes")


def _make(shape: StoreShape, folder: Path) -> Path:
    """A store with these losses and a finding of principal components of one model."""
    with make_family(shape.size, folder).store as store:
        copy_model(store, shape.size.labels, copy_names(shape.models - 1))
        pca(store, Selection([DATASET], [MODEL])).keep(FINDING)
        return store.path


def _in_browser(
    opened: Page, store: Path, shape: StoreShape, effort: Effort, ready: Callable[[Bar, float], None]
) -> None:
    tokens = f"?pane=tokens&datasets={DATASET}&tokens.model={MODEL}"
    contexts = _contexts(shape, effort.runs)

    def median(once: Callable[[int], float]) -> float:
        return statistics.median([once(number) for number in range(effort.runs)])

    def another(context: int) -> float:
        return opened.go(
            f"{tokens}&context={context}", f"tokens.arrow?dataset={DATASET}&context={context}&", _CARD
        )

    def cold(number: int) -> float:
        with served(store) as server:
            opened.open(server.address)
            return another(contexts[number])

    def from_start(query: str, asked: str, scope: str) -> Callable[[int], float]:
        def once(_: int) -> float:
            opened.go("?pane=store")
            opened.settle()
            return opened.go(query, asked, scope)

        return once

    ready(COLD, median(cold))
    with served(store) as server:
        ready(FIRST, median(lambda _: opened.open(server.address)))
        another(0)
        ready(NAMES, opened.settle())
        ready(WARM, median(lambda number: another(contexts[number])))
        steps = shape.size.labels
        at = f"{tokens}&context={contexts[-1]}&step="
        ready(
            STEP,
            median(lambda number: opened.go(f"{at}{steps[-2 - number % 2]}", scope=_CARD, text_changes=True)),
        )
        groups = "?pane=groups&groups.names=one_percent"
        ready(GROUP, median(from_start(f"{groups}&models={MODEL}", "api/trajectories", _CARD)))
        if shape.models > 1:
            ready(GROUPS, median(from_start(groups, "api/trajectories", _CARD)))
        parts = f"?pane=components&components.of={FINDING}"
        ready(COMPONENTS, median(from_start(parts, "api/component-tokens", "#pane")))
        ready(_BROWSED, server.peak())


def _with_clients(
    store: Path, shape: StoreShape, effort: Effort, ready: Callable[[Bar, float], None]
) -> None:
    models = [MODEL, *copy_names(shape.models - 1)]

    def paths(client: int) -> Iterator[str]:
        """A context at all steps, mostly; each tenth time a group's trajectory, its changes by step, components."""
        rng = np.random.default_rng(client)
        while True:
            model = models[rng.integers(len(models))]
            site = f"dataset={DATASET}&context={rng.integers(shape.size.contexts)}&models={model}"
            kind = rng.integers(10)
            if kind == 0:
                yield f"/api/trajectories.arrow?models={model}&groups=one_percent"
            elif kind == 1:
                yield f"/api/token_differences.arrow?of=steps&{site}"
            elif kind == 2:
                yield f"/api/component-scores.arrow?finding={FINDING}"
            else:
                yield f"/api/tokens.arrow?{site}&columns=loss"

    with served(store) as server:
        alone = many_clients(server, paths, 1, effort.seconds, effort.pause)
        ready(ONE_CLIENT, alone.p95)
        together = many_clients(server, paths, CLIENTS, effort.seconds, effort.pause)
        ready(MANY_CLIENTS, together.p95)
        ready(ERRORS, alone.errors + together.errors)
        ready(MEMORY, server.peak())


def _contexts(shape: StoreShape, runs: int) -> list[int]:
    """Different contexts from all over the dataset, none of them the first."""
    chosen = np.random.default_rng(0).permutation(np.arange(1, shape.size.contexts))[:runs]
    return [int(context) for context in chosen]


def _limit(bar: Bar, losses: int) -> float | None:
    return bar.at_8 if losses < 3 * 10**8 else bar.at_9


def _bar(bar: Bar, limit: float | None) -> str:
    if bar is MANY_CLIENTS:
        return "≤ 3 × one client's"
    if limit is None:
        return "–"
    return f"≤ {_shown(limit, bar.unit)}" if limit else "none"


def _shown(value: float, unit: Unit | Literal["count", "kilobytes"]) -> str:
    if unit == "kilobytes":
        return f"{value / 1e3:.0f} KB"
    return f"{value:g}" if unit == "count" else show(value, unit)


def section(measured: Sequence[tuple[StoreShape, Figures]], effort: Effort, command: str, load: float) -> str:
    """The section of the page, as Markdown."""
    rows = [
        [
            bar.name,
            *(_cell(bar, shape, figures) for shape, figures in measured),
            *(_bar(bar, limit) for limit in (bar.at_8, bar.at_9)),
        ]
        for bar in BARS
        if any(bar in figures for _, figures in measured)
    ]
    sizes = [f"{shape.rows / 1e6:,.3g} M losses" for shape, _ in measured]
    shapes = ", ".join(f"{shape.models} × {shape.size.steps}" for shape, _ in measured)
    facts = [
        *machine.facts(Path(tempfile.gettempdir())),
        ("Browser", "headless Chromium" if CHROMIUM and DRIVER else "none here"),
        ("Load", f"{load:.1f} when it began, of other work on the machine"),
        ("Command", f"`{command}`"),
        ("Data", f"models × steps {shapes}, slices of {measured[0][0].size.columns:,} losses"),
        ("Runs", f"medians of {effort.runs} in the browser; clients ask for {effort.seconds:g} s"),
    ]
    header = ["What", *sizes, "Bar at 10⁸", "Bar at 10⁹"]
    return f"## {page.PAGE}\n\n{page.listed(facts)}\n{page.markdown([header, *rows])}\n{_NOTES}"


def _cell(bar: Bar, shape: StoreShape, figures: Figures) -> str:
    """A figure, bold where it is over its bar."""
    if bar not in figures:
        return "–"
    value, limit = figures[bar], _limit(bar, shape.rows)
    if bar is MANY_CLIENTS:
        limit = 3 * figures[ONE_CLIENT]
    text = _shown(value, bar.unit)
    return f"**{text}**" if limit is not None and value > limit else text


_NOTES = """\
A figure over its bar is bold; stores of up to 3 × 10⁸ losses have the bar of 10⁸. Browser, server and clients share the
machine. The first page is the store's pane, from the start of navigation with an empty browser cache. All else begins
on the open page by going to an address, as the back button does, and ends once what it shows is painted; the browser's
cache is emptied before each. A server just started has decoded nothing, its files are in the system's cache; the names
of the groups of a text's tokens come after its losses. Each client asks once a second: mostly one context of one model
at all steps, by chance, each tenth time a group's trajectory, a context's changes by step, or the finding's scores.
Memory is the server's highest, interpreter and libraries included.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write."""
    parser = benchmark_parser(
        "benchmarks.serve", "The page over a store.", "a small store, few runs", "--tiny"
    )
    parser.add_argument("--losses", type=number_list, metavar="N,N,…", help="sizes, such as 1e8,1e9")
    options = parser.parse_args(arguments)
    losses: list[int] = options.losses or (TINY_LOSSES if options.tiny else FULL_LOSSES)
    out: Path | None = options.out or (None if options.tiny or options.losses else page.RESULTS)
    effort, (contexts, tokens) = (TINY, QUICK_SLICE) if options.tiny else (FULL, FULL_SLICE)

    def sections() -> Iterator[str]:
        load = os.getloadavg()[0]
        shapes = [StoreShape.of(number, contexts, tokens) for number in sorted(losses)]
        measured = [(shape, measure(shape, effort)) for shape in shapes]
        yield section(measured, effort, line("benchmarks.serve", arguments), load)

    return publish(out, sections)


if __name__ == "__main__":
    end_as_an_exit_does()
    sys.exit(main())
