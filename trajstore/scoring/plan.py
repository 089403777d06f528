"""The plan of a scoring job: the slices of a run that a store lacks, and what getting them takes.

Loads no torch and no weights. Of a name that the store knows it makes sure that it stands for the same run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trajstore.arguments.spelling import option
from trajstore.checkpoints import hub
from trajstore.checkpoints.runs import CheckpointSource, find_checkpoints
from trajstore.errors import BadDataset, BadMeasures, DamagedFile, ModelMismatch, UnknownName
from trajstore.schema import check_name
from trajstore.scoring.compatibility import check_same_run, check_same_tokens
from trajstore.scoring.options import ScoringOptions, scoring_options
from trajstore.scoring.step_order import in_order
from trajstore.store.matrix.steps import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.checkpoints.loading import Checkpoint
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.files.models import ModelFacts
    from trajstore.store.store import Store


@dataclass(frozen=True)
class Pending:
    """A checkpoint with slices to make."""

    checkpoint: Checkpoint
    datasets: tuple[str, ...]
    """Datasets that lack this step."""
    tokens: int
    """Tokens of these datasets, and of those to be scored again."""
    to_download: bool
    """True where the checkpoint is not on this disk."""
    backfill: tuple[str, ...] = ()
    """Datasets whose slices of this step are there and are to get columns."""

    @property
    def all_datasets(self) -> tuple[str, ...]:
        """Datasets to be scored on."""
        return (*self.datasets, *self.backfill)


@dataclass(frozen=True)
class Plan:
    """The work of a scoring job."""

    source: CheckpointSource
    model: str
    """The run's name in the store."""
    datasets: tuple[str, ...]
    """Datasets chosen, each once."""
    pending: tuple[Pending, ...]
    """In the order in which they are to be scored."""
    present: int
    """Slices asked for that are there already."""
    skipped_bad: tuple[Checkpoint, ...]
    """Checkpoints left out because they are known to be bad."""
    bytes_each: int | None
    """Size of the first revision to be downloaded; None where there is none, or the Hub does not say."""
    tokens_per_step: int | None
    """Training tokens of a step, exact; None where unknown."""
    steps: tuple[int, ...] = ()
    """All those that were chosen, whether or not there is something to do."""
    backfill: tuple[str, ...] = ()
    """Columns that slices which are there without them are to get."""

    @property
    def slices(self) -> int:
        """Slices to make."""
        return sum(len(pending.datasets) for pending in self.pending)

    @property
    def backfilled(self) -> int:
        """Slices that are there and are to get columns."""
        return sum(len(pending.backfill) for pending in self.pending)

    @property
    def tokens(self) -> int:
        """Tokens to run through the models."""
        return sum(pending.tokens for pending in self.pending)

    @property
    def downloads(self) -> tuple[str, ...]:
        """Revisions that are not on this disk."""
        return tuple(pending.checkpoint.revision for pending in self.pending if pending.to_download)

    @property
    def download_bytes(self) -> int | None:
        """About how much that is: the first one's size times their number; None if nothing or unknown."""
        return self.bytes_each * len(self.downloads) if self.bytes_each and self.downloads else None


def plan(
    store: Store,
    model: str,
    datasets: Sequence[str],
    options: ScoringOptions | None = None,
    **keywords: Any,
) -> Plan:
    """Return what is to be scored of `model` on `datasets`; writes nothing.

    `model` is a local folder, a Hub repository or the name of a published run, with `.STAGE` behind it for a later
    stage of training. Of `options`, which may be given as keywords, these choose what is scored: `steps`, a SPEC among
    the checkpoints that exist; `name`, by default the source's own; `tokens_per_step`, needed only for runs of no
    published suite; `order`; `shard`, the part of the steps that one of N jobs takes; `skip_known_bad`; `backfill` with
    `columns`; and `pattern`. Raises `CheckpointError`, `UnknownName`, `UnknownStep`, `BadSteps`, `BadOption`,
    `BadMeasures` for parameters without measures, `BadName`, `ModelMismatch` where the store knows the name as another
    run, and `SlicesDiffer` where it has losses of other tokens under a dataset's name.
    """
    options = scoring_options(options, keywords)
    if options.parameters and not options.measures:
        raise BadMeasures(f"{option('parameters')} goes with {option('measures', 'NAME')}.")
    chosen = [store.dataset(name) for name in dict.fromkeys(datasets)]
    if not chosen:
        raise BadDataset(
            f"No dataset to score on was named: {option('datasets', 'NAME')}; trajstore dataset list shows them."
        )
    source = find_checkpoints(model, options.pattern)
    run_name = check_name("model", source.name if options.name is None else options.name)
    where = (
        f"{source.repo} in the Hub's cache (the Hub cannot be asked)" if source.unreachable else source.repo
    )
    mine = in_order(resolve(options.steps, source.steps, where), options.order, options.shard)
    check_same_run(store, run_name, source)
    for dataset in chosen:
        check_same_tokens(store, run_name, dataset)
    per_step = _tokens_per_step(source, store.model(run_name), options.tokens_per_step)
    source = source.counted(per_step)
    by_step = {checkpoint.step: checkpoint for checkpoint in source.checkpoints}
    wanted = [by_step[step] for step in mine]
    skipped = [checkpoint for checkpoint in wanted if options.skip_known_bad and checkpoint.known_bad]
    columns = options.backfilled_columns
    left = [checkpoint for checkpoint in wanted if checkpoint not in skipped]
    pending, present = _missing(store, run_name, chosen, left, columns)
    first = next((entry.checkpoint for entry in pending if entry.to_download), None)
    ask = first is not None and not source.unreachable
    return Plan(
        source=source,
        model=run_name,
        datasets=tuple(dataset.name for dataset in chosen),
        pending=tuple(pending),
        present=present,
        skipped_bad=tuple(skipped),
        bytes_each=hub.download_bytes(source.repo, first.revision) if ask and first else None,
        tokens_per_step=per_step,
        steps=tuple(checkpoint.step for checkpoint in left),
        backfill=columns,
    )


def lacking_columns(
    store: Store, model: str, dataset: str, step: int, columns: Sequence[str]
) -> tuple[str, ...]:
    """Return those of `columns` that a slice does not hold; none where its footer cannot be read, as `check` tells."""
    if not columns:
        return ()
    try:
        kept_columns = store.slice_columns(model, dataset, step)
    except (DamagedFile, UnknownName):
        return ()
    return tuple(name for name in columns if name not in kept_columns)


def _missing(
    store: Store,
    model: str,
    datasets: Sequence[Dataset],
    checkpoints: Sequence[Checkpoint],
    columns: Sequence[str],
) -> tuple[list[Pending], int]:
    """Return the checkpoints with slices to make, and the number of slices that are there with all `columns`."""
    pending, present = [], 0
    for checkpoint in checkpoints:
        lacking = [
            dataset for dataset in datasets if not store.has_slice(model, dataset.name, checkpoint.step)
        ]
        thin = [
            dataset
            for dataset in datasets
            if dataset not in lacking
            and lacking_columns(store, model, dataset.name, checkpoint.step, columns)
        ]
        present += len(datasets) - len(lacking) - len(thin)
        if lacking or thin:
            tokens = sum(dataset.n_tokens for dataset in (*lacking, *thin))
            names, again = (tuple(dataset.name for dataset in group) for group in (lacking, thin))
            pending.append(Pending(checkpoint, names, tokens, checkpoint.present() is None, again))
    return pending, present


def _tokens_per_step(
    source: CheckpointSource, facts: ModelFacts | None, tokens_per_step: int | None
) -> int | None:
    """Training tokens of a step: as given, else as the suite or the store knows; raises `ModelMismatch`."""
    known = facts.tokens_per_step if facts is not None else None
    if known is None and source.run is not None:
        known = source.run.tokens_per_step
    if tokens_per_step is not None and known is not None and tokens_per_step != known:
        raise ModelMismatch(
            f"{source.repo} has {known:,} tokens a step, not {tokens_per_step:,}: leave out "
            f"{option('tokens_per_step')}."
        )
    return known if tokens_per_step is None else tokens_per_step
