"""What is missing of a run in a store, and what getting it takes: read before anything is done.

Loads no torch and no weights, so that a dry run answers quickly. Of a name that the store knows it makes sure that it
stands for the same run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajstore.errors import BadDataset, ModelMismatch
from trajstore.schema import check_name
from trajstore.scoring import hub
from trajstore.scoring.checkpoints import Checkpoint, Source, find_checkpoints
from trajstore.scoring.identity import check_same_run
from trajstore.scoring.present import check_same_tokens
from trajstore.scoring.suites import known_run
from trajstore.store.steps import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.store.models import ModelFacts
    from trajstore.store.store import Store


@dataclass(frozen=True)
class Pending:
    """A checkpoint with slices to make."""

    checkpoint: Checkpoint
    datasets: tuple[str, ...]
    """Those that lack this step."""


@dataclass(frozen=True)
class Plan:
    """What a scoring job will do."""

    source: Source
    model: str
    """The run's name in the store."""
    datasets: tuple[str, ...]
    """Those asked for, each once."""
    pending: tuple[Pending, ...]
    """In order of step."""
    present: int
    """Slices asked for that are there already."""
    tokens: int
    """Tokens to run through the models."""
    downloads: tuple[str, ...]
    """Revisions that are not on this disk."""
    download_bytes: int | None
    """About how much that is: the first one's size times their number; None if nothing or unknown."""
    tokens_per_step: int | None
    """Training tokens of a step, exact; None where unknown."""

    @property
    def slices(self) -> int:
        """Slices to make."""
        return sum(len(pending.datasets) for pending in self.pending)


def plan(
    store: Store,
    model: str,
    datasets: Sequence[str],
    *,
    steps: str | int | Sequence[int] = "all",
    name: str | None = None,
    tokens_per_step: int | None = None,
) -> Plan:
    """What is to be scored of `model`, a local folder or a Hub repository, on `datasets`; writes nothing.

    `steps` is a SPEC among the checkpoints that exist. `name` is by default the last part of the folder or repository.
    `tokens_per_step` is needed only for runs of no published suite. Raises `CheckpointError`, `UnknownName`,
    `UnknownStep`, `BadSteps`, `BadName`, `ModelMismatch` where the store knows the name as another run, and
    `SlicesDiffer` where it has losses of other tokens under a dataset's name.
    """
    chosen = [store.dataset(each) for each in dict.fromkeys(datasets)]
    if not chosen:
        raise BadDataset(
            "No dataset to score on was named: --dataset NAME; trajstore dataset list shows them."
        )
    source = find_checkpoints(model)
    run_name = check_name("model", source.name if name is None else name)
    where = (
        f"{source.repo} in the Hub's cache (the Hub cannot be asked)" if source.unreachable else source.repo
    )
    wanted = set(resolve(steps, source.steps, where))
    check_same_run(store, run_name, source)
    for dataset in chosen:
        check_same_tokens(store, run_name, dataset)
    pending, present = [], 0
    for checkpoint in source.checkpoints:
        if checkpoint.step in wanted:
            missing = tuple(d.name for d in chosen if not store.has_slice(run_name, d.name, checkpoint.step))
            present += len(chosen) - len(missing)
            if missing:
                pending.append(Pending(checkpoint, missing))
    sizes = {dataset.name: dataset.n_tokens for dataset in chosen}
    absent = [each.checkpoint for each in pending if each.checkpoint.present() is None]
    ask = absent and not source.unreachable
    one = hub.download_bytes(source.repo, absent[0].revision) if ask else None
    return Plan(
        source=source,
        model=run_name,
        datasets=tuple(dataset.name for dataset in chosen),
        pending=tuple(pending),
        present=present,
        tokens=sum(sizes[dataset] for each in pending for dataset in each.datasets),
        downloads=tuple(checkpoint.revision for checkpoint in absent),
        download_bytes=one * len(absent) if one is not None else None,
        tokens_per_step=_tokens_per_step(source, store.model(run_name), tokens_per_step),
    )


def _tokens_per_step(source: Source, facts: ModelFacts | None, given: int | None) -> int | None:
    """Training tokens of a step: as given, else as the suite or the store knows; raises `ModelMismatch`."""
    known = facts.tokens_per_step if facts is not None else None
    suite = None if source.local else known_run(source.repo)
    if known is None and suite is not None:
        known = suite.tokens_per_step
    if given is not None and known is not None and given != known:
        raise ModelMismatch(
            f"{source.repo} has {known:,} tokens a step, not {given:,}: leave out --tokens-per-step."
        )
    return known if given is None else given
