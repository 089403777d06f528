"""Shapes of tokens from a store into a store: read in blocks, fitted, kept as a finding, and summed up by group."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.shapes.model_choice import DECIDED
from trajstore.analysis.shapes.shapes import SAMPLE, Shaper
from trajstore.analysis.statistics.log_steps import LEAST_STEPS, Schedule
from trajstore.display import Brief, count, of_checkpoints
from trajstore.errors import TrajstoreError
from trajstore.pipelines.finding_facts import (
    Request,
    Result,
    facts_of_sites,
    finding_name,
    group_hashes,
    one_or_many,
    versions,
)
from trajstore.pipelines.slice_hashes import hashes_read
from trajstore.progress import SILENT, Progress, bar
from trajstore.store.files.findings import Replace
from trajstore.store.matrix.blocks import SliceBlocks
from trajstore.store.matrix.matrix import Sites, column_labels, pull
from trajstore.store.matrix.selection import (
    LeastCheckpoints,
    Selection,
    checkpoints_by_dataset,
    datasets_of,
    none_with_loss,
    sites_in,
)

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "shapes"
"""Of the findings."""
BLOCK_BYTES = 1 << 28
"""Most memory of a block of losses; what is made of it takes about as much."""


@dataclass(frozen=True)
class ShapeOptions:
    """The tokens whose shapes are asked for."""

    datasets: tuple[str, ...]
    models: tuple[str, ...] | None = None
    """Names or globs, None for all."""
    steps: str = "all"
    contexts: str | None = None
    groups: tuple[str, ...] = ()
    """The tokens of any of them; all tokens if empty."""
    align: str = "predict"
    seed: int = 0
    """Of the sample from which noise is told, and of what is simulated."""

    @classmethod
    def of(
        cls, datasets: Sequence[str], selection: Selection, groups: Sequence[str] = (), seed: int = 0
    ) -> ShapeOptions:
        """A selection on datasets, through groups if any."""
        models = None if selection.models is None else tuple(selection.models)
        names, through = (tuple(dict.fromkeys(of_kind)) for of_kind in (datasets, groups))
        return cls(names, models, selection.steps, selection.contexts, through, selection.align, seed)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> ShapeOptions:
        """From a finding's facts."""
        options = facts["asked"]
        models = None if options["models"] is None else tuple(options["models"])
        return cls(
            **{
                **options,
                "datasets": tuple(options["datasets"]),
                "models": models,
                "groups": tuple(options["groups"]),
            }
        )

    @property
    def request(self) -> Request:
        """The finding; its default name has the dataset or how many, and the groups."""
        through = [one_or_many(self.groups, "groups")] if self.groups else []
        name = finding_name([one_or_many(self.datasets, "datasets"), *through], asdict(self))
        return Request(KIND, name, {"asked": asdict(self)})


@dataclass(frozen=True, repr=False)
class ModelTokens(Brief):
    """The tokens of one model on one dataset."""

    model: str
    schedule: Schedule
    sites: Sites

    def brief(self) -> str:
        """Model, steps, dataset and number of tokens."""
        on = f"{self.sites.dataset.name}, {count(len(self.sites.tokens), 'token')}"
        return f"{of_checkpoints(self.checkpoints)}, {on}"

    @property
    def checkpoints(self) -> list[tuple[str, int]]:
        """(model, step) of the rows."""
        return [(self.model, step) for step in self.schedule.steps.tolist()]

    def some(self, numbers: np.ndarray) -> ModelTokens:
        """With the tokens of these numbers alone."""
        take = numbers if self.sites.take is None else self.sites.take[numbers]
        return ModelTokens(
            self.model, self.schedule, Sites(self.sites.dataset, self.sites.tokens[numbers], take)
        )

    def losses(self, store: Store) -> np.ndarray:
        """float32 (steps, tokens), nats; raises as `Store.matrix`."""
        return pull(store.path, self.checkpoints, [self.sites]).values

    def shaper(self, store: Store, seed: int) -> Shaper:
        """The classifier of its shapes, its noise estimated from a sample of `SAMPLE` tokens."""
        count = len(self.sites.tokens)
        drawn = np.random.default_rng(seed).choice(count, min(SAMPLE, count), replace=False)
        return Shaper(self.schedule, self.some(np.sort(drawn)).losses(store), seed)


def parts(store: Store, options: ShapeOptions, progress: Progress = SILENT) -> list[ModelTokens]:
    """Resolve a selection by dataset and model.

    What has too few checkpoints is left out and said. Raises as `Store.matrix`, and `TrajstoreError` where all have.
    """
    chosen = Selection(options.datasets, options.models, options.steps, options.contexts, options.align)  # type: ignore[arg-type]
    every = {name: sites_in(store, chosen, name, options.groups) for name in options.datasets}
    if not any(len(sites.tokens) for sites in every.values()):
        raise none_with_loss(store, chosen, options.groups or ["every_token"], list(every))
    resolved, least = [], LeastCheckpoints(LEAST_STEPS, "shapes")
    for name, rows in checkpoints_by_dataset(store, chosen).items():
        sites = every[name]
        for model in dict.fromkeys(model for model, _ in rows):
            steps = [step for name_of_row, step in rows if name_of_row == model]
            if len(sites.tokens) and least.reached(f"{model} on {name}", len(steps)):
                resolved.append(ModelTokens(model, Schedule.of(steps), sites))
    least.say(progress, bool(resolved))
    return resolved


@dataclass(frozen=True, repr=False)
class Shapes(Result):
    """The shape of each token of each model: fitted block by block as they are read or kept, and never held at once."""

    drawn_by = "trajstore.view.figures.shapes:charts_of_shapes"
    summaries = ()

    options: ShapeOptions
    parts: tuple[ModelTokens, ...]
    limit: int = field(repr=False)
    """Bytes of a block, at most."""
    progress: Progress = field(repr=False)
    _kept: list[str] = field(default_factory=list, repr=False)
    """The name of the finding, once it is kept."""
    _read: list[pl.DataFrame] = field(default_factory=list, repr=False)
    """The slices that have been read, by part."""

    def brief(self) -> str:
        """Models, steps, datasets and numbers of tokens."""
        return "; ".join(part.brief() for part in self.parts)

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of one of its tables, fitted unless they are kept already."""
        if self._kept:
            yield self.store.finding(KIND, self._kept[-1]).table(table)
        elif table == "tokens":
            yield from self._fitted()
        else:
            if not self._read:
                collections.deque(self._fitted(), maxlen=0)
            yield pl.concat(self._read)

    def _fitted(self) -> Iterator[pl.DataFrame]:
        """The rows of the tokens."""
        self._read.clear()
        with bar(self.progress, "shapes", sum(len(part.sites.tokens) for part in self.parts), "tokens"):
            for part in self.parts:
                blocks = SliceBlocks(self.store.path, part.checkpoints, [part.sites], limit=self.limit)
                yield from _frames(part, part.shaper(self.store, self.options.seed), blocks, self.progress)
                self._read.append(hashes_read(blocks))

    def tables(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """Shares and agreement, once it is kept; before, the shapes of its first tokens."""
        if self._kept:
            yield from (("shares", self.shares()), ("agreement", self.agreement()))
        else:
            yield "first tokens", self.first_tokens()

    def first_tokens(self, n: int = 10) -> pl.DataFrame:
        """The first rows of its tokens: all that a look at it fits."""
        part = self.parts[0]
        some = part.some(np.arange(min(n, len(part.sites.tokens))))
        blocks = SliceBlocks(self.store.path, some.checkpoints, [some.sites], limit=self.limit)
        return pl.concat(_frames(some, part.shaper(self.store, self.options.seed), blocks, SILENT))

    def keep(self, name: str | None = None, *, replace: Replace = False) -> str:
        """Keep it in its store as a finding, and return the finding's name; raises `FindingExists` unless `replace`."""
        self._kept.clear()
        self._kept.append(super().keep(name, replace=replace))
        return self._kept[-1]

    @property
    def kept_name(self) -> str:
        """The name of the finding with which it is kept; raises `TrajstoreError` where it is not."""
        if not self._kept:
            raise TrajstoreError("These shapes are summed up from their finding: keep them first, by .keep()")
        return self._kept[-1]

    def shares(self) -> pl.DataFrame:
        """`shares` of its groups, once it is kept."""
        return shares(self.store, self.kept_name, self.options.groups, self.options.align)

    def agreement(self) -> pl.DataFrame:
        """`agreement` of its models, once it is kept."""
        return agreement(self.store, self.kept_name)


def shapes(
    store: Store,
    selection: Selection | None = None,
    groups: str | Sequence[str] = (),
    seed: int = 0,
    progress: Progress = SILENT,
    limit: int = BLOCK_BYTES,
) -> Shapes:
    """The shape of each token of each model on datasets, by default all with losses; fitted when it is read or kept.

    Memory holds one block of at most `limit` bytes and what is made of it. Raises as `parts`.
    """
    chosen = selection or Selection()
    through = chosen.within([groups] if isinstance(groups, str) else groups)
    options = ShapeOptions.of(datasets_of(store, chosen), chosen, through, seed)
    chosen_parts = parts(store, options, progress)
    return Shapes(
        options,
        tuple(chosen_parts),
        limit,
        progress,
        store=store,
        request=options.request,
        facts=_facts(store, options, chosen_parts),
    )


def _frames(
    part: ModelTokens, shaper: Shaper, blocks: SliceBlocks, progress: Progress
) -> Iterator[pl.DataFrame]:
    """The rows of one model on one dataset, block by block."""
    where = f"{part.model} on {part.sites.dataset.name}"
    labels = column_labels(part.sites).drop("token", "text")
    for first, block in blocks:
        shapes_of_block = shaper.fit(block, lambda tokens: progress.advance(tokens, where))
        of_block = labels[first : first + shapes_of_block.height]
        yield pl.concat(
            [of_block.select(pl.lit(part.model).alias("model"), pl.all()), shapes_of_block], how="horizontal"
        )


def _facts(store: Store, options: ShapeOptions, chosen: Sequence[ModelTokens]) -> dict[str, Any]:
    """Return the facts of a finding: its inputs and method."""
    of_datasets = {part.sites.dataset.name: part.sites for part in chosen}
    steps: dict[str, dict[str, list[int]]] = {}
    for part in chosen:
        steps.setdefault(part.model, {})[part.sites.dataset.name] = part.schedule.steps.tolist()
    return {
        **options.request.facts,
        "models": list(steps),
        "steps": steps,
        "datasets": facts_of_sites(of_datasets.values()),
        "groups_sha256": group_hashes(store, options.groups),
        "decided": DECIDED,
        "sample": SAMPLE,
        "versions": versions("numpy"),
    }


def shares(store: Store, name: str, groups: Sequence[str] = (), align: str = "predict") -> pl.DataFrame:
    """The named query `shape_shares` for each group, with a column `group` before; for all tokens if there is none."""
    frames: list[pl.DataFrame] = []
    for group in groups or ["every_token"]:
        frame = store.query("shape_shares", finding=name, group=group, align=align).pl()
        frames.append(frame.select(pl.lit(group).alias("group"), pl.all()))
    return pl.concat(frames)


def agreement(store: Store, name: str) -> pl.DataFrame:
    """The named query `shape_agreement` over all models of a finding."""
    frame: pl.DataFrame = store.query("shape_agreement", finding=name).pl()
    return frame
