"""What the report shows, as data for its page: trajectories, principal components, tokens with their losses.

One pull of each dataset's losses serves all groups, the components and the tokens. Figures are plotly's, as JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from trajstore.analysis.components.pca import pca
from trajstore.analysis.trajectories import group_trajectory
from trajstore.errors import TrajstoreError
from trajstore.pipelines.token_context import with_context
from trajstore.store.matrix.context_sums import Units
from trajstore.store.matrix.matrix import Align, LossMatrix, choose_sites
from trajstore.view.charts.chart import palette
from trajstore.view.charts.plotly import CONFIG, figure
from trajstore.view.figures.pca import pca_charts
from trajstore.view.figures.trajectories import trajectory_chart
from trajstore.view.report.kept_findings import Table, kept_analyses
from trajstore.view.report.tokens import ContextChoice, TokenView, chosen_contexts, token_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.analysis.components.pca import PCAResult
    from trajstore.progress import Progress
    from trajstore.store.files.coverage import Coverage
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart, Mark

_TOP_COMPONENTS = 5
_TOP_TOKENS = 8


@dataclass(frozen=True)
class Subject:
    """What the report is about."""

    datasets: list[str]
    """Those with a slice of any of the models."""
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
    """What was fitted, in a sentence."""
    figures: list[dict[str, Any]]
    components: list[ComponentTokens]


@dataclass(frozen=True)
class AnalysisPart:
    """One kept finding."""

    title: str
    text: str
    figures: list[dict[str, Any]]
    tables: tuple[Table, ...]


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


def gather(store: Store, subject: Subject, progress: Progress) -> Content:
    """Reads and computes what the page shows. A group without a token anywhere is left out."""
    after = " Shown is the loss of the tokens that follow them." if subject.align == "after" else ""
    described = {name: store.groups.definition(name).description + after for name in subject.groups}
    colors = dict(zip(subject.models, palette(len(subject.models)), strict=True))
    trajectories: dict[str, list[pl.DataFrame]] = {name: [] for name in subject.groups}
    fits: list[FitPart] = []
    views: list[TokenView] = []
    for name in subject.datasets:
        dataset = store.dataset(name)
        tokens = dataset.frame()
        matrix = _complete(store, name, subject)
        if matrix is None:
            continue
        units = Units.of(dataset)
        for group, frames in trajectories.items():
            members = store.groups.members(group, dataset)
            sites = choose_sites(dataset, members, None, subject.align, pad_first=False)
            part = only(matrix, tokens[sites.tokens])
            if part.columns.height:
                frame = group_trajectory(part, units={name: units})
                frames.append(frame.select(pl.lit(group).alias("group"), pl.all()))
        fits += _fit(store, matrix, name, subject, progress)
        contexts = chosen_contexts(matrix, subject.contexts)
        views.append(token_view(matrix, tokens, colors, contexts, subject.step_limit, subject.marks))
        progress.advance(1, name)
    groups = [
        GroupPart(
            group,
            f"{described[group]} {_where(frames)}",
            as_json(trajectory_chart(pl.concat(frames), subject.marks, subject.models), titled=False),
        )
        for group, frames in trajectories.items()
        if any(frame.height for frame in frames)
    ]
    analyses = [
        AnalysisPart(each.title, each.text, [as_json(chart) for chart in each.charts], each.tables)
        for each in kept_analyses(store, subject.models, subject.datasets, subject.marks)
    ]
    return Content(CONFIG, subject.marks, groups, fits, analyses, views)


def _where(frames: Sequence[pl.DataFrame]) -> str:
    """How many tokens of a group have a loss in each dataset, as a sentence."""
    counts = pl.concat(frames).group_by("dataset", maintain_order=True).agg(pl.col("tokens").max())
    return f"Tokens: {', '.join(f'{tokens:,} of {dataset}' for dataset, tokens in counts.rows())}."


def _complete(store: Store, name: str, subject: Subject) -> LossMatrix | None:
    """The complete slices on a dataset, which alone can be set beside each other; None where there are none."""
    there = {each.model: each for each in subject.coverage if each.dataset == name}
    models = [
        model
        for model in subject.models
        if model in there and len(there[model].partial) < len(there[model].steps)
    ]
    if not models:
        return None
    if not any(there[model].partial for model in models):
        return store.matrix(name, models)
    matrix = store.matrix(name, models, missing="nan")
    kept = [step not in there[model].partial for model, step in matrix.rows.iter_rows()]
    return LossMatrix(matrix.values[kept], matrix.rows.filter(pl.Series(kept)), matrix.columns)


def only(matrix: LossMatrix, members: pl.DataFrame) -> LossMatrix:
    """The columns of one dataset's matrix that are among `members` (context, position), in their order."""
    numbered = matrix.columns.select("context", "position").with_row_index("column")
    chosen = numbered.join(members, on=["context", "position"], how="semi")["column"].sort().to_numpy()
    if len(chosen) == matrix.columns.height:
        return matrix
    return LossMatrix(matrix.values[:, chosen], matrix.rows, matrix.columns[chosen])


def as_json(chart: Chart, titled: bool = True) -> dict[str, Any]:
    """A chart as plotly's data and layout."""
    made: dict[str, Any] = json.loads(figure(chart, titled).to_json())
    return made


def _fit(store: Store, matrix: LossMatrix, name: str, subject: Subject, progress: Progress) -> list[FitPart]:
    """The joint PCA of one dataset's checkpoints; empty, with a word of why, where there is none."""
    try:
        fit = pca(matrix)
    except TrajstoreError as error:
        progress.say(f"No principal components of {name}: {error}")
        return []
    shown = min(3, fit.variance.height)
    models = ", ".join(matrix.rows["model"].unique(maintain_order=True))
    text = (
        f"{matrix.rows.height} checkpoints of {models}; {matrix.columns.height:,} tokens of {name}. "
        f"The first {f'{shown} components hold' if shown > 1 else 'component holds'} "
        f"{100 * fit.variance['ratio'][:shown].sum():.3g} % of the variance."
    )
    figures = [as_json(chart) for chart in pca_charts(fit, subject.marks, subject.models)]
    return [FitPart(name, text, figures, _top_tokens(store, fit))]


def _top_tokens(store: Store, fit: PCAResult) -> list[ComponentTokens]:
    """By component: the tokens with the highest and lowest loadings, with a little of their context."""
    top = with_context(store, fit.top_tokens(_TOP_TOKENS).filter(pl.col("component") <= _TOP_COMPONENTS))
    top = top.select(
        *("component", "end", "dataset", "context", "position", "before"),
        pl.col("marked").alias("text"),
        *("after", "loading"),
    )
    found = []
    for component, ratio in fit.variance.head(_TOP_COMPONENTS).select("component", "ratio").iter_rows():
        high, low = (
            top.filter(component=component, end=end).drop("component", "end").to_dicts()
            for end in ("high", "low")
        )
        found.append(ComponentTokens(f"{component} ({100 * ratio:.3g} % of variance)", high, low))
    return found
