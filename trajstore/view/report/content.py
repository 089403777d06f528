"""Content of the report, as data for its page: trajectories, principal components, tokens with their losses.

No dataset's matrix is ever held: groups are summed by context while slices are read, components go through blocks of
columns, and of the tokens only the contexts and steps that the page shows are pulled. Figures are plotly's, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.components.gram import RowCentring, Treatment, products
from trajstore.analysis.components.pca import COMPONENTS, check_shape, fit
from trajstore.analysis.statistics.bootstrap import Draws
from trajstore.analysis.trajectories import trajectories
from trajstore.arguments.choices import Align
from trajstore.errors import TrajstoreError
from trajstore.pipelines.token_context import with_context
from trajstore.store.matrix.blocks import SliceBlocks
from trajstore.store.matrix.checkpoints import checkpoints
from trajstore.store.matrix.context_sums import context_sums
from trajstore.store.matrix.matrix import Sites, choose_sites, column_labels, pull, row_labels
from trajstore.store.matrix.selection import Selection, sites_in
from trajstore.view.charts.chart import palette
from trajstore.view.charts.plotly import CONFIG, figure
from trajstore.view.figures.pca import pca_charts
from trajstore.view.figures.trajectories import trajectory_chart
from trajstore.view.report.findings.table import PageTable
from trajstore.view.report.kept_findings import kept_analyses
from trajstore.view.report.tokens import ContextChoice, TokenView, model_steps, token_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajstore.analysis.components.pca import PCAResult
    from trajstore.progress import Progress
    from trajstore.store.files.coverage import Coverage
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart, Mark

Checkpoints = Sequence[tuple[str, int]]
"""(model, step) of rows."""

_BLOCK_BYTES = 128 << 20
"""Most memory of a block of columns while components are computed."""
_TOP_COMPONENTS = 5
_TOP_TOKENS = 8


@dataclass(frozen=True)
class ReportScope:
    """The datasets, models and groups of a report."""

    datasets: list[str]
    """Datasets with a slice of any of the models."""
    models: list[str]
    """In order of colours."""
    coverage: list[Coverage]
    """Of these models on these datasets."""
    groups: list[str]
    align: Align
    """Which losses a group stands for."""
    marks: tuple[Mark, ...]
    contexts: ContextChoice
    """Contexts of each dataset in the token view."""
    step_limit: int
    """Most steps of a model in the token view."""


@dataclass(frozen=True)
class GroupPart:
    """One group."""

    name: str
    text: str
    """Its description."""
    figure: dict[str, Any]


@dataclass(frozen=True)
class ComponentTokens:
    """The tokens that load most on one component; rows have before, text, after, where they stand, and the loading."""

    label: str
    high: list[dict[str, Any]]
    low: list[dict[str, Any]]


@dataclass(frozen=True)
class FitPart:
    """The joint PCA of one dataset."""

    name: str
    """The dataset."""
    text: str
    """Description of the fit, in a sentence."""
    figures: list[dict[str, Any]]
    components: list[ComponentTokens]


@dataclass(frozen=True)
class AnalysisPart:
    """One kept finding."""

    title: str
    text: str
    figures: list[dict[str, Any]]
    tables: tuple[PageTable, ...]


@dataclass(frozen=True)
class Content:
    """Everything that the page's script reads."""

    config: dict[str, Any]
    """Options for plotly.js."""
    marks: tuple[Mark, ...]
    groups: list[GroupPart]
    components: list[FitPart]
    analyses: list[AnalysisPart]
    tokens: list[TokenView]

    def json(self) -> str:
        """As JSON that can stand inside a script element: nothing in it ends one."""
        text = json.dumps(asdict(self), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def gather(store: Store, subject: ReportScope, progress: Progress) -> Content:
    """Read and compute what the page shows. A group without a token anywhere is left out."""
    after = " Shown is the loss of the tokens that follow them." if subject.align == "after" else ""
    described = {name: store.groups.description(name) + after for name in subject.groups}
    colors = dict(zip(subject.models, palette(len(subject.models)), strict=True))
    frames: dict[str, list[pl.DataFrame]] = {name: [] for name in subject.groups}
    fits: list[FitPart] = []
    views: list[TokenView] = []
    for name in subject.datasets:
        rows = _complete(store, name, subject)
        if not rows:
            continue
        dataset = store.dataset(name)
        for group, frame in _trajectories(store, dataset, rows, subject):
            frames[group].append(frame)
        every = choose_sites(dataset, None, None, "predict", pad_first=False)
        fits += _fit(store, every, rows, subject, progress)
        contexts = _contexts(store, every, rows, subject.contexts)
        models = model_steps(rows, colors, subject.step_limit, subject.marks)
        shown = [(model.name, step) for model in models for step in model.steps]
        matrix = pull(store.path, shown, [_sites_of(dataset, contexts)])
        views.append(token_view(matrix, dataset.frame(), models, contexts, subject.marks))
        progress.advance(1, name)
    groups = [
        GroupPart(
            group,
            f"{described[group]} {_where(parts)}",
            as_json(trajectory_chart(pl.concat(parts), subject.marks, subject.models), titled=False),
        )
        for group, parts in frames.items()
        if any(frame.height for frame in parts)
    ]
    analyses = [
        AnalysisPart(
            analysis.title, analysis.text, [as_json(chart) for chart in analysis.charts], analysis.tables
        )
        for analysis in kept_analyses(store, subject.models, subject.datasets, subject.marks)
    ]
    return Content(CONFIG, subject.marks, groups, fits, analyses, views)


def _trajectories(
    store: Store, dataset: Dataset, rows: Checkpoints, subject: ReportScope
) -> Iterator[tuple[str, pl.DataFrame]]:
    """(group, a model's trajectory on a dataset) of each group that has a token with a loss there, model by model.

    Memory holds the sums of one model's checkpoints, however many models there are.
    """
    selection = Selection(align=subject.align)
    sites = {group: sites_in(store, selection, dataset.name, [group]) for group in subject.groups}
    chosen = {group: of_group for group, of_group in sites.items() if len(of_group.tokens)}
    draws = Draws()
    for model in dict.fromkeys(model for model, _ in rows) if chosen else ():
        of_model = [row for row in rows if row[0] == model]
        for group, sums in context_sums(store.path, of_model, chosen).items():
            yield group, trajectories({(group, dataset.name): sums}, [group], draws=draws)


def _where(frames: Sequence[pl.DataFrame]) -> str:
    """Return a sentence with the number of a group's tokens that have a loss in each dataset."""
    counts = pl.concat(frames).group_by("dataset", maintain_order=True).agg(pl.col("tokens").max())
    return f"Tokens: {', '.join(f'{tokens:,} of {dataset}' for dataset, tokens in counts.rows())}."


def _complete(store: Store, name: str, subject: ReportScope) -> list[tuple[str, int]]:
    """(model, step) of the complete slices on a dataset, which alone can be set beside each other."""
    lines = {line.model: line for line in subject.coverage if line.dataset == name}
    models = [
        model
        for model in subject.models
        if model in lines and len(lines[model].partial) < len(lines[model].steps)
    ]
    rows = checkpoints(store.scored(models), [name], models, "all") if models else []
    return [(model, step) for model, step in rows if step not in lines[model].partial]


def _contexts(store: Store, every: Sites, rows: Checkpoints, choice: ContextChoice) -> list[int]:
    """Numbers of the contexts that the page shows of a dataset, whose sites with a loss are `every`.

    Each model counts alike for the worst: the mean of its last step's losses, of all tokens in a context.
    """
    if not choice.worst:
        return [int(number) for number in np.flatnonzero(every.dataset.lengths > 1)[: choice.count]]
    last = [(model, step) for model, step in {model: (model, step) for model, step in rows}.values()]
    sums = context_sums(store.path, last, {"": every})[""]
    means = pl.DataFrame({"context": sums.contexts, "loss": sums.sums.mean(axis=0) / sums.tokens})
    ranked = means.sort("loss", "context", descending=[True, False])
    return [int(number) for number in ranked["context"].head(choice.count)]


def _sites_of(dataset: Dataset, contexts: Sequence[int]) -> Sites:
    """The sites of some contexts of a dataset."""
    context = dataset.contexts_of(slice(None))
    members = np.flatnonzero(np.isin(context, np.asarray(contexts, dtype=np.int64)))
    return choose_sites(dataset, members, None, "predict", pad_first=False)


def as_json(chart: Chart, titled: bool = True) -> dict[str, Any]:
    """A chart as plotly's data and layout."""
    made: dict[str, Any] = json.loads(figure(chart, titled).to_json())
    return made


def _fit(
    store: Store, every: Sites, rows: Checkpoints, subject: ReportScope, progress: Progress
) -> list[FitPart]:
    """The joint PCA of one dataset's checkpoints; empty, with a word of why, where there is none."""
    name = every.dataset.name
    blocks = SliceBlocks(store.path, rows, [every], limit=_BLOCK_BYTES)
    treatment, of_rows = Treatment(), RowCentring.of([model for model, _ in rows], "all")
    try:
        check_shape(blocks, COMPONENTS)
        gram = products(blocks, of_rows, treatment)
        fitted = fit(blocks, of_rows, treatment, gram, COMPONENTS)
    except TrajstoreError as error:
        progress.say(f"No principal components of {name}: {error}")
        return []
    result = fitted.result(row_labels(rows), column_labels(every))
    shown = min(3, result.variance.height)
    models = ", ".join(dict.fromkeys(model for model, _ in rows))
    text = (
        f"{len(rows)} checkpoints of {models}; {len(every.tokens):,} tokens of {name}. "
        f"The first {f'{shown} components hold' if shown > 1 else 'component holds'} "
        f"{100 * result.variance['ratio'][:shown].sum():.3g} % of the variance."
    )
    figures = [as_json(chart) for chart in pca_charts(result, subject.marks, subject.models)]
    return [FitPart(name, text, figures, _top_tokens(store, result))]


def _top_tokens(store: Store, fit: PCAResult) -> list[ComponentTokens]:
    """By component: the tokens with the highest and lowest loadings, with a little of their context."""
    top = with_context(store, fit.top_tokens(_TOP_TOKENS).filter(pl.col("component") <= _TOP_COMPONENTS))
    top = top.select(
        *("component", "end", "dataset", "context", "position", "before"),
        pl.col("marked").alias("text"),
        *("after", "loading"),
    )
    parts = []
    for component, ratio in fit.variance.head(_TOP_COMPONENTS).select("component", "ratio").iter_rows():
        high, low = (
            top.filter(component=component, end=end).drop("component", "end").to_dicts()
            for end in ("high", "low")
        )
        parts.append(ComponentTokens(f"{component} ({100 * ratio:.3g} % of variance)", high, low))
    return parts
