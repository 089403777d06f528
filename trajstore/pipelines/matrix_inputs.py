"""Which losses an analysis takes from a store: its rows and columns, and the hashes by which they are known again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from trajstore.choices import Align, Missing
from trajstore.display import Brief, count, of_checkpoints, of_names
from trajstore.errors import NotScored, UnknownName
from trajstore.progress import Progress
from trajstore.store.matrix.blocks import SliceBlocks
from trajstore.store.matrix.checkpoints import checkpoints
from trajstore.store.matrix.matrix import Sites, choose_sites, require_sites

if TYPE_CHECKING:
    from trajstore.pipelines.trajectories import Selection
    from trajstore.store.store import Store


@dataclass(frozen=True)
class Asked:
    """Which losses go in, as it was asked for."""

    datasets: tuple[str, ...]
    models: tuple[str, ...] | None = None
    """Names or globs, None for all."""
    steps: str = "all"
    contexts: str | None = None
    group: str | None = None
    align: Align = "predict"

    @classmethod
    def of(cls, datasets: Sequence[str], selection: Selection, group: str | None) -> Asked:
        """A selection on datasets, through a group if any."""
        asked = [selection.models] if isinstance(selection.models, str) else selection.models
        models = None if asked is None else tuple(asked)
        names = tuple(dict.fromkeys(datasets))
        return cls(names, models, selection.steps, selection.contexts, group, selection.align)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Asked:
        """From a finding's facts."""
        told = facts["asked"]
        models = None if told["models"] is None else tuple(told["models"])
        return cls(**{**told, "datasets": tuple(told["datasets"]), "models": models})

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True, repr=False)
class Inputs(Brief):
    """The rows and columns that are meant."""

    asked: Asked
    checkpoints: list[tuple[str, int]]
    """(model, step) of the rows."""
    sites: list[Sites]
    """Of each dataset, in order of the columns."""

    def brief(self) -> str:
        """Models, steps, datasets and the number of tokens."""
        tokens = count(sum(len(each.tokens) for each in self.sites), "token")
        on = of_names((each.dataset.name for each in self.sites), "dataset")
        return ", ".join([of_checkpoints(self.checkpoints), on, tokens])

    def blocks(self, store: Store, missing: bool, progress: Progress, limit: int) -> SliceBlocks:
        """The losses, to be read block by block."""
        lacking: Missing = "nan" if missing else "error"
        return SliceBlocks(store.path, self.checkpoints, self.sites, lacking, progress, limit)


def scored_datasets(store: Store, models: Sequence[str] | None) -> tuple[str, ...]:
    """The datasets on which any of these models, by names or globs, has losses; raises `UnknownName`, `NotScored`."""
    scored = store.scored(models)
    there = {name for on in scored.values() for name in on}
    if not there:
        raise NotScored(list(scored), store.dataset_names(), scored)
    return tuple(name for name in store.dataset_names() if name in there)


def resolve(store: Store, asked: Asked) -> Inputs:
    """What a selection comes to now; raises as `Store.matrix`."""
    sites = sites_of(store, asked)
    require_sites(sites, asked.group)
    models = None if asked.models is None else list(asked.models)
    found = checkpoints(store.scored(models), asked.datasets, models, asked.steps)
    return Inputs(asked, found, sites)


def sites_of(store: Store, asked: Asked) -> list[Sites]:
    """The columns of each dataset; raises `UnknownName`, `GroupError`, `NothingChosen`."""
    sites = []
    for name in asked.datasets:
        dataset = store.dataset(name)
        members = None if asked.group is None else store.groups.members(asked.group, dataset)
        sites.append(choose_sites(dataset, members, asked.contexts, asked.align, pad_first=False))
    return sites


def hash_columns(sites: Sites) -> str:
    """`sha256:…` over the rows of tokens.parquet that are columns, as little-endian int64."""
    return f"sha256:{hashlib.sha256(sites.tokens.astype('<i8').tobytes()).hexdigest()}"


SLICES = {"model": pl.String, "step": pl.Int64, "dataset": pl.String, "loss_sha256": pl.String}
"""Columns of a table of slices and the hashes of their losses."""


def hashes_read(blocks: SliceBlocks) -> pl.DataFrame:
    """The slices that have been read, with the columns of `SLICES`."""
    found = [
        (model, step, chosen.dataset.name, blocks.loss_hashes[chosen.dataset.name, model, step])
        for chosen in blocks.sites
        for model, step in blocks.checkpoints
        if (chosen.dataset.name, model, step) in blocks.loss_hashes
    ]
    return pl.DataFrame(found, schema=SLICES, orient="row")


def hashes_now(store: Store, slices: pl.DataFrame) -> pl.DataFrame:
    """The same slices with the hashes that their footers have now; one that is not there is left out."""
    found = []
    for model, step, dataset in slices.select("model", "step", "dataset").iter_rows():
        with contextlib.suppress(UnknownName):
            found.append((model, step, dataset, store.slice_facts(model, dataset, step).loss_sha256))
    return pl.DataFrame(found, schema=SLICES, orient="row")
