"""Shapes of tokens from a store into a store: read in blocks, fitted, kept as a finding, and summed up by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.shapes.model_choice import DECIDED
from trajstore.analysis.shapes.shapes import SAMPLE, Shaper
from trajstore.analysis.statistics.log_steps import LEAST_STEPS, Schedule
from trajstore.display import Brief, count, of_checkpoints
from trajstore.pipelines.finding_facts import (
    Request,
    facts_of_sites,
    finding_name,
    group_hashes,
    one_or_many,
    versions,
)
from trajstore.pipelines.matrix_inputs import hashes_read
from trajstore.pipelines.too_few_checkpoints import Enough
from trajstore.pipelines.trajectories import Selection
from trajstore.progress import SILENT, Progress
from trajstore.store.files.findings import Replace
from trajstore.store.matrix.blocks import SliceBlocks
from trajstore.store.matrix.checkpoints import checkpoints
from trajstore.store.matrix.matrix import Sites, choose_sites, column_labels, pull, require_sites

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "shapes"
"""Of the findings."""
BLOCK_BYTES = 1 << 28
"""Most memory of a block of losses; what is made of it takes about as much."""


@dataclass(frozen=True)
class Asked:
    """Which tokens' shapes are asked for."""

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
    ) -> Asked:
        """A selection on datasets, through groups if any."""
        asked = [selection.models] if isinstance(selection.models, str) else selection.models
        models = None if asked is None else tuple(asked)
        names, through = (tuple(dict.fromkeys(each)) for each in (datasets, groups))
        return cls(names, models, selection.steps, selection.contexts, through, selection.align, seed)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Asked:
        """From a finding's facts."""
        told = facts["asked"]
        models = None if told["models"] is None else tuple(told["models"])
        return cls(
            **{**told, "datasets": tuple(told["datasets"]), "models": models, "groups": tuple(told["groups"])}
        )

    @property
    def request(self) -> Request:
        """The finding; its default name has the dataset or how many, and the groups."""
        through = [one_or_many(self.groups, "groups")] if self.groups else []
        name = finding_name([one_or_many(self.datasets, "datasets"), *through], asdict(self))
        return Request(KIND, name, {"asked": asdict(self)})


@dataclass(frozen=True, repr=False)
class Part(Brief):
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

    def some(self, numbers: np.ndarray) -> Part:
        """With the tokens of these numbers alone."""
        take = numbers if self.sites.take is None else self.sites.take[numbers]
        return Part(self.model, self.schedule, Sites(self.sites.dataset, self.sites.tokens[numbers], take))

    def losses(self, store: Store) -> np.ndarray:
        """float32 (steps, tokens), nats; raises as `Store.matrix`."""
        return pull(store.path, self.checkpoints, [self.sites]).values

    def shaper(self, store: Store, seed: int) -> Shaper:
        """What tells its shapes, with its noise told from a sample of `SAMPLE` tokens."""
        count = len(self.sites.tokens)
        drawn = np.random.default_rng(seed).choice(count, min(SAMPLE, count), replace=False)
        return Shaper(self.schedule, self.some(np.sort(drawn)).losses(store), seed)


def parts(store: Store, asked: Asked, progress: Progress = SILENT) -> list[Part]:
    """What a selection comes to, by dataset and model.

    What has too few checkpoints is left out and said. Raises as `Store.matrix`, and `TrajstoreError` where all have.
    """
    models = None if asked.models is None else list(asked.models)
    scored = store.scored(models)
    every = {name: _sites(store, asked, name) for name in asked.datasets}
    require_sites(list(every.values()), asked.groups[0] if asked.groups else None)
    found, enough = [], Enough(LEAST_STEPS, "shapes")
    for name, sites in every.items():
        rows = checkpoints(scored, [name], models, asked.steps)
        for model in dict.fromkeys(model for model, _ in rows):
            steps = [step for each, step in rows if each == model]
            if len(sites.tokens) and enough.has(f"{model} on {name}", len(steps)):
                found.append(Part(model, Schedule.of(steps), sites))
    enough.say(progress, bool(found))
    return found


def _sites(store: Store, asked: Asked, name: str) -> Sites:
    dataset = store.dataset(name)
    members = [store.groups.members(group, dataset) for group in asked.groups]
    together = np.unique(np.concatenate(members)) if members else None
    return choose_sites(dataset, together, asked.contexts, asked.align, pad_first=False)  # type: ignore[arg-type]


def keep_shapes(
    store: Store,
    name: str,
    asked: Asked,
    progress: Progress = SILENT,
    *,
    replace: Replace = False,
    limit: int = BLOCK_BYTES,
) -> list[Part]:
    """Tell the shape of each token of each model, and keep them as a finding; returns what it is of.

    Memory holds one block of at most `limit` bytes and what is made of it. Raises `FindingExists` unless `replace`, and
    as `parts`; then nothing is kept.
    """
    found = parts(store, asked, progress)
    progress.start("shapes", sum(len(part.sites.tokens) for part in found), "tokens")
    try:
        with store.add_finding(KIND, name, _facts(store, asked, found), replace=replace) as writer:
            read = []
            with writer.stream("tokens") as put:
                for part in found:
                    blocks = SliceBlocks(store.path, part.checkpoints, [part.sites], limit=limit)
                    for frame in _frames(store, part, blocks, asked.seed, progress):
                        put(frame)
                    read.append(hashes_read(blocks))
            writer.add("slices", pl.concat(read))
    finally:
        progress.stop()
    return found


def _frames(
    store: Store, part: Part, blocks: SliceBlocks, seed: int, progress: Progress
) -> Iterator[pl.DataFrame]:
    """The rows of one model on one dataset, block by block."""
    shaper = part.shaper(store, seed)
    where = f"{part.model} on {part.sites.dataset.name}"
    labels = column_labels(part.sites).drop("token", "text")
    for first, block in blocks:
        told = shaper.fit(block, lambda tokens: progress.advance(tokens, where))
        of_block = labels[first : first + told.height]
        yield pl.concat(
            [of_block.select(pl.lit(part.model).alias("model"), pl.all()), told], how="horizontal"
        )


def _facts(store: Store, asked: Asked, found: Sequence[Part]) -> dict[str, Any]:
    """What a finding is made of and how."""
    of_datasets = {part.sites.dataset.name: part.sites for part in found}
    steps: dict[str, dict[str, list[int]]] = {}
    for part in found:
        steps.setdefault(part.model, {})[part.sites.dataset.name] = part.schedule.steps.tolist()
    return {
        **asked.request.facts,
        "models": list(steps),
        "steps": steps,
        "datasets": facts_of_sites(of_datasets.values()),
        "groups_sha256": group_hashes(store, asked.groups),
        "decided": DECIDED,
        "sample": SAMPLE,
        "versions": versions("numpy"),
    }


def shares(store: Store, name: str, groups: Sequence[str] = (), align: str = "predict") -> pl.DataFrame:
    """The named query `shape_shares` for each group, with a column `group` before; for all tokens if there is none."""
    asked = groups or ["every_token"]
    found: list[pl.DataFrame] = [
        store.query("shape_shares", finding=name, group=group, align=align).pl() for group in asked
    ]
    return pl.concat(
        [
            each.select(pl.lit(group).alias("group"), pl.all())
            for group, each in zip(asked, found, strict=True)
        ]
    )


def agreement(store: Store, name: str) -> pl.DataFrame:
    """The named query `shape_agreement` over all models of a finding."""
    found: pl.DataFrame = store.query("shape_agreement", finding=name).pl()
    return found
