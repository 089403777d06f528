"""Every error a user can meet: what was asked, what exists, and the command that mends it.

All derive from `TrajstoreError`; the command line prints them without a traceback and exits with 1.
Imports no layer of trajstore, so that every one can raise them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from trajstore.arguments.spelling import QueryParameter, as_given, option
from trajstore.arguments.suggestions import nearest


class TrajstoreError(Exception):
    """Anything that went wrong in a way a user can mend."""


def describe_error(error: BaseException) -> str:
    """An error as a reason in a report: its words, and its class before them where they are not trajstore's."""
    if isinstance(error, TrajstoreError):
        return str(error)
    return f"{type(error).__name__}: {shortened(str(error))}"


def shortened(text: str, limit: int = 500) -> str:
    """A text of others, such as a library's message, cut after `limit` characters."""
    return (
        text if len(text) <= limit else f"{text[:limit].rstrip()} … ({len(text) - limit:,} characters more)"
    )


def bounded(text: str, limit: int = 2000) -> str:
    """A whole message; of a longer one the middle is left out, since its end says what to do."""
    end = limit // 4
    if len(text) <= limit:
        return text
    return f"{text[: limit - end]} … ({len(text) - limit:,} characters more) … {text[-end:]}"


def listed(names: Iterable[object], limit: int = 12) -> str:
    """Names joined by commas, cut after `limit` with a count of the rest; «none» when there are none."""
    items = [str(name) for name in names]
    if not items:
        return "none"
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest} more" if rest > 0 else "")


def runs(numbers: Iterable[int], limit: int = 6) -> str:
    """Ascending numbers as ranges, «3–5, 9», cut after `limit` ranges with a count of the rest."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return listed((f"{a}–{b}" if b > a else str(a) for a, b in ranges), limit)


class BadName(TrajstoreError):
    """A name that cannot be part of a path or an identifier."""

    def __init__(self, kind: str, name: str, rule: str) -> None:
        super().__init__(f"{name!r} cannot be a {kind}{'' if kind == 'step' else ' name'}: {rule}.")


class StoreNotFound(TrajstoreError):
    """No store is at this path."""

    def __init__(self, path: object) -> None:
        super().__init__(f"There is no store at {path}. Make one with: trajstore init -s {path}")


class StoreUnusable(TrajstoreError):
    """The store exists, but cannot be used here as it is."""


class StoreTooNew(TrajstoreError):
    """The store was written by a newer trajstore."""

    def __init__(self, path: object, unknown: Sequence[str]) -> None:
        super().__init__(
            f"The store at {path} was written by a newer trajstore: it has {listed(unknown)}, "
            "which this version does not know. Install a newer trajstore: pip install -U trajstore"
        )


class StoreTooOld(TrajstoreError):
    """The store's catalog is behind this version."""

    def __init__(self, path: object, pending: Sequence[str]) -> None:
        super().__init__(
            f"The store at {path} is older than this trajstore; pending migrations: {listed(pending)}. "
            f"Bring it up to date with: trajstore migrate -s {path}"
        )


class UnknownName(TrajstoreError):
    """A model, dataset or group that the store does not have."""

    def __init__(self, kind: str, name: str, known: Sequence[str], hint: str = "") -> None:
        tail = f" {hint}" if hint else ""
        super().__init__(
            f"There is no {kind} {name!r} here; there is: {listed(known)}.{nearest(name, known)}{tail}"
        )


class ModelExists(TrajstoreError):
    """A new name of a model that is taken."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is a model {name!r} already. Nothing was renamed. Choose another name, or see what is there: "
            f"trajstore model show {name}"
        )


class RenamingUnfinished(TrajstoreError):
    """A renaming that was cut short, while another is asked for."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(
            f"The renaming of {old} to {new} is not finished, and comes before any other. Nothing was renamed. Finish "
            f"it: trajstore model rename {old} {new}"
        )


class NotMeasured(UnknownName):
    """A measure that models do not have."""

    def __init__(
        self,
        name: str,
        models: Sequence[str],
        measured: Sequence[str],
        mend: str,
        datasets: Sequence[str] | None = None,
    ) -> None:
        """`measured` are the measures that the models have."""
        on = f" on {listed(datasets)}" if datasets else ""
        TrajstoreError.__init__(
            self,
            f"There is no measure {name!r} of {listed(models)}{on} here; there is: {listed(measured)}. {mend}",
        )


class NotScored(TrajstoreError):
    """Models that have no losses on the datasets asked for."""

    def __init__(
        self, models: Sequence[str], datasets: Sequence[str], scored: Mapping[str, Collection[str]]
    ) -> None:
        """`scored` are the datasets on which each model has losses."""
        scored_on = [f"{model} on {', '.join(on)}" for model, on in scored.items() if on]
        super().__init__(
            f"There are no losses of {listed(models)} on {listed(datasets)}; there are of: "
            f"{listed(scored_on)}. Score one: trajstore score MODEL --dataset {datasets[0] if datasets else 'D'}"
        )


class NothingChosen(TrajstoreError):
    """A choice of contexts or of a group in which no token has a loss."""


class UnknownStep(TrajstoreError):
    """A step that does not exist."""

    def __init__(
        self,
        part: str,
        where: str,
        near: Sequence[int],
        hint: str = "",
        argument: str = "steps",
        *,
        among: bool = False,
        model: str = "",
    ) -> None:
        """`argument` is what names the step: by itself, or `among` others; or it was given as `model`@STEP."""
        tail = f" {hint}" if hint else ""
        value = int(part) if part.isdecimal() else part
        named = f"{option(argument)} with {part}" if among else option(argument, value)
        if model:
            named = f"{model}@{part}"
        self.part, self.near = part, near
        super().__init__(
            f"{named} matches no checkpoint of {where}. The nearest that exist: {listed(near)}.{tail}"
        )


class BadSteps(TrajstoreError):
    """A SPEC of steps that cannot be read."""

    def __init__(self, spec: str, argument: str = "steps") -> None:
        super().__init__(
            f"Cannot read {as_given(argument, spec)}. It takes all, last, log, numbers and inclusive ranges, joined "
            "by commas, as in: 0,512,1000: or log or 0:1000:100"
        )


class BadOption(TrajstoreError):
    """A value of an argument that cannot be read."""

    def __init__(self, argument: str, value: object, takes: str) -> None:
        self.argument, self.value, self.takes = argument, value, takes
        super().__init__(f"Cannot read {as_given(argument, value)}. It takes {takes}.")


class DatasetExists(TrajstoreError):
    """A dataset name that is taken by other tokens."""

    def __init__(self, name: str, have: str, new: str) -> None:
        super().__init__(
            f"The dataset {name!r} exists with other tokens ({have[:23]}…, these are {new[:23]}…); a dataset never "
            "changes. Nothing was written. Give these another name, or see what is there: "
            f"trajstore dataset show {name}"
        )


class DatasetInUse(TrajstoreError):
    """A dataset that cannot be dropped alone, since there are losses on it."""

    def __init__(self, name: str, slices: Sequence[tuple[str, str, int]]) -> None:
        models = list(dict.fromkeys(model for model, _, _ in slices))
        number = f"{len(slices):,} slice{'' if len(slices) == 1 else 's'}"
        super().__init__(
            f"There are losses on the dataset {name!r}: {number} of {listed(models)}. Nothing was removed. "
            f"To remove them as well: trajstore dataset drop {name} --losses"
        )


class BadDataset(TrajstoreError):
    """A source from which no dataset can be made."""


class TokenizerNotFound(TrajstoreError):
    """A tokenizer that cannot be loaded."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"No tokenizer could be loaded from {name!r}: {reason}. A tokenizer is a Hugging Face "
            "repository (EleutherAI/pythia-70m), a folder that holds tokenizer.json, or a folder of checkpoints "
            "(step0, checkpoint-10, …) of which one holds it."
        )


class TokenizerMismatch(TrajstoreError):
    """A model whose tokenizer is not the dataset's."""


class BadLosses(TrajstoreError):
    """Losses that cannot be right: their number, a NaN, an infinity, or below zero."""


class BadMeasures(TrajstoreError):
    """Measures that cannot be kept: a name that is not theirs, no number, or two values for one thing."""


class MeasuresExist(TrajstoreError):
    """The measures are there already; they never change unless replaced on purpose."""

    def __init__(self, what: str, dataset: str | None) -> None:
        on = "" if dataset is None else f" on {dataset}"
        super().__init__(
            f"{what}{on}: there already, and left as it was. To overwrite it on purpose, pass "
            f"{option('replace', True)}."
        )


class FindingExists(TrajstoreError):
    """A finding of this kind and name exists; it never changes unless replaced on purpose."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"There is a {kind} finding {name!r}, and it was left as it was. Give another {option('name')}, or "
            f"{option('replace')} it."
        )


class FindingsDiffer(TrajstoreError):
    """The findings of a kind have other columns than those that are to be kept."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"The {kind} findings in the store have other columns than this version of the analysis gives. Drop them "
            f"(trajstore finding list, trajstore finding drop {kind} NAME), then run it again. Nothing was changed."
        )


class SliceExists(TrajstoreError):
    """The slice is there already; slices never change unless replaced on purpose."""

    def __init__(self, model: str, dataset: str, step: int) -> None:
        super().__init__(
            f"The slice of {model} on {dataset} at step {step} exists already and was left as it is. "
            f"To overwrite it on purpose, pass {option('replace', True)}."
        )


class LossesDiffer(TrajstoreError):
    """Losses that are not those of the store at the same place."""

    def __init__(
        self,
        slice_: tuple[str, str, int],
        place: tuple[int, int],
        values: tuple[str, str],
        counts: tuple[int, int],
    ) -> None:
        """`values` are (in the store, new) at `place` (context, position); `counts` (that differ, of how many)."""
        model, dataset, step = slice_
        super().__init__(
            f"{model} on {dataset} at step {step}: at context {place[0]}, position {place[1]} the store has the loss "
            f"{values[0]}, this is {values[1]} ({counts[0]} of {counts[1]} differ). The slice was left as it is; to "
            f"overwrite it on purpose: {option('replace', True)}."
        )


class SlicesDiffer(TrajstoreError):
    """Slices that are there already and are not of a kind with those to be made."""


class LossesDisagree(TrajstoreError):
    """Losses that are not those of a slice there, although the same checkpoint was scored."""


class BadSource(TrajstoreError):
    """A file of losses that cannot be read as asked."""


class DamagedFile(TrajstoreError):
    """A file of the store that is not what was written."""

    def __init__(self, path: object, reason: str, mend: str = "") -> None:
        self.path = Path(str(path))
        self.reason = reason = shortened(reason.rstrip(".! "))
        super().__init__(
            f"{path} is damaged: {reason}. "
            + (mend or "Remove the file and score that checkpoint again: trajstore score")
        )


class MissingSlices(TrajstoreError):
    """A matrix was asked for that has holes."""

    def __init__(
        self, missing: Sequence[tuple[str, str, int]], partial: Sequence[tuple[str, str, int, str]] = ()
    ) -> None:
        """`partial` are slices that are there in part, each with what of it is missing."""
        absent = [f"{m} on {d} at step {s}" for m, d, s in missing]
        torn = [f"{m} on {d} at step {s} (without {lacking})" for m, d, s, lacking in partial]
        said = [f"Not in the store: {_slices(absent)}."] * bool(absent)
        said += [f"In the store only in part: {_slices(torn)}."] * bool(torn)
        those = f"{option('steps')} that exist" if absent else f"{option('contexts')} that are there"
        places = ", ".join(map(option, ("models", "datasets", "steps")))
        super().__init__(
            f"{' '.join(said)} Score what is missing (trajstore score), leave it out ({places}), choose "
            f"{those}, or see what {option('missing')} of this command does without it, if it has one (matrix: nan, "
            "pca: drop-columns or mean)"
        )


def _slices(named: Sequence[str]) -> str:
    """The first of some slices, and how many there are where that is not seen."""
    return f"{len(named):,} slices, {listed(named, 6)}" if len(named) > 6 else listed(named)


class QueryError(TrajstoreError):
    """A query that DuckDB refused, or that this session does not allow."""


class MissingParameter(TrajstoreError):
    """A query that was given no value for one of its parameters."""

    def __init__(self, query: str, meanings: Mapping[str, str]) -> None:
        """`meanings` are what the parameters without a value are, by name; "" where that is not known."""
        names = [f"{name} ({meaning})" if meaning else name for name, meaning in meanings.items()]
        give = " ".join(option(QueryParameter(name), "VALUE") for name in meanings)
        super().__init__(f"{query} needs a value for {listed(names)}. Give it with: {give}")


class ShellUnavailable(TrajstoreError):
    """DuckDB's command line is not there, or too old."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}. Install it with: pip install duckdb-cli")


class GroupError(TrajstoreError):
    """A group definition that cannot be used."""


class PassedOver(UserWarning):
    """Something in a store that is damaged or has no place in it, and is left out of an answer."""


class StaleGroup(UserWarning):
    """A group kept as a table that is not what would be found now."""

    def __init__(self, name: str, why: str, mend: str) -> None:
        super().__init__(
            f"The group {name!r} is stale: {why}. Sites of a dataset whose tokens have changed are left out, the "
            f"others are as they were found. {mend}"
        )


class ModelMismatch(TrajstoreError):
    """A model name that belongs to another training run."""


class CheckpointError(TrajstoreError):
    """Checkpoints that cannot be found or read."""


class NotAligned(TrajstoreError):
    """Datasets that do not hold the same items."""

    def __init__(self, difference: str) -> None:
        super().__init__(
            f"{difference} {option('align', 'item')} takes datasets of the same items, as those that dataset add makes "
            f"with {option('prompting')} zero and few from the same source, tokenizer, {option('seed')} and "
            f"{option('problems')}."
        )


class UnknownStructure(TrajstoreError):
    """A model whose blocks, attention or heads cannot be told from its modules."""


class BadAnalysis(TrajstoreError):
    """A definition of an analysis that cannot be used, or a result that is not as it says."""


class NotMeasurable(TrajstoreError):
    """A measure that a model or its contexts do not have."""


class ChainDiverged(TrajstoreError):
    """A chain of drawn weights whose loss is no finite number."""

    def __init__(self, chain: int, draw: int) -> None:
        super().__init__(
            f"Chain {chain} left the finite numbers at draw {draw}: take a smaller {option('step_size')}, or a larger "
            f"{option('gamma')}."
        )


class UnfitContext(TrajstoreError):
    """A context that the model cannot score: too short, too long, or with ids that it does not have."""


class NotCausal(TrajstoreError):
    """A model whose predictions depend on later tokens, so that it has no losses of the kind kept here."""


class DeviceError(TrajstoreError):
    """A device, number format or other setting of the forward pass that is not there."""


class ScoringStopped(TrajstoreError):
    """Scoring in a process of its own had to end: its device, the store or the slices there do not let it go on."""


class ExecutorError(TrajstoreError):
    """A cluster that cannot be used."""


class BadTarget(TrajstoreError):
    """A file that cannot be written as asked."""


class PlotError(TrajstoreError):
    """A plot that cannot be made as asked."""


class TrainingFailed(TrajstoreError):
    """A demo model whose training stopped with an error."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(
            f"Training {model} failed: {reason}. Models that were finished are kept, the others will be "
            "trained from the start by the same command: trajstore demo"
        )
