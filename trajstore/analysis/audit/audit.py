"""Findings about a store's slices: checkpoints that are not what their step says, and mixed origins.

Takes what footers say and the summaries of a run's losses (nats), gives findings. That a finding is no error is for its
reader to say: steps 0 and 1 may well be alike. Opens no store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trajstore.analysis.audit.continuity import sudden_falls
from trajstore.analysis.audit.model_pairs import Shared, shared_losses, shared_weights
from trajstore.analysis.audit.run_anomalies import Oddities, oddities
from trajstore.errors import listed, runs

if TYPE_CHECKING:
    from trajstore.analysis.audit.step_summaries import RunSummary
    from trajstore.store.files.slices import SliceFacts

SAME_WEIGHTS = "same weights"
EQUAL_LOSSES = "equal losses"
NEARLY_EQUAL = "nearly equal losses"
TOO_LARGE = "too large"
OTHER_UNIT = "another unit"
OTHER_ORDER = "another order"
OF_THE_END = "of the end"
OUT_OF_PLACE = "out of place"
UNLIKE = "unlike its neighbours"
BREAK = "break"
KNOWN_BAD = "known bad"
MIXED = "mixed origin"
DAMAGED = "damaged"

ADVICE = {
    SAME_WEIGHTS: "compare the files at their source, and drop the slices that are not their step's",
    EQUAL_LOSSES: "compare the files at their source, and drop the slices that are not their step's",
    NEARLY_EQUAL: "compare the files at their source, and drop the slices that are not their step's",
    TOO_LARGE: "drop them (trajstore drop), and ingest them again with --unit bits or perplexity",
    OTHER_UNIT: "drop them (trajstore drop), and ingest them again with their --unit",
    OTHER_ORDER: "drop them (trajstore drop), and ingest them again with each loss at its context and position",
    OF_THE_END: "the final weights may have been saved or loaded there: score those steps from their own files",
    OUT_OF_PLACE: "score that step again from its own files, and leave it out until then",
    UNLIKE: "another run's weights or another text? Score that step again from its own files",
    BREAK: "do both parts belong to one run, with one seed and one text? If not, store them as two models",
    KNOWN_BAD: "leave those steps out: score --skip-known-bad, or trajstore drop",
    MIXED: "score them again in one way where small differences matter",
    DAMAGED: "trajstore check --deep says more",
}
"""Advice on a finding of each kind."""

_SHOWN = len("sha256:") + 12
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Anomaly:
    """Something that somebody should look at."""

    finding: str
    """Its kind, as in `ADVICE`."""
    model: str
    datasets: tuple[str, ...]
    """On which it shows; sorted."""
    steps: tuple[int, ...]
    """Steps that it is about; of a mixed origin, the steps that are not as most are."""
    what: str
    advice: str = ""
    """Advice on it, from `ADVICE`."""


def audit(
    slices: Sequence[SliceFacts],
    summaries: Mapping[tuple[str, str], RunSummary],
    known_bad: Callable[[SliceFacts], str | None],
    others: Sequence[SliceFacts] = (),
    too_large: Mapping[tuple[str, str], Mapping[int, str]] | None = None,
) -> list[Anomaly]:
    """All findings, by model and kind.

    `summaries` are by (model, dataset), of the slices that can be compared; `known_bad` says what is said of a slice's
    checkpoint elsewhere, or None. `others` are slices of further models, whose weights are compared with. `too_large`
    says by (model, dataset) and step how losses are too large to be nats. A step is named for the plainest reason only:
    a pair of steps that have the same weights is not named again for its equal losses, nor as out of place, since the
    finding itself says which of the two is.
    """
    anomalies: list[Anomaly] = []
    for model, own in _grouped(slices, lambda slice_: slice_.model).items():
        by_dataset = _grouped(own, lambda slice_: slice_.dataset)
        of_model = {name: on for (its, name), on in summaries.items() if its == model}
        large = {name: (too_large or {}).get((model, name), {}) for name in by_dataset}
        anomalies += _wrong_steps(model, by_dataset, of_model, large)
        anomalies += _known_bad(model, own, known_bad)
        anomalies += _mixed(model, by_dataset)
    anomalies += _shared(slices, others, summaries)
    return [replace(anomaly, advice=ADVICE[anomaly.finding]) for anomaly in anomalies]


def _wrong_steps(
    model: str,
    by_dataset: Mapping[str, Sequence[SliceFacts]],
    summaries: Mapping[str, RunSummary],
    large: Mapping[str, Mapping[int, str]],
) -> list[Anomaly]:
    """Checkpoints of a model that are not what their step says."""
    own = [slice_ for those in by_dataset.values() for slice_ in those]
    weights = _alike(own, lambda slice_: slice_.provenance.weights)
    losses = {
        name: [
            group for group in _alike(those, lambda slice_: slice_.loss_sha256) if not _within(group, weights)
        ]
        for name, those in by_dataset.items()
    }
    odd = {name: oddities(on, [*weights, *losses.get(name, [])]) for name, on in summaries.items()}
    odd = _without_transitions(odd, summaries)
    named = _Named(model)
    named.twins(_same_weights(model, own, weights, odd))
    named.twins(_equal(model, EQUAL_LOSSES, "that are equal to the bit", losses, odd))
    near = {name: oddities_.copies for name, oddities_ in odd.items()}
    named.twins(_equal(model, NEARLY_EQUAL, "that hardly differ", near, odd))
    named.steps(TOO_LARGE, {name: tuple(steps) for name, steps in large.items()}, _how_large(large))
    for kind, sentence, steps in (
        (OTHER_UNIT, "those of its neighbours in bits", {n: on.bits for n, on in odd.items()}),
        (OTHER_UNIT, "its neighbours' in perplexities", {n: on.perplexities for n, on in odd.items()}),
        (
            OTHER_ORDER,
            "its neighbours' in another order of tokens",
            {n: on.shuffled for n, on in odd.items()},
        ),
        (
            OF_THE_END,
            "as near to the last step's as those beside it",
            {n: on.of_the_end for n, on in odd.items()},
        ),
    ):
        named.steps(kind, steps, f"its losses are {sentence}")
    _out_of_place(named, odd)
    for step in sorted({step for on in odd.values() for step in on.unlike}):
        on = {name: (step,) for name, oddities_ in odd.items() if step in oddities_.unlike}
        named.steps(UNLIKE, on, "its losses lie off the path of its neighbours, at the same mean")
    _breaks(named, odd, summaries)
    return named.found


class _Named:
    """Findings of one model, no step of them for two reasons."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.found: list[Anomaly] = []
        self.done: set[int] = set()

    def twins(self, anomalies: Iterable[Anomaly]) -> None:
        """Take findings of steps that are alike."""
        for anomaly in anomalies:
            self.found.append(anomaly)
            self.done.update(anomaly.steps)

    def steps(self, kind: str, on: Mapping[str, Sequence[int]], what: str) -> None:
        """A finding of the steps by dataset that are not named yet, those that are the same together."""
        sets: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for name, steps in on.items():
            if left := tuple(step for step in steps if step not in self.done):
                sets[left].append(name)
        for steps, names in sets.items():
            sentence = what if len(steps) == 1 else what.replace("its ", "their ")
            self.found.append(Anomaly(kind, self.model, tuple(sorted(names)), steps, sentence))
        self.done.update(step for steps in sets for step in steps)


def _without_transitions(
    odd: Mapping[str, Oddities], summaries: Mapping[str, RunSummary]
) -> dict[str, Oddities]:
    """The same without steps off their path and breaks at which the mean loss of any dataset falls suddenly."""
    falls = [fall for summary in summaries.values() for fall in sudden_falls(summary)]

    def is_learned(step: int) -> bool:
        return any(first <= step <= last for first, last in falls)

    def kept(on: Oddities) -> Oddities:
        unlike = tuple(step for step in on.unlike if not is_learned(step))
        # Breaks begin and end a stretch by turns: one that has another cause at either end stays as it is.
        ends = (on.breaks[first : first + 2] for first in range(0, len(on.breaks), 2))
        breaks = tuple(step for pair in ends if not all(map(is_learned, pair)) for step in pair)
        return replace(on, unlike=unlike, breaks=breaks)

    return {name: kept(on) for name, on in odd.items()}


def _grouped(slices: Iterable[SliceFacts], key: Callable[[SliceFacts], str]) -> dict[str, list[SliceFacts]]:
    """Slices by a key, both in order."""
    groups: dict[str, list[SliceFacts]] = defaultdict(list)
    for slice_ in sorted(slices, key=lambda one: (one.model, one.dataset, one.step)):
        groups[key(slice_)].append(slice_)
    return dict(groups)


def _alike(slices: Iterable[SliceFacts], key: Callable[[SliceFacts], str | None]) -> list[tuple[int, ...]]:
    """Sets of two steps or more that share a value, each ascending; None is no value."""
    steps: dict[str, set[int]] = defaultdict(set)
    for slice_ in slices:
        if (value := key(slice_)) is not None:
            steps[value].add(slice_.step)
    return sorted(tuple(sorted(group)) for group in steps.values() if len(group) > 1)


def _within(group: Sequence[int], others: Iterable[Sequence[int]]) -> bool:
    """Return whether one of the other groups has all of the group's steps."""
    return any(set(group) <= set(other) for other in others)


Odd = Mapping[str, Oddities]
"""Oddities of a model's steps, by dataset."""


def _same_weights(
    model: str, slices: Sequence[SliceFacts], alike: Sequence[tuple[int, ...]], odd: Odd
) -> Iterable[Anomaly]:
    for group in alike:
        inside = [slice_ for slice_ in slices if slice_.step in group]
        weights = next(slice_.provenance.weights for slice_ in inside if slice_.provenance.weights)
        what = f"the same weights ({weights[:_SHOWN]}…) under {len(group)} steps{_which(group, odd)}"
        yield Anomaly(SAME_WEIGHTS, model, tuple(sorted({slice_.dataset for slice_ in inside})), group, what)


def _equal(
    model: str, kind: str, how: str, equal: Mapping[str, Sequence[tuple[int, ...]]], odd: Odd
) -> Iterable[Anomaly]:
    on: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for dataset, groups in equal.items():
        for group in groups:
            on[group].append(dataset)
    for group, names in on.items():
        what = f"losses {how} under {len(group)} steps{_which(group, odd)}"
        yield Anomaly(kind, model, tuple(names), group, what)


def _which(group: Sequence[int], odd: Odd) -> str:
    """Return the steps that are out of place, as far as that can be told."""
    wrong = {misplaced.step for on in odd.values() for misplaced in on.placed if misplaced.step in group}
    wrong |= {step for on in odd.values() for step in on.of_the_end if step in group}
    if not wrong:
        return ""
    return f"; {runs(sorted(wrong))} {'is' if len(wrong) == 1 else 'are'} out of place"


def _how_large(large: Mapping[str, Mapping[int, str]]) -> str:
    """Describe how the losses of the first such slice are too large."""
    first = next((reason for steps in large.values() for reason in steps.values()), "")
    return f"hardly nats: at the first, {first}"


def _out_of_place(named: _Named, odd: Odd) -> None:
    """One finding a step, with the figures of the dataset that shows it best."""
    steps = sorted({misplaced.step for those in odd.values() for misplaced in those.placed} - named.done)
    for step in steps:
        on = {
            name: misplaced
            for name, those in odd.items()
            for misplaced in those.placed
            if misplaced.step == step
        }
        clearest = min(on, key=lambda name: on[name].ratio)
        figures = on[clearest]
        what = (
            f"its losses on {clearest} are {figures.far:.2g} nats (root mean square) from those around step "
            f"{figures.like}, but {figures.near:.2g} from its neighbours'"
        )
        named.found.append(Anomaly(OUT_OF_PLACE, named.model, tuple(sorted(on)), (step,), what))
        named.done.add(step)


def _breaks(named: _Named, odd: Odd, summaries: Mapping[str, RunSummary]) -> None:
    """The stretch between two breaks, or from a single one on, with all datasets that show it."""
    on: dict[tuple[int, int | None], list[str]] = defaultdict(list)
    for name, on_dataset in odd.items():
        edges = [*on_dataset.breaks, *([None] if len(on_dataset.breaks) % 2 else [])]
        for first, after in zip(edges[::2], edges[1::2], strict=True):
            if first is not None:
                on[first, after].append(name)
    for (first, after), names in on.items():
        inside = {
            name: tuple(
                step for step in summaries[name].steps if step >= first and (after is None or step < after)
            )
            for name in names
        }
        until = "" if after is None else f" until step {after}"
        what = f"from step {first} on{until} the losses lie elsewhere, at the same mean, as another run's do"
        named.steps(BREAK, inside, what)


def _shared(
    slices: Sequence[SliceFacts],
    others: Sequence[SliceFacts],
    summaries: Mapping[tuple[str, str], RunSummary],
) -> Iterable[Anomaly]:
    """Weights and losses that models have in common, under the first of them by name."""
    same = shared_weights(slices, others)
    for (model, other), (names, pairs) in same.items():
        steps = tuple(sorted({own for own, _ in pairs}))
        theirs = sorted({step for _, step in pairs})
        what = f"the same weights as {other} at {_places(steps, theirs)}"
        yield Anomaly(SAME_WEIGHTS, model, names, steps, what)
    hashes = {(slice_.model, slice_.dataset, slice_.step): slice_.loss_sha256 for slice_ in slices}
    shared = {key: places for key, places in shared_losses(summaries).items() if key not in same}
    yield from _shared_losses(shared, hashes)


def _shared_losses(shared: Shared, hashes: Mapping[tuple[str, str, int], str]) -> Iterable[Anomaly]:
    """One finding for all models that are alike at the same steps, and not one for each two of them."""
    groups: dict[tuple[str, tuple[str, ...], tuple[int, ...], tuple[int, ...]], list[list[str]]] = {}
    for (model, other), (names, pairs) in shared.items():
        equal = all(
            hashes[model, name, own] == hashes[other, name, their] for name in names for own, their in pairs
        )
        steps = tuple(sorted({own for own, _ in pairs}))
        theirs = tuple(sorted({their for _, their in pairs}))
        alike = groups.setdefault((EQUAL_LOSSES if equal else NEARLY_EQUAL, names, steps, theirs), [])
        joined = next((group for group in alike if {model, other} & {*group} and steps == theirs), None)
        if joined is None:
            alike.append([model, other])
        else:
            joined.extend(member for member in (model, other) if member not in joined)
    for (kind, names, steps, theirs), alike in groups.items():
        how = "are equal to the bit to" if kind == EQUAL_LOSSES else "hardly differ from"
        for first, *rest in map(sorted, alike):
            what = f"losses that {how} those of {listed(rest)} at {_places(steps, theirs)}"
            yield Anomaly(kind, first, names, steps, what)


def _places(steps: Sequence[int], theirs: Sequence[int]) -> str:
    """The other model's steps, in words."""
    if list(steps) == list(theirs):
        return "the same step" if len(steps) == 1 else f"the same {len(steps)} steps"
    return f"step{'' if len(theirs) == 1 else 's'} {listed(theirs)}"


def _known_bad(
    model: str, slices: Sequence[SliceFacts], known_bad: Callable[[SliceFacts], str | None]
) -> Iterable[Anomaly]:
    steps: dict[str, list[SliceFacts]] = defaultdict(list)
    for slice_ in slices:
        if reason := known_bad(slice_):
            steps[reason].append(slice_)
    for reason, those in steps.items():
        names = tuple(sorted({slice_.dataset for slice_ in those}))
        yield Anomaly(KNOWN_BAD, model, names, tuple(sorted({slice_.step for slice_ in those})), reason)


def _mixed(model: str, by_dataset: Mapping[str, Sequence[SliceFacts]]) -> Iterable[Anomaly]:
    """Find differences in origin among the slices of a model on a dataset; those that change together are one."""
    on: dict[tuple[tuple[int, ...], str], list[str]] = defaultdict(list)
    for dataset, slices in by_dataset.items():
        origins = [_origin(slice_) for slice_ in slices]
        fields: dict[Hashable, list[str]] = defaultdict(list)
        for field in dict.fromkeys(field for origin in origins for field in origin):
            values = [origin.get(field, _UNKNOWN) for origin in origins]
            if len(set(values)) > 1:
                fields[tuple(values.index(value) for value in values)].append(field)
        for differing in fields.values():
            on[_told(slices, origins, differing)].append(dataset)
    for (steps, what), names in on.items():
        yield Anomaly(MIXED, model, tuple(names), steps, what)


def _told(
    slices: Sequence[SliceFacts], origins: Sequence[Mapping[str, str]], fields: Sequence[str]
) -> tuple[tuple[int, ...], str]:
    """(the steps that are not as most are, which values are where)."""
    values = [", ".join(f"{field} {origin.get(field, _UNKNOWN)}" for field in fields) for origin in origins]
    usual, number = Counter(values).most_common(1)[0]
    steps: dict[str, list[int]] = defaultdict(list)
    for slice_, value in zip(slices, values, strict=True):
        steps[value].append(slice_.step)
    others = [f"{value} at {runs(those)}" for value, those in steps.items() if value != usual]
    odd = tuple(sorted(step for value, those in steps.items() if value != usual for step in those))
    return odd, f"{'; '.join(others)}; {usual} at the {number} others"


def _origin(slice_: SliceFacts) -> dict[str, str]:
    """Return the part of a slice's provenance that can move losses and must not change along a trajectory."""
    origin = slice_.provenance
    fields = {
        "dtype": origin.dtype,
        "vocab": origin.vocab,
        "attention": origin.attention,
        "device": origin.device,
        **origin.versions,
    }
    return {field: value for field, value in fields.items() if value is not None}
