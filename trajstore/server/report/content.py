"""Content of the report: what the page's endpoints reply for a chosen part of a store, and the losses of some contexts.

No dataset's matrix is ever held: groups are summed by context while slices are read, components go through blocks of
columns, and of the tokens only the contexts and steps that the page shows are pulled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from decimal import ROUND_CEILING, Context
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.components.gram import RowCentring, Treatment, check_shape, products
from trajstore.analysis.components.pca import COMPONENTS, fit
from trajstore.analysis.statistics.bootstrap import Draws, Interval
from trajstore.analysis.trajectories import SCHEMA, trajectories
from trajstore.arguments.choices import Align
from trajstore.errors import TrajstoreError
from trajstore.pipelines.caveats import caveats
from trajstore.pipelines.token_context import with_context
from trajstore.server.panes import components, groups
from trajstore.server.replies import encoded
from trajstore.server.report import tables
from trajstore.server.report.container import Parts
from trajstore.server.report.kept_steps import ModelSteps, model_steps
from trajstore.server.report.quantised_losses import losses_of, quantise
from trajstore.store.matrix.blocks import SliceBlocks
from trajstore.store.matrix.checkpoints import checkpoints
from trajstore.store.matrix.context_sums import context_sums
from trajstore.store.matrix.matrix import LossMatrix, Sites, choose_sites, column_labels, pull, row_labels
from trajstore.text import join_shared

if TYPE_CHECKING:
    from trajstore.progress import Progress
    from trajstore.store.files.coverage import Coverage
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Mark

Checkpoints = Sequence[tuple[str, int]]
"""(model, step) of rows."""

_BLOCK_BYTES = 128 << 20
"""Most memory of a block of columns while components are computed."""
_EXAMPLE_WIDTH = 12


@dataclass(frozen=True)
class ContextChoice:
    """Contexts of a dataset that the page holds."""

    count: int
    """At least one."""
    worst: bool = False
    """True for the contexts of highest mean loss at the models' last steps, highest first; else the first ones."""


@dataclass(frozen=True)
class ReportScope:
    """The datasets, models and groups of a report."""

    datasets: list[str]
    """Datasets with a slice of any of the models."""
    measured: list[str]
    """The same, and datasets on which the models may be measured without having losses."""
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
    step_limit: int | None
    """Most steps of a model in the token view; None for all, read from slices that lie beside the page."""


@dataclass
class Content:
    """Everything that the page reads: facts, tables by the endpoint and what it is asked, and losses by dataset."""

    facts: dict[str, Any] = field(default_factory=dict)
    error: float = 0.0
    """Largest distance of a loss as the page shows it from the store's, in nats."""
    _tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    _losses: dict[str, dict[str, Any]] = field(default_factory=dict)
    _parts: Parts = field(default_factory=Parts)

    def add_table(self, name: str, frame: pl.DataFrame, notes: Sequence[str] = ()) -> None:
        """Add the rows that an endpoint replies with."""
        place = self._parts.add(encoded(frame, "arrow"))
        self._tables[name] = {"at": place, "notes": list(notes)}

    def add_contexts(
        self,
        dataset: Dataset,
        models: Sequence[ModelSteps],
        contexts: Sequence[int],
        matrix: LossMatrix | None,
    ) -> None:
        """Add the contexts whose tokens are shown, with the losses that a matrix has of them, 16 bits a loss."""
        blocks = []
        for context in contexts:
            first, tokens = int(dataset.offsets[context]) - context, int(dataset.lengths[context]) - 1
            block: dict[str, Any] = {"context": context, "first": first, "tokens": tokens}
            if matrix is not None:
                quantised = quantise(losses_of(matrix, context))
                self.error = max(self.error, quantised.shown_error)
                block |= {
                    "low": quantised.low,
                    "unit": quantised.unit,
                    "at": self._parts.add(quantised.codes),
                }
            blocks.append(block)
        self._losses[dataset.name] = {"models": [asdict(of) for of in models], "contexts": blocks}

    @property
    def told_error(self) -> float:
        """The largest error in two digits, never below it."""
        return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(self.error))

    @property
    def slices(self) -> list[tuple[str, str, int]]:
        """(model, dataset, step) of the losses of tokens."""
        return [
            (model["name"], dataset, step)
            for dataset, facts in self._losses.items()
            for model in facts["models"]
            for step in model["steps"]
        ]

    def packed(self) -> bytes:
        """All of it as one block of bytes."""
        header = {
            "facts": self.facts,
            "error": self.told_error,
            "tables": self._tables,
            "losses": self._losses,
        }
        return self._parts.packed(header)


def gather(store: Store, subject: ReportScope, progress: Progress) -> Content:
    """Read and compute what the page shows. A group without a token anywhere is left out."""
    content = Content()
    curves: dict[str, list[pl.DataFrame]] = {name: [] for name in subject.groups}
    examples: list[pl.DataFrame] = []
    for name in subject.datasets:
        rows = _complete(store, name, subject)
        if not rows:
            continue
        dataset = store.dataset(name)
        every = choose_sites(dataset, None, None, "predict", pad_first=False)
        contexts = _contexts(store, every, rows, subject.contexts)
        sites, tokens = _groups_of(store, dataset, contexts, subject)
        for group, frame in _trajectories(store, sites, rows, dataset.name):
            curves[group].append(frame)
        examples += [_drawn(group, of_group) for group, of_group in sites.items()]
        _add_components(content, store, every, rows, progress)
        _add_tokens(content, store, tokens, rows, contexts, subject)
        progress.advance(1, name)
    _add_groups(content, store, subject, curves, examples)
    content.facts |= tables.add_store_tables(
        content.add_table, store, subject.models, subject.datasets, subject.measured, subject.marks
    )
    return content


def _groups_of(
    store: Store, dataset: Dataset, contexts: Sequence[int], subject: ReportScope
) -> tuple[dict[str, Sites], pl.DataFrame]:
    """The sites of each group that has a token with a loss in a dataset, and the groups of each token of some contexts.

    The frame has dataset, context, position, token_id, token, occurrences (of the token in the dataset), shown (what to
    show of it) and groups.
    """
    shown = np.flatnonzero(np.isin(dataset.contexts_of(slice(None)), np.asarray(contexts, dtype=np.int64)))
    sites, names = dict[str, Sites](), [list[str]() for _ in shown]
    for group in subject.groups:
        members = store.groups.members(group, dataset)
        of_group = choose_sites(dataset, members, None, subject.align, pad_first=False)
        if len(of_group.tokens):
            sites[group] = of_group
        for place in np.flatnonzero(np.isin(shown, members)):
            names[place].append(group)
    every = dataset.frame(["context", "position", "token", "text"])
    tokens = every.with_columns(pl.len().over("token").cast(pl.Int32).alias("occurrences"))[shown]
    instead = [
        of_context.get(position, text)
        for part in tokens.partition_by("context", maintain_order=True)
        for of_context in (join_shared(part["text"].to_list()),)
        for position, text in enumerate(part["text"])
    ]
    frame = tokens.rename({"token": "token_id", "text": "token"}).with_columns(
        pl.lit(dataset.name).alias("dataset"),
        pl.Series("shown", instead, pl.String),
        pl.Series("groups", [", ".join(of_token) for of_token in names], pl.String),
    )
    return sites, frame


def _trajectories(
    store: Store, sites: dict[str, Sites], rows: Checkpoints, dataset: str
) -> Iterator[tuple[str, pl.DataFrame]]:
    """(group, a model's trajectory on a dataset) of each group, model by model.

    Memory holds the sums of one model's checkpoints, however many models there are.
    """
    draws = Draws()
    for model in dict.fromkeys(model for model, _ in rows) if sites else ():
        of_model = [row for row in rows if row[0] == model]
        for group, sums in context_sums(store.path, of_model, sites).items():
            yield group, trajectories({(group, dataset): sums}, [group], draws=draws)


def _drawn(group: str, sites: Sites) -> pl.DataFrame:
    """Sites of a group drawn at random, by place."""
    count = min(groups.EXAMPLES, len(sites.tokens))
    drawn = np.sort(np.random.default_rng(0).choice(len(sites.tokens), count, replace=False))
    places = column_labels(sites).select("dataset", "context", "position")[drawn]
    return places.select(pl.lit(group).alias("group"), pl.all())


def _add_groups(
    content: Content,
    store: Store,
    subject: ReportScope,
    curves: dict[str, list[pl.DataFrame]],
    examples: Sequence[pl.DataFrame],
) -> None:
    """Add the trajectories of groups, a sentence on each, and some of their tokens."""
    after = " Shown is the loss of the tokens that follow them." if subject.align == "after" else ""
    shown = {group: pl.concat(parts) for group, parts in curves.items() if any(part.height for part in parts)}
    frame = pl.concat(shown.values()) if shown else pl.DataFrame(schema={"group": pl.String, **SCHEMA})
    content.add_table("trajectories", frame, caveats(frame, Interval())[:1])
    if examples:
        content.add_table("group-examples", with_context(store, pl.concat(examples), _EXAMPLE_WIDTH))
    content.facts["align"] = subject.align
    content.facts["groups"] = list(shown)
    content.facts["groupTexts"] = {
        group: [
            f"{store.groups.description(group)}{after} {_where(parts)}",
            *caveats(parts, Interval())[1:],
        ]
        for group, parts in shown.items()
    }


def _where(frame: pl.DataFrame) -> str:
    """Return a sentence with the number of a group's tokens that have a loss in each dataset."""
    counts = frame.group_by("dataset", maintain_order=True).agg(pl.col("tokens").max())
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


def _add_tokens(
    content: Content,
    store: Store,
    tokens: pl.DataFrame,
    rows: Checkpoints,
    contexts: Sequence[int],
    subject: ReportScope,
) -> None:
    """Add the tokens of some contexts of a dataset, and their losses at the steps that are kept."""
    if not contexts:
        return
    name = str(tokens["dataset"][0])
    dataset = store.dataset(name)
    models = model_steps(rows, subject.step_limit or len(rows), subject.marks)
    matrix = None
    if subject.step_limit is not None:
        kept = [(model.name, step) for model in models for step in model.steps]
        members = np.flatnonzero(np.isin(dataset.contexts_of(slice(None)), np.asarray(contexts)))
        matrix = pull(store.path, kept, [choose_sites(dataset, members, None, "predict", pad_first=False)])
    content.add_contexts(dataset, models, contexts, matrix)
    content.add_table(f"context/{name}", tokens.drop("dataset"))


def _add_components(
    content: Content, store: Store, every: Sites, rows: Checkpoints, progress: Progress
) -> None:
    """Add the joint PCA of one dataset's checkpoints; where there is none, say why."""
    name = every.dataset.name
    blocks = SliceBlocks(store.path, rows, [every], limit=_BLOCK_BYTES)
    treatment, of_rows = Treatment(), RowCentring.of([model for model, _ in rows], "all")
    try:
        check_shape(blocks, COMPONENTS)
        gram = products(blocks, of_rows, treatment)
        fitted = fit(blocks, of_rows, treatment, gram, COMPONENTS)
    except TrajstoreError as error:
        progress.say(f"No principal components of {name}: {error}")
        return
    result = fitted.result(row_labels(rows), column_labels(every))
    shown = min(3, result.variance.height)
    models = ", ".join(dict.fromkeys(model for model, _ in rows))
    text = (
        f"{len(rows)} checkpoints of {models}; {len(every.tokens):,} tokens of {name}. "
        f"The first {f'{shown} components hold' if shown > 1 else 'component holds'} "
        f"{100 * result.variance['ratio'][:shown].sum():.3g} % of the variance."
    )
    variance = result.variance.with_columns(zeros=pl.Series(result.zeros))
    content.add_table(f"component-scores/new/{name}", components.wide_scores(result.scores), [text])
    content.add_table(f"component-variance/new/{name}", variance)
    tokens = components.top_tokens_in_context(store, result, tables.COMPONENTS_READ)
    content.add_table(f"component-tokens/new/{name}", tokens)
